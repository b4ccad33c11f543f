"""Named training recipes: one YAML file per printed row of a paper, or one of your own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from ascmodels import recipes
from ascmodels.documents import plain
from ascschemas.problems import RecipeError, UnknownName, nearest
from ascschemas.training import TrainingRecipe


def names() -> tuple[str, ...]:
    """Every recipe that ships with this package, sorted."""
    found = (f.name for f in files(__name__).iterdir() if f.name.endswith(".yaml"))
    return tuple(sorted(name.removesuffix(".yaml") for name in found))


def load(name: str) -> TrainingRecipe:
    """A recipe by its name, or by the path of a YAML file; every default is written out.

    Raises
    ------
    UnknownName
        When neither exists; the nearest names are suggested.
    RecipeError
        When the file is not a training recipe.
    """
    return recipes.resolve(recipes.validated(_values(_text(name), name), name))


def _text(name: str) -> str:
    if name in names():
        return (files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise UnknownName(
            f"There is no paper called {name!r}: {nearest(name, names())}",
            todo="Use one of these names, or the path of a YAML file of your own.",
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{name} cannot be read: {error}", todo="Check the path of the training recipe.") from error


def _values(text: str, name: str) -> dict[str, Any]:
    values = plain(text, name)
    if not isinstance(values, dict):
        raise RecipeError(f"{name} is not a mapping of keys to values.", todo="Start from a recipe that ships.")
    return values
