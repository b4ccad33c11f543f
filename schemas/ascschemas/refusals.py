"""What pydantic refuses, said in four parts."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ascschemas.problems import Difference, RecipeError, nearest

WORDS = {
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "tuple_type": "a value, or a list of them",
    "list_type": "a list",
    "model_type": "keys with their values",
    "model_attributes_type": "keys with their values, such as kind",
    "dict_type": "keys with their values",
    "string_type": "a word",
    "string_pattern_mismatch": "a word that matches {pattern}",
}
"""What pydantic says of Python's types, as one says it of YAML."""


def refusal(
    error: ValidationError,
    *,
    what: str,
    todo: str,
    known: Iterable[str] = (),
    prefix: str = "",
    unions: Collection[str] = (),
    optional: Collection[str] = (),
) -> RecipeError:
    """Turn every problem that pydantic found into one error.

    Parameters
    ----------
    error : ValidationError
        What pydantic raised.
    what, todo : str
        First and last part of the message.
    known : iterable of str
        Legal dotted paths, to suggest the nearest for an unknown one.
    prefix : str
        Put before every path.
    unions : collection of str
        Fields whose ``kind`` pydantic puts into an error's path; nobody wrote it there.
    optional : collection of str
        Paths of values that may be left out, with ``none``.
    """
    paths = list(known)
    rows = [
        Difference(
            field=path,
            expected=_expected(problem, path, paths) + ", or none" * (path in optional),
            found=_found(problem),
        )
        for problem in error.errors(include_url=False)
        for path in [_path(problem["loc"], unions, prefix)]
    ]
    return RecipeError(what, todo=todo, differences=rows)


def _path(location: tuple[int | str, ...], unions: Collection[str], prefix: str) -> str:
    kept = [str(part) for i, part in enumerate(location) if i != 1 or location[0] not in unions]
    return prefix + ".".join(kept) if kept else prefix.rstrip(".") or "as a whole"


def _expected(problem: ErrorDetails, path: str, known: list[str]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"no such key; {nearest(path, known)}" if known else "no such key"
    if problem["type"] == "missing":
        return "a value"
    if problem["type"] == "union_tag_invalid":
        return f"kind to be one of {problem['ctx']['expected_tags']}"
    if _together(problem):
        return "values that can be meant together"
    if problem["type"] in WORDS:
        return WORDS[problem["type"]].format(**problem.get("ctx", {}))
    return problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def _together(problem: ErrorDetails) -> bool:
    """Whether several values are each legal, and their combination is not."""
    return problem["type"] == "value_error" and isinstance(problem["input"], dict)


def _found(problem: ErrorDetails) -> str:
    value: object = problem["input"]
    if problem["type"] == "missing":
        return "nothing"
    if _together(problem):
        return problem["msg"].removeprefix("Value error, ")
    if value is None:
        return "none"
    if isinstance(value, dict) and "kind" in value:
        return f"kind {value['kind']}"
    if isinstance(value, dict | list | tuple):
        return "what is written there" if value else "nothing in it"
    return repr(value)
