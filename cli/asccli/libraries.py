"""``--library``: folders and URLs of stores in which the same features are looked for before they are computed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ascfeat.store.places import Place
    from ascschemas.recipe import FeatureRecipe

URL = r"[a-z][a-z0-9+]*://[^/\s{sep}]*(?::\d+)?(?:/[^\s{sep}]*)?"


def split_places(text: str, separator: str = os.pathsep) -> list[str]:
    """The folders and URLs of a list as environment variables hold them; the colons of a URL's own do not divide.

    Examples
    --------
    >>> split_places("/a/b:s3://bucket/x:http://host:8080/y:c", ":")
    ['/a/b', 's3://bucket/x', 'http://host:8080/y', 'c']
    """
    sep = re.escape(separator)
    return re.findall(rf"{URL.format(sep=sep)}|[^{sep}]+", text.strip())


class PlaceName(click.ParamType):  # type: ignore[type-arg]  # generic in some versions of click only
    """A folder or URL; a list of them in an environment variable is divided as ``PATH`` is."""

    name = "place"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """The items of a variable's value."""
        return split_places(rv)


LIBRARIES = click.option(
    "--library",
    "libraries",
    type=PlaceName(),
    multiple=True,
    envvar="ASC_LIBRARIES",
    metavar="FOLDER",
    help="Folder or URL of stores whose values are used where they are the same; may be repeated (or ASC_LIBRARIES).",
)


def find_named(shelves: Sequence[Place | str], recipe: str, dataset: str | None = None) -> list[Place]:
    """The stores of a feature recipe: those of its name in the first place that has some, else of equal parameters.

    Parameters
    ----------
    shelves : sequence of Place, path or URL
        The feature folder, then the libraries.
    dataset : str, optional
        Name of the only dataset to look for.
    """
    for count, shelf in enumerate(shelves):
        found = _of_name(shelf, recipe, dataset, must=not count)
        if found:
            return found
    return [p for p in _of_equal_parameters(shelves, recipe) if dataset in (None, p.parent.name)]


def _of_name(shelf: Place | str, recipe: str, dataset: str | None, *, must: bool = False) -> list[Place]:
    """Stores by name in one place; a web server need not list them where the dataset is known."""
    from ascfeat.store import find_stores, store_path
    from ascschemas.problems import StoreError

    try:
        place = store_path(shelf, dataset, recipe) if dataset else None
        if place is not None and place.exists("zarr.json"):
            return [place]
        return [p for p in find_stores(shelf, recipe) if dataset in (None, p.parent.name)]
    except (StoreError, OSError):
        if must:
            raise
        return []  # a library that is down, or lists nothing, is done without


def _of_equal_parameters(shelves: Sequence[Place | str], recipe: str) -> Iterator[Place]:
    """Sealed stores by another name of what a recipe of the package computes; it knows no others by their names."""
    from ascfeat.recipes import load_recipe, names
    from ascfeat.store import find_stores
    from ascschemas.problems import StoreError

    if recipe not in names():
        return
    wanted = load_recipe(recipe)
    for shelf in shelves:
        with suppress(StoreError, OSError):  # as above
            yield from (p for p in find_stores(shelf) if _holds(p, wanted))


def _holds(place: Place, wanted: FeatureRecipe) -> bool:
    """Whether a sealed store holds what a recipe computes, cut as it says; one that is not whole does not."""
    from ascfeat.store import Store
    from ascschemas.problems import StoreError

    try:
        store = Store(place)
    except StoreError:
        return False
    recipe = store.header.recipe
    alike = (recipe.fingerprint, recipe.patches) == (wanted.fingerprint, wanted.patches)
    return alike and store.seal is not None
