"""Named feature recipes, and the reading of anybody's own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ascfeat.dsp.backends import NONE
from ascfeat.recipes.document import plain, read_document
from ascfeat.representations import representation
from ascschemas.base import Frozen, Parameters
from ascschemas.dataset import AudioFormat
from ascschemas.problems import Difference, RecipeError, UnknownName, nearest
from ascschemas.recipe import Decode, FeatureRecipe, Storage
from ascschemas.refusals import refusal

BANK: Final = 1 << 24
"""Most bands times samples of a transform: eight times the largest of a paper."""


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
        where = f"recipe {name_or_path}"
        said = plain(files(__name__).joinpath(f"{name_or_path}.yaml").read_text("utf-8"), where)
    elif _is_file(name_or_path):
        where, said = str(Path(name_or_path)), read_document(Path(name_or_path))
    else:
        shown = name_or_path if len(name_or_path) <= 200 else f"{name_or_path[:200]}…"
        raise UnknownName(
            f"There is no recipe {shown!r}, by name or as a file: {nearest(shown, names())}",
            todo="List the recipes with `ascfeat recipes`, or give the path of a YAML file.",
        )
    return complete(_validated(said, where), where)


def complete(recipe: FeatureRecipe, where: str) -> FeatureRecipe:
    """The recipe with its representation's defaults written out, refused where its numbers contradict each other."""
    kind = representation(recipe.representation)
    _refuse_bank(recipe, where)
    computes = kind.backends != (NONE,)
    if computes and recipe.decode.sample_rate != "native":  # with a native rate, the dataset decides, and `plan` checks
        seconds = 10.0 if recipe.decode.seconds == "native" else recipe.decode.seconds
        rate = recipe.decode.sample_rate
        kind.layout(AudioFormat(sample_rate=rate, channels=1, frames=max(1, round(seconds * rate))))
    parameters = Parameters.model_validate(kind.model_dump(mode="json"))
    return recipe.model_copy(update={"representation": parameters})


def _refuse_bank(recipe: FeatureRecipe, where: str) -> None:
    """Refuse a filter bank that fills memory before it is made: its matrix has a row a band and a column a bin."""
    asked = recipe.representation.values()
    bands, length = asked.get("n_mels"), asked.get("n_fft")
    if isinstance(bands, int) and isinstance(length, int) and bands * length > BANK:
        raise RecipeError(
            f"{where} asks for a filter bank that is too large.",
            differences=[
                Difference(field="n_mels x n_fft", expected=f"at most {BANK}", found=f"{bands} x {length}"),
            ],
            todo="Use fewer bands, or a shorter transform.",
        )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a name that is too long, a folder without permission
        return False


def _validated(said: Any, where: str) -> FeatureRecipe:
    try:
        return FeatureRecipe.model_validate(said)
    except ValidationError as error:
        raise refusal(
            error,
            what=f"{where} is not a feature recipe.",
            todo="Correct these keys; `ascfeat recipes show logmel256` prints a whole recipe.",
            known=_keys(),
        ) from error


def _keys() -> list[str]:
    """Every key of a recipe that is not a representation's own, dotted."""
    slots: dict[str, type[Frozen]] = {"decode": Decode, "storage": Storage}
    return [*FeatureRecipe.model_fields, *(f"{slot}.{key}" for slot, cls in slots.items() for key in cls.model_fields)]
