"""What changed since a store was made: recordings by their content, clips, labels and splits by the tables."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from pydantic import ValidationError

from ascfeat.datasets.tree import Tree
from ascfeat.digests import Digests, Stamp, stamp
from ascfeat.store import Store
from ascfeat.store.places import Folder, PlaceError
from ascfeat.store.table import PROPERTIES
from ascfeat.work import ordered
from ascschemas.dataset import Manifest
from ascschemas.problems import AudioError, Difference, StoreError
from ascschemas.store import ClipRecord, UnitRecord

T = TypeVar("T")

READ_AT_START = 4 << 30
"""Bytes of recordings that a start reads at most where only their dates speak for them: half a minute or so."""
COARSE_SECONDS = 2.0
"""Dates of files are as coarse as that on some file systems."""
AT_ONCE = 8192
"""Clips compared together: their dates are asked in threads, their digests in a few questions."""


@dataclass(frozen=True)
class Recordings:
    """What the recordings of a store's clips are now."""

    changed: frozenset[str] = frozenset()
    """Clips whose recording is not the one that was read: another, or there again."""
    gone: frozenset[str] = frozenset()
    """Clips whose recording was read and is not there now: their values stay, for all that is left of it is here."""
    unlike: int = 0
    """Clips that have a recording by the ledger, and another now."""
    compared: int = 0
    """Clips that have a recording by the ledger."""
    trusted: int = 0
    """Recordings that are older than what was computed from them, and of their size; their content was not compared."""


@dataclass(frozen=True)
class Changes:
    """What differs between a store and the dataset as it is now; all empty where nothing does."""

    added: tuple[str, ...] = ()
    """Clips that the store lacks."""
    removed: tuple[str, ...] = ()
    """Clips that only the store has."""
    replaced: tuple[str, ...] = ()
    """Clips of both whose recordings are others."""
    facts: tuple[Difference, ...] = ()
    """What the dataset says otherwise of clips of both: labels, devices, places, sides of splits; how many of each."""
    storage: tuple[Difference, ...] = ()
    """How values are to be kept otherwise."""
    software: tuple[Difference, ...] = ()
    """What would compute values now, where some are to be computed and all have to be."""

    def __bool__(self) -> bool:
        return any((self.added, self.removed, self.replaced, self.facts, self.storage, self.software))

    def lines(self) -> Iterator[str]:
        """What changed, for a person: a line a kind of change."""
        for name, clips in (("added", self.added), ("removed", self.removed), ("replaced", self.replaced)):
            if clips:
                first = ", ".join(clips[:3]) + (", …" if len(clips) > 3 else "")
                yield f"{_count(len(clips), 'recording')} {name}: {first}"
        for d in (*self.facts, *self.storage, *self.software):
            yield f"{d.field}: {d.found} in the store, {d.expected} now"


def recordings(
    tree: Tree,
    store: Store,
    digests: Digests,
    *,
    among: Container[str] | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    budget: int = READ_AT_START,
    dated: bool = True,
) -> Recordings:
    """Compare the recordings of the clips that a store has done with those that they were made from.

    A content whose digest is known for the file as it is costs no reading. Of the others those are read that changed
    since their unit was written; and of the rest, which their dates speak for, as much as ``budget`` allows, in an
    order of their names' digests. What was read is known the next time, so that a few starts know all.

    Parameters
    ----------
    among : container of str, optional
        Clips to compare; all where absent.
    progress : callable
        Given the recordings that were read, and how many will be.
    dated : bool
        Whether the dates of the store's files may be those of its extraction; a copy's are not. A server only knows
        when a file came to it, so its dates never count.
    """
    threads = threads or min(16, 4 * (os.cpu_count() or 1))
    changed, gone, unknown, compared, back = set[str](), set[str](), list[_Unknown](), 0, set[str]()
    for batch in _batches(done(store, among), AT_ONCE):
        other, missing, asked = _compared(tree, batch, digests, threads)
        changed |= other
        gone |= missing
        unknown += asked
        compared += sum(record.source is not None for _, _, record in batch)
        back |= {clip for _, clip, record in batch if record.source is None}
    read = _to_read(store, unknown, budget) if dated and isinstance(store.place, Folder) else unknown
    contents = hashed(tree, [u.clip for u in read], digests, threads=threads, progress=lambda n: progress(n, len(read)))
    changed |= {u.clip for u, found in zip(read, contents, strict=True) if found != u.source}
    digests.flush()
    trusted = len(unknown) - len(read)
    return Recordings(frozenset(changed), frozenset(gone), len(changed - back), compared=compared, trusted=trusted)


@dataclass(frozen=True)
class _Unknown:
    """A recording whose content is known by its dates only."""

    clip: str
    position: int
    source: str | None
    size: int
    changed_ns: int


Found = tuple[int, str, ClipRecord]
"""Position, id and record of a clip."""


def done(store: Store, among: Container[str] | None = None) -> Iterator[Found]:
    """Position, id and record of each clip whose unit is done; a damaged record is none.

    Parameters
    ----------
    among : container of str, optional
        Clips to name; all where absent.
    """
    ids = store.ids
    for unit in range(store.header.units):
        record = recorded(store, unit)
        for position, clip in enumerate(record.clips if record else (), unit * store.header.clips_per_unit):
            if among is None or ids[position] in among:
                yield position, ids[position], clip


def recorded(store: Store, unit: int) -> UnitRecord | None:
    """The ledger's record of a unit; None where it is not done, or the record is damaged."""
    try:
        return store.unit_record(unit)
    except PlaceError:  # of a server that is down nothing is known
        raise
    except (StoreError, ValidationError):
        return None


def _compared(
    tree: Tree, batch: Sequence[Found], digests: Digests, threads: int
) -> tuple[set[str], set[str], list[_Unknown]]:
    """Of some clips, those whose recording is another, is gone, and of which only reading it would tell."""
    now = list(stamps(tree, [clip for _, clip, _ in batch], threads=threads))
    there = [(at, *done) for at, done in zip(now, batch, strict=True) if at is not None]
    known = digests.known([at for at, *_ in there])
    gone = {clip for at, (_, clip, r) in zip(now, batch, strict=True) if at is None and r.source is not None}
    other, unknown = set[str](), list[_Unknown]()
    for (at, position, clip, record), found in zip(there, known, strict=True):
        if (record.source is not None and at.size != record.source_bytes) or found not in (None, record.source):
            other.add(clip)
        elif found is None:
            unknown.append(_Unknown(clip, position, record.source, at.size, at.changed_ns))
    return other, gone, unknown


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _to_read(store: Store, unknown: Sequence[_Unknown], budget: int) -> list[_Unknown]:
    """Recordings to be read: those that their dates do not speak for, and as many of the others as allowed."""
    written = lru_cache(maxsize=None)(lambda unit: store.written(unit * store.header.clips_per_unit))
    must, may = list[_Unknown](), list[_Unknown]()
    for u in unknown:
        since = written(u.position // store.header.clips_per_unit)
        (must if u.source is None or u.changed_ns / 1e9 + COARSE_SECONDS > since else may).append(u)
    may.sort(key=lambda u: hashlib.sha256(u.clip.encode()).digest())
    spent = itertools.accumulate(u.size for u in may)
    return must + [u for u, total in zip(may, spent, strict=True) if total <= budget]


def properties(store: Store) -> dict[str, Sequence[str]]:
    """What a store says of each clip, by name of the property, in store order."""
    columns = (store.labels, store.devices, store.cities, store.locations, store.segments)
    return dict(zip(PROPERTIES, columns, strict=True))


def facts(store: Store, manifest: Manifest) -> Iterator[Difference]:
    """What the dataset says otherwise than a store of the clips of both, by property: how many, and the first."""
    said = {c.id: c for c in manifest.clips}
    both = [i for i, clip in enumerate(store.ids) if clip in said]
    for name, values in properties(store).items():
        yield from _moved(f"{name} of", ((store.ids[i], getattr(said[store.ids[i]], name), values[i]) for i in both))
    now, then = (", ".join(names) or "none" for names in ([s.name for s in manifest.splits], store.header.splits))
    if now != then:
        yield Difference(field="splits", expected=now, found=then)
    for split in manifest.splits:
        if split.name in store.header.splits:
            side = dict(zip((c.id for c in manifest.clips), manifest.sides(split), strict=True))
            sides = store.sides(split.name)
            yield from _moved(f"side in {split.name} of", ((store.ids[i], side[store.ids[i]], sides[i]) for i in both))
    of_both = {store.ids[i] for i in both}
    if [store.ids[i] for i in both] != [c.id for c in manifest.clips if c.id in of_both]:
        yield Difference(field="order of the clips", expected="the list's", found="another")


def hashed(
    tree: Tree,
    clips: Sequence[str],
    digests: Digests,
    *,
    threads: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[str | None]:
    """Read some recordings through and yield the SHA-256 of each; None where one cannot be read.

    At most ``4 * threads`` recordings are in memory at any time.
    """

    def one(clip: str) -> str | None:
        try:
            return digests.read(tree, clip)[1]
        except AudioError:
            return None

    for done, found in enumerate(ordered(one, clips, threads=threads), start=1):
        progress(done)
        yield found


def stamps(tree: Tree, clips: Sequence[str], *, threads: int) -> Iterator[Stamp | None]:
    """The stamp of each recording, in order: a question of half a millisecond each on a network, asked in threads."""
    yield from ordered(lambda clip: stamp(tree, clip), clips, threads=threads)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _moved(name: str, told: Iterable[tuple[str, str, str]]) -> Iterator[Difference]:
    other = [(clip, expected, str(found)) for clip, expected, found in told if expected != found]
    for clip, expected, found in other[:1]:
        field = f"{name} {_count(len(other), 'clip')}, first {clip}"
        yield Difference(field=field, expected=expected or "none", found=found or "none")
