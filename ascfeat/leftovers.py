"""What can go from a library of stores: leftovers of killed writers, older states, and what a person calls too old."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ascfeat.lock import exclusive, lock_name
from ascfeat.reuse import BEFORE, has_leftovers, settle
from ascfeat.store import Store, clip_table, table_digest
from ascfeat.store.metadata import COPY, ROOT, copy_mark
from ascfeat.store.places import PARTIAL, Folder, Place
from ascschemas.dataset import Manifest
from ascschemas.problems import StoreError

Kind = Literal["partial", "before", "lock", "unfinished", "copy", "superseded"]

HIDDEN = re.compile(
    rf"^\.{{1,2}}(?P<store>[^.].*\.zarr)\.(?P<rest>{BEFORE}(-\d+)?|lock|{COPY}|((lock|{COPY})\.)?[^.]+{re.escape(PARTIAL)})$"
)
"""Names of what lies hidden beside a store."""


YOUNG_SECONDS = 60.0
"""How long a lock's mark may take from its first byte to its place."""


@dataclass(frozen=True)
class Leftover:
    """Something that can go."""

    kind: Kind
    store: Place
    """The store that it belongs to, there or not: its lock is held while it goes."""
    names: tuple[str, ...]
    """What goes, beside the store."""
    bytes: int
    why: str

    def __str__(self) -> str:
        return f"{self.kind:<10}  {', '.join(str(self.store.parent / name) for name in self.names)}"


@dataclass(frozen=True)
class Survey:
    """A library looked through."""

    leftovers: tuple[Leftover, ...]
    busy: tuple[str, ...]
    """Stores that somebody writes; nothing of them is named."""

    @property
    def bytes(self) -> int:
        """Size of everything that can go."""
        return sum(found.bytes for found in self.leftovers)


def survey(library: Place, *, older_than: float | None = None, manifest: Manifest | None = None) -> Survey:
    """Look through a library for what can go; nothing is written but the marks of locks that are there.

    Parameters
    ----------
    library : Place
        Folder of stores.
    older_than : float, optional
        Seconds. Stores and copies that are not finished and were not written to for so long are named, too.
    manifest : Manifest, optional
        A dataset as it is now. A sealed store is named only with it, and only where another sealed store here holds
        the same features of the same recordings, and is up to date while this one is not.
    """
    found: list[Leftover] = []
    busy = []
    sealed = _sealed(library) if manifest else []
    for place in _stores(library):
        if _is_busy(place):
            busy.append(str(place))
            continue
        found += _of(place, older_than)
        found += _superseded(place, sealed, manifest) if manifest else ()
    return Survey(tuple(found), tuple(busy))


def remove(leftover: Leftover, *, older_than: float | None = None) -> bool:
    """Remove a leftover, if it still is one once nobody can write its store any more; whether it was removed.

    Raises
    ------
    StoreError
        When somebody writes the store by now.
    """
    place = leftover.store
    with exclusive(place) as held:
        if leftover.kind != "superseded" and leftover.names not in [f.names for f in _of(place, older_than)]:
            return False
        held.check()
        if leftover.kind == "before":
            settle(place)
        else:
            for name in leftover.names:
                _clear(place.parent, name)
        if not place.exists(ROOT) and not has_leftovers(place):
            place.parent.remove(lock_name(place))  # last: who waits for it makes a new one
    return True


def _stores(library: Place) -> Iterator[Place]:
    """Every store of a library, and every one that something hidden belongs to; sorted."""
    for dataset in library.folders():
        folder = library / dataset
        names = {n for n in _entries(folder) if n.endswith(".zarr") and not n.startswith(".")}
        hidden = (HIDDEN.match(n) for n in _entries(folder))
        yield from (folder / name for name in sorted(names | {h["store"] for h in hidden if h}))


def _of(place: Place, older_than: float | None) -> Iterator[Leftover]:
    """Leftovers of one store that nobody writes."""
    hidden = [(n, m["rest"]) for n in _entries(place.parent) if (m := HIDDEN.match(n)) and m["store"] == place.name]
    rests = [rest for _, rest in hidden]
    marks = [copy_mark(place)] if COPY in rests and place.exists(ROOT) else []  # killed after the last file of a copy
    unborn = [n for n, rest in hidden if rest.endswith(PARTIAL) and not _is_young(place.parent, n)]
    partial = tuple(sorted(unborn + _unpublished(place) + marks))
    if partial:
        yield _leftover("partial", place, partial, "left by a writer that was killed")
    store = _store(place)
    before = tuple(sorted(n for n, rest in hidden if rest.startswith(BEFORE)))
    if before and store is not None and store.seal is not None:
        yield _leftover("before", place, before, "an older state; the new one is sealed")
    if store is None and not before and not place.exists(ROOT) and "lock" in rests and COPY not in rests:
        yield _leftover("lock", place, (lock_name(place),), "there is no such store, and nobody holds it")
    if older_than is not None and store is not None and store.seal is None and not before:
        idle = time.time() - max((place.modified(key) for key in place.files()), default=time.time())
        if idle > older_than:
            why = f"not finished, and not written to for {_days(idle)}"
            yield _leftover("unfinished", place, (place.name,), why)
    if older_than is not None and COPY in rests and not place.exists(ROOT):
        mark = copy_mark(place)
        idle = time.time() - max(place.parent.modified(mark), *(place.modified(key) for key in place.files()), 0)
        if idle > older_than:
            why = f"a copy that is not finished, and not written to for {_days(idle)}"
            yield _leftover("copy", place, (place.name, mark), why)


def _superseded(place: Place, sealed: Sequence[Store], manifest: Manifest) -> Iterator[Leftover]:
    """A sealed store, where another one here has all of its recordings and is the dataset as it is now."""
    old = next((s for s in sealed if s.place == place), None)
    if old is None or old.header.dataset != manifest.dataset or _is_current(old, manifest):
        return
    for new in sealed:
        alike = all(
            getattr(old.header, n) == getattr(new.header, n) for n in ("recipe_fingerprint", "audio", "encoding")
        )
        if alike and _is_current(new, manifest) and _sources(old).items() <= _sources(new).items():
            why = f"its dataset has changed, and {new.place} holds all of it as it is now"
            yield _leftover("superseded", place, (place.name,), why)
            return


def _is_current(store: Store, manifest: Manifest) -> bool:
    now = (manifest.fingerprint, table_digest(clip_table(manifest)))
    return (store.header.manifest, store.header.table) == now


def _sources(store: Store) -> dict[str, str | None]:
    return {clip: r.source if r else None for clip, r in zip(store.ids, store.records(), strict=True)}


def _sealed(library: Place) -> list[Store]:
    found = (_store(place) for place in _stores(library))
    return [s for s in found if s is not None and s.seal is not None]


def _store(place: Place) -> Store | None:
    try:
        return Store(place)
    except (StoreError, OSError):
        return None


def _is_busy(place: Place) -> bool:
    """Whether somebody holds a store's lock; where there is no lock, nobody does."""
    if not place.parent.exists(lock_name(place)):
        return False
    try:
        with exclusive(place):
            return False
    except StoreError:
        return True


def _entries(folder: Place) -> list[str]:
    """Names of what lies directly in a folder, hidden ones and unpublished ones included."""
    if isinstance(folder, Folder):
        return sorted(p.name for p in folder.path.iterdir()) if folder.path.is_dir() else []
    return sorted({key.split("/", 1)[0] for key in folder.files()})


def _is_young(beside: Place, name: str) -> bool:
    """Whether somebody may be about to publish it: who waits for a lock writes its own mark without holding one."""
    if not isinstance(beside, Folder) or not name.startswith(".."):
        return False
    with suppress(OSError):
        return time.time() - (beside.path / name).stat().st_mtime < YOUNG_SECONDS
    return True


def _unpublished(place: Place) -> list[str]:
    """Files inside a store that a killed writer never published, by their paths beside it."""
    if not isinstance(place, Folder) or not place.path.is_dir():
        return []
    return [p.relative_to(place.path.parent).as_posix() for p in place.path.rglob(f"*{PARTIAL}")]


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.0f} days"


def _leftover(kind: Kind, place: Place, names: tuple[str, ...], why: str) -> Leftover:
    return Leftover(kind, place, names, sum(_size(place.parent, name) for name in names), why)


def _size(beside: Place, name: str) -> int:
    if isinstance(beside, Folder):
        path = beside.path / name
        files = [path] if path.is_file() else path.rglob("*")
        return sum(_bytes(p) for p in files)
    if beside.exists(name):
        return beside.size(name)
    below = beside / name
    return sum(below.size(key) for key in below.files())


def _bytes(path: Path) -> int:
    with suppress(OSError):  # gone meanwhile
        return path.stat().st_size if path.is_file() else 0
    return 0


def _clear(beside: Place, name: str) -> None:
    """Remove a file, or everything below a name."""
    if isinstance(beside, Folder) and (beside.path / name).is_file():
        (beside.path / name).unlink(missing_ok=True)
    elif not isinstance(beside, Folder) and beside.exists(name):
        beside.remove(name)
    else:
        (beside / name).clear()
