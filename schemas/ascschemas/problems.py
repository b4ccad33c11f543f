"""Errors in four parts: what is wrong, both values, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from ascschemas.base import Frozen


class Difference(Frozen):
    """One field that holds another value than it should."""

    field: str
    """Dotted path of the field."""
    expected: str
    """The value that was asked for."""
    found: str
    """The value that is there."""


class AscError(Exception):
    """A problem that a person can act on; every error the toolkit raises on purpose is one of these.

    Parameters
    ----------
    what : str
        One sentence: what is wrong, and where (a path, a clip, a field).
    todo : str
        One sentence: what to do about it.
    differences : sequence of Difference
        The fields with both values, when values disagree.
    """

    def __init__(self, what: str, *, todo: str, differences: Sequence[Difference] = ()) -> None:
        self.what = what
        self.todo = todo
        self.differences = tuple(differences)
        super().__init__(self.text())

    def text(self) -> str:
        """The whole message, one part a line."""
        width = max((len(d.field) for d in self.differences), default=0)
        rows = [f"  {d.field:<{width}}  expected {d.expected}  found {d.found}" for d in self.differences]
        return "\n".join([self.what, *rows, self.todo])


class RecipeError(AscError):
    """A recipe, training recipe or parameter that cannot be meant."""


class UnknownName(AscError):
    """A name that no built-in and no plug-in answers to."""


class DatasetError(AscError):
    """A dataset folder that cannot be read as one."""


class AudioError(AscError):
    """A recording that cannot be used; ``reason`` is one of the doctor's finding kinds."""

    def __init__(self, reason: str, what: str, *, todo: str, differences: Sequence[Difference] = ()) -> None:
        self.reason = reason
        super().__init__(what, todo=todo, differences=differences)

    def detail(self, clip: str) -> str:
        """The reason in a sentence, with both values, as a store keeps it beside the clip's name."""
        values = "; ".join(f"{d.field}: expected {d.expected}, found {d.found}" for d in self.differences)
        return values or self.what.removeprefix(f"{clip} ")


class TagsError(AscError):
    """Tags that cannot be read, or do not fit the clips that they are for."""


class StoreError(AscError):
    """A store that is missing, unfinished, damaged or in use."""


class StoreMismatch(StoreError):
    """A store that was made from something else than what is asked for."""


class SpaceError(AscError):
    """A disk that cannot hold what is planned."""


class RunError(AscError):
    """A training run that cannot start, go on or be read."""


class ProcessError(RunError):
    """What one process of several that train together has met, the others not: it says so itself."""


def differences(expected: Any, found: Any, prefix: str = "") -> tuple[Difference, ...]:
    """List the leaves in which two JSON-like values differ, as dotted paths.

    Examples
    --------
    >>> [d.field for d in differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})]
    ['a.b']
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = [*expected, *(k for k in found if k not in expected)]
        return tuple(
            d for k in keys for d in differences(expected.get(k), found.get(k), f"{prefix}.{k}" if prefix else str(k))
        )
    return () if expected == found else (Difference(field=prefix, expected=_word(expected), found=_word(found)),)


LISTED = 20
"""Names that are listed where none is near."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A half-sentence that suggests the nearest known names, or lists some when none is near.

    Examples
    --------
    >>> nearest("logmel265", ["logmel256", "cqt"])
    'did you mean logmel256?'
    """
    names = sorted(known)
    alike = [known for known in names if known.casefold() == name.casefold()]
    close = alike or difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(names[:LISTED]) or 'none'}{', …' if len(names) > LISTED else '.'}"


def _word(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
