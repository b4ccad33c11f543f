"""Named feature recipes, and the reading of anybody's own."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ascfeat.representations import problem_lines, representation
from ascschemas.base import Parameters
from ascschemas.dataset import AudioFormat
from ascschemas.problems import RecipeError, UnknownName, nearest
from ascschemas.recipe import Decode, FeatureRecipe


def names() -> tuple[str, ...]:
    """Names of the recipes that come with the package, sorted."""
    return tuple(sorted(p.name.removesuffix(".yaml") for p in files(__name__).iterdir() if p.name.endswith(".yaml")))


def load_recipe(name_or_path: str) -> FeatureRecipe:
    """Read a recipe by its name, or from a YAML file; every default is written out and every number checked.

    Raises
    ------
    UnknownName
        When there is no such recipe and no such file.
    RecipeError
        When the file is not YAML, or holds something that cannot be meant; every problem is listed.

    Examples
    --------
    >>> load_recipe("logmel256").representation.values()["n_mels"]
    256
    """
    if name_or_path in names():
        text, where = files(__name__).joinpath(f"{name_or_path}.yaml").read_text("utf-8"), f"recipe {name_or_path}"
    elif (path := Path(name_or_path)).is_file():
        text, where = path.read_text("utf-8", errors="replace"), str(path)
    else:
        raise UnknownName(
            f"There is no recipe {name_or_path!r}, by name or as a file: {nearest(name_or_path, names())}",
            todo="List the recipes with `ascfeat recipes`, or give the path of a YAML file.",
        )
    return complete(_parse(text, where), where)


def complete(recipe: FeatureRecipe, where: str) -> FeatureRecipe:
    """The recipe with its representation's defaults written out, refused where its numbers contradict each other."""
    kind = representation(recipe.representation)
    if recipe.decode.sample_rate != "native":  # with a native rate, the dataset decides, and `plan` checks
        seconds = 10.0 if recipe.decode.seconds == "native" else recipe.decode.seconds
        rate = recipe.decode.sample_rate
        kind.layout(AudioFormat(sample_rate=rate, channels=1, frames=max(1, round(seconds * rate))))
    parameters = Parameters.model_validate(kind.model_dump(mode="json"))
    return recipe.model_copy(update={"representation": parameters})


def _parse(text: str, where: str) -> FeatureRecipe:
    try:
        return FeatureRecipe.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise RecipeError(f"{where} is not YAML: {error}", todo="Correct the file.") from error
    except ValidationError as error:
        hints = "".join(f"\n  {hint}" for hint in _misspelt(error))
        raise RecipeError(
            f"{where} is not a feature recipe:\n{problem_lines(error)}{hints}",
            todo="Correct these keys; `ascfeat recipes show logmel256` prints a whole recipe.",
        ) from error


def _misspelt(error: ValidationError) -> Iterator[str]:
    known = [*FeatureRecipe.model_fields, *Decode.model_fields]
    for problem in error.errors():
        key: Any = problem["loc"][-1] if problem["loc"] else ""
        if problem["type"] == "extra_forbidden" and (close := difflib.get_close_matches(str(key), known, n=1)):
            yield f"{key}: did you mean {close[0]}?"
