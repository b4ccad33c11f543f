"""Values that are there already: an older state of a store, or a store of another library, asked clip by clip."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from ascfeat.store import Store
from ascfeat.store.encoding import number_digest
from ascfeat.store.metadata import ROOT
from ascfeat.store.places import Folder, Place, sync
from ascschemas.problems import StoreError
from ascschemas.store import ClipRecord, Encoding, StoreHeader

OfClip = tuple[ClipRecord, npt.NDArray[Any] | None]
"""What became of a clip, and its values, or its numbers as they are stored, where it has some."""

BEFORE = "before"
"""Ending of the hidden place beside a store where its older state waits until the new one is sealed."""
KEPT_UNITS = 64
"""Ledger records kept in memory: clips are asked in the order of a list that is nearly the same."""


@dataclass(frozen=True)
class Source:
    """A store that holds values which a new one would compute."""

    place: Place
    unlike: frozenset[str] = frozenset()
    """Clips that are not to be taken from it: their recordings are others now."""
    records: Mapping[str, tuple[int, ClipRecord]] | None = None
    """Positions and records of the only clips to be taken, where the store's own ledger will have forgotten them."""


class Reuse:
    """Clips that need not be computed, from the first of several stores that has them.

    It can be pickled; each process opens the stores when it is first asked. Nothing is taken on trust: values whose
    digest is not the one in their ledger, or that do not read, are computed again.

    Parameters
    ----------
    header : StoreHeader
        Of the store to be filled.
    sources : sequence of Source
        Only stores of the same recipe, audio format, backend and software: :func:`fits` tells.
    whole : bool
        Whether every clip must come from them: they were made by other software than is here, whose values would be
        out of place among theirs.
    """

    def __init__(self, header: StoreHeader, sources: Sequence[Source], *, whole: bool = False) -> None:
        self.header, self.whole = header, whole
        self.sources = tuple(sources)
        self._lock = threading.Lock()
        self._opened: list[_Open] | None = None

    def __reduce__(self) -> tuple[Callable[..., Reuse], tuple[StoreHeader, tuple[Source, ...]]]:
        return partial(Reuse, whole=self.whole), (self.header, self.sources)

    def __bool__(self) -> bool:
        return bool(self.sources)

    def values(self, clip_id: str, position: int) -> OfClip | None:
        """What became of a clip, or None where it must be computed.

        Returns
        -------
        record, values
            Values are float32, and the record names no digest, where the new store encodes them by itself. Where both
            stores keep the same rounded numbers, these are returned, with the record that was written with them.

        Raises
        ------
        StoreError
            When the clip must come from these stores, and does not read there.
        """
        found = self._first(clip_id)
        if found is None and self.whole:
            names = ", ".join(str(s.place) for s in self.sources)
            raise StoreError(
                f"{clip_id} does not read from {names}, and other software is installed than what made it.",
                todo=f"Remove {names} and run the same command again: every clip is then computed.",
            )
        return found

    def _first(self, clip_id: str) -> OfClip | None:
        for source in self._sources():
            found = source.find(clip_id)
            if found is not None and found.excluded and not _other_reason(found, source.store.header, self.header):
                return found, None
            if found is not None and not found.excluded:
                taken = source.take(clip_id, found, self.header.encoding)
                if taken is not None:
                    return taken
        return None

    def _sources(self) -> list[_Open]:
        with self._lock:
            if self._opened is None:
                self._opened = [o for s in self.sources if (o := _open(s)) is not None]
            return self._opened


def fits(old: StoreHeader, new: StoreHeader) -> bool:
    """Whether values of a store are those that would be computed for another: all that decides them is equal."""
    same = all(
        getattr(old, name) == getattr(new, name) for name in ("recipe_fingerprint", "audio", "backend", "software")
    )
    return same and old.layout.shape == new.layout.shape and holds(old.encoding, new.encoding)


def holds(old: Encoding, new: Encoding) -> bool:
    """Whether numbers of one encoding give those of another: they are the same, or exact."""
    return old.tolerance is None or _numbers(old) == _numbers(new)


def before_places(place: Place) -> Iterator[Place]:
    """Where older states of a store wait, newest last; there are several where a refresh was itself interrupted."""
    yield from (at for at in _beside(place) if at.exists(ROOT))


def has_leftovers(place: Place) -> bool:
    """Whether older states of a store are there, or what is left of their removal."""
    return any(True for _ in _beside(place))


def set_aside(place: Place, *, still_ours: Callable[[], None] = lambda: None) -> Place:
    """Move a store to a hidden place beside it, for the one who holds its lock; it is there whole, or not at all.

    A folder is renamed. On an object store it is copied, its root last, and then removed: whatever interrupts that,
    one whole copy is there.
    """
    to = _before(place, 1 + sum(1 for _ in _beside(place)))
    if isinstance(place, Folder) and isinstance(to, Folder):
        place.path.rename(to.path)
        sync(to.path.parent)
        return to
    for key in sorted(place.files(), key=lambda k: (k == ROOT, k)):
        still_ours()
        to.write(key, [place.read(key)])
    still_ours()
    place.clear()
    return to


def settle(place: Place, *, still_ours: Callable[[], None] = lambda: None) -> None:
    """Remove the older states of a store that is sealed, for the one who holds its lock, the newest first.

    Each loses its root first, so that what an interruption leaves of it is no store, and is removed the next time.
    """
    for at in reversed([*_beside(place)]):
        still_ours()
        at.remove(ROOT)
        if isinstance(at, Folder):
            shutil.rmtree(at.path)
        else:
            at.clear()


def _beside(place: Place) -> Iterator[Place]:
    """The hidden places where something is, in the order in which they were made; they are removed from the last."""
    for count in range(1, 1000):
        at = _before(place, count)
        if not (at.path.exists() if isinstance(at, Folder) else any(True for _ in at.files())):
            return
        yield at


def _before(place: Place, count: int) -> Place:
    return place.parent / f".{place.name}.{BEFORE}{'' if count == 1 else f'-{count}'}"


def _numbers(how: Encoding) -> tuple[object, ...]:
    return how.dtype, how.scale, how.offset, how.missing


def _other_reason(record: ClipRecord, old: StoreHeader, new: StoreHeader) -> bool:
    """Whether a clip was excluded by how it was kept, which is otherwise now."""
    return record.excluded == "imprecise" and _numbers(old.encoding) != _numbers(new.encoding)


def _open(source: Source) -> _Open | None:
    try:
        store = Store(source.place)
        return _Open(source, store, {clip: i for i, clip in enumerate(store.ids)})
    except StoreError:  # gone or damaged since the job was planned: its clips are computed
        return None


@dataclass
class _Open:
    """A source with its store open."""

    source: Source
    store: Store
    positions: Mapping[str, int]
    units: dict[int, tuple[ClipRecord, ...]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, clip: str) -> ClipRecord | None:
        """The ledger's record of a clip that may be taken."""
        if clip in self.source.unlike:
            return None
        if self.source.records is not None:
            found = self.source.records.get(clip)
            return found[1] if found and self.positions.get(clip) == found[0] else None
        position = self.positions.get(clip)
        if position is None:
            return None
        unit, row = divmod(position, self.store.header.clips_per_unit)
        clips = self._unit(unit)
        return clips[row] if row < len(clips) else None

    def take(self, clip: str, record: ClipRecord, how: Encoding) -> OfClip | None:
        """A clip's record and values, if these are what the ledger has the digest of."""
        own = self.store.header.encoding
        numbers = np.empty((1, *self.store.layout.shape), own.dtype)
        try:
            self.store.read([self.positions[clip]], out=numbers)
            if number_digest(numbers[0]) != record.values:
                return None
            if own.tolerance is not None:
                return record, numbers[0]
            values = numbers if own.plain else self.store.read([self.positions[clip]])
        except (StoreError, OSError):
            return None
        return record.model_copy(update={"values": None, "error": None}), values[0]

    def _unit(self, unit: int) -> tuple[ClipRecord, ...]:
        with self.lock:
            if unit not in self.units:
                while len(self.units) >= KEPT_UNITS:
                    self.units.pop(next(iter(self.units)))
                self.units[unit] = self._record(unit)
            return self.units[unit]

    def _record(self, unit: int) -> tuple[ClipRecord, ...]:
        try:
            record = self.store.unit_record(unit)
        except (StoreError, ValidationError, OSError):
            return ()
        return record.clips if record else ()
