"""Named training recipes: one YAML file per printed row of a paper, or one of your own.

A file may say ``base: NAME`` and then only what differs from that recipe; claims are never taken over.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ascmodels import recipes
from ascmodels.documents import plain
from ascschemas.problems import RecipeError, UnknownName, nearest
from ascschemas.training import WHOLE, TrainingRecipe, leaves

SUFFIXES = (".yaml", ".yml")


def names() -> tuple[str, ...]:
    """Every recipe that ships with this package, sorted."""
    return tuple(sorted(_shipped()))


def by_paper() -> dict[str, tuple[str, ...]]:
    """The names of every paper's recipes, sorted; those of no paper, this project's own, under an empty one."""
    found: dict[str, list[str]] = {}
    for name, file in sorted(_shipped().items()):
        folder = str(file).replace("\\", "/").split("/")[-2]
        found.setdefault("" if folder == __name__.rpartition(".")[2] else folder, []).append(name)
    return {paper: tuple(names) for paper, names in sorted(found.items())}


def load(name: str) -> TrainingRecipe:
    """A recipe by its name, or by the path of a YAML file; every default is written out.

    Raises
    ------
    UnknownName
        When neither exists; the nearest names are suggested.
    RecipeError
        When the file is not a training recipe.
    """
    return recipes.resolve(recipes.validated(values(name), name))


def values(name: str) -> dict[str, Any]:
    """What a recipe's file says, with what it takes from its base.

    Raises
    ------
    UnknownName, RecipeError
        As :func:`load`; and when a file is, in the end, its own base.
    """
    files_of, own = [name], _values(_text(name), name)
    while "base" in own:
        base = _beside(files_of[-1], str(own.pop("base")))
        if base in files_of:
            raise RecipeError(f"{name} is its own base: {' -> '.join([*files_of, base])}.", todo="Write one out whole.")
        files_of.append(base)
        below = _values(_text(base), base)
        own = _over(_still_meant(below, own), _owned(own, below, base))
    return own


def _owned(own: dict[str, Any], below: dict[str, Any], base: str) -> dict[str, Any]:
    """A file that says of each value that it changes who says so: nobody, where it names no source."""
    said = own.get("sources") or {}
    if not isinstance(said, dict):
        return own
    there, here = (dict(leaves({k: v for k, v in whole.items() if k not in recipes.SAID})) for whole in (below, own))
    changed = [path for path, value in here.items() if path in there and there[path] != value]
    unsaid = {path: f"changed from {base}" for path in changed if not recipes.source_of(path, said)}
    return own | {"sources": unsaid | said} if unsaid else own


def _still_meant(below: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A base without its claims, and without sources of values that another ``kind`` does not have."""
    sources = below.get("sources", {})
    if isinstance(sources, dict):  # what is none is refused as what it is, when all is laid together
        sources = {path: said for path, said in sources.items() if not _is_gone(str(path), below, own)}
    return {key: value for key, value in below.items() if key != "claims"} | {"sources": sources}


def _is_gone(path: str, below: dict[str, Any], own: dict[str, Any]) -> bool:
    """Whether a base's value is of a kind that was changed, and the new one is not said to have it."""
    slot, _, inner = path.partition(".")
    there, here = below.get(slot), own.get(slot)
    if not (inner and isinstance(there, dict) and isinstance(here, dict)):
        return False
    return here.get("kind", there.get("kind")) != there.get("kind") and inner.partition(".")[0] not in here


def _beside(file: str, base: str) -> str:
    """A base that is a file lies where the file that names it says, from there."""
    both_files = Path(file).suffix in SUFFIXES and Path(base).suffix in SUFFIXES
    return str(Path(file).parent / base) if both_files else base


def _over(below: dict[str, Any], own: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """One mapping laid over another; of another ``kind``, nothing below is left."""
    if "kind" in own and own["kind"] != below.get("kind"):
        return own
    laid = dict(below)
    for key, value in own.items():
        under, path = below.get(key), f"{prefix}{key}"
        both = isinstance(value, dict) and isinstance(under, dict) and path not in WHOLE
        laid[key] = _over(dict(under or {}), value, f"{path}.") if both else value
    return laid


def _shipped() -> dict[str, Traversable]:
    """Every file that ships, in this folder or in a paper's own, by its name."""
    here = [*files(__name__).iterdir()]
    found = [f for place in here for f in (place.iterdir() if place.is_dir() else [place])]
    return {f.name.removesuffix(".yaml"): f for f in found if f.name.endswith(".yaml")}


def _text(name: str) -> str:
    shipped = _shipped()
    if name in shipped:
        return shipped[name].read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix not in SUFFIXES:
        raise UnknownName(
            f"There is no paper called {name!r}: {nearest(name, [*shipped])}",
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
