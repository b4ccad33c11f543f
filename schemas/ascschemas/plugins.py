"""Plug-ins by entry point: built-ins and strangers are found the same way, and a name has one owner."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ascschemas.problems import AscError, Difference, UnknownName, nearest

GROUPS = ("ascfeat.datasets", "ascfeat.representations", "ascfeat.taggers", "ascmodels.families", "ascmodels.trainers")
"""The entry-point tables a package may add to."""


class BrokenPlugin(AscError, ImportError):
    """A plug-in that is registered and cannot be imported."""


def names(group: str) -> tuple[str, ...]:
    """Every name registered in an entry-point table, sorted."""
    return tuple(sorted(_table(group)))


def load(group: str, name: str) -> Any:
    """Return the object registered under a name.

    Raises
    ------
    UnknownName
        When nobody registers the name; the nearest names are suggested.
    BrokenPlugin
        When what is registered cannot be imported; the package is named.
    AscError
        When two packages claim one name; both are named.
    """
    table = _table(group)
    if name not in table:
        raise UnknownName(
            f"Nothing called {name!r} is registered in {group}: {nearest(name, table)}",
            todo="Use one of the names above, or install the package that provides it.",
        )
    try:
        return table[name].load()
    except Exception as error:  # whatever a stranger's module raises
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BrokenPlugin(
            f"The plug-in {name!r} of {group} cannot be imported.",
            differences=[Difference(field=name, expected=_owner(table[name]), found=said)],
            todo="Install the package that provides it again, with all it needs, or uninstall it.",
        ) from error


def _table(group: str) -> dict[str, EntryPoint]:
    table: dict[str, EntryPoint] = {}
    for point in _registered(entry_points, group, _installed()):
        other = table.setdefault(point.name, point)
        if other.value != point.value:
            raise AscError(
                f"Two packages claim the name {point.name!r} in {group}.",
                differences=[Difference(field=point.name, expected=_owner(other), found=_owner(point))],
                todo="Uninstall one of them, or ask its author to rename the entry point.",
            )
    return table


@lru_cache(maxsize=64)
def _registered(ask: Callable[..., Iterable[EntryPoint]], group: str, installed: object) -> tuple[EntryPoint, ...]:
    """What packages register; every package that is installed is looked at, so it is kept while these stay the same."""
    return tuple(ask(group=group))


def _installed() -> tuple[tuple[str, int], ...]:
    """Where packages are looked for, and when something was last installed there or removed."""
    return tuple((path, _changed(path)) for path in sys.path)


def _changed(path: str) -> int:
    try:
        return os.stat(path or ".").st_mtime_ns  # noqa: PTH116  # asked for each plug-in: a Path takes twice as long
    except OSError:
        return 0


def _owner(point: EntryPoint) -> str:
    return f"{point.value} of {point.dist.name if point.dist else 'an unknown package'}"
