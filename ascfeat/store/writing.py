"""Writing a feature store: unit after unit, each published when it is on disk, and the seal at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ascfeat.store import chunks
from ascfeat.store.chunks import Damaged, Missing
from ascfeat.store.creating import root_document
from ascfeat.store.encoding import decode, missing, number_digest, rounded
from ascfeat.store.metadata import LEDGER, ROOT, SPARE
from ascfeat.store.places import Piece, Place, open_place
from ascfeat.store.reading import HEADER, SEAL, Statistics, Store, Values, root_of, table_names, unit_rows
from ascschemas.base import canonical_json
from ascschemas.certificate import Certificate
from ascschemas.layout import Layout
from ascschemas.problems import AudioError, Difference, StoreError
from ascschemas.store import ClipRecord, Seal, StoreHeader, UnitRecord


@dataclass(frozen=True)
class Row:
    """One clip of a unit, ready to be written; :func:`row` makes it."""

    record: ClipRecord
    """What is known of it, with the digest of its numbers."""
    chunk: tuple[Piece, bytes]
    """Its numbers as they will lie on disk, and their checksum."""
    mean: npt.NDArray[np.float64]
    """Of shape ``layout.band_shape``, as is the variance."""
    variance: npt.NDArray[np.float64]


class Writer(Store):
    """A store that this process may write; get one inside ``lock.exclusive(place)``.

    Parameters
    ----------
    place : Place
        The store.
    sweep : bool
        Whether to remove what a killed writer left behind first. Workers that write units for the one who holds the
        lock must not: they would sweep each other's files.
    still_ours : callable
        Called before anything is published; it raises when the lock was lost.
    """

    def __init__(
        self, place: Place | Path | str, *, sweep: bool = True, still_ours: Callable[[], None] = lambda: None
    ) -> None:
        place = open_place(place)
        if sweep:
            place.sweep()
        super().__init__(place)
        self._still_ours = still_ours

    def reopen(self, units: Sequence[int]) -> None:
        """Forget units, so that they are pending again; the seal goes first."""
        if units:
            self.unseal()
        for unit in units:
            self._still_ours()
            self.place.remove(self.header.chunk(LEDGER, unit))

    def unseal(self) -> None:
        """Take the seal away, so that the store is one to be finished."""
        if self.seal is not None:
            self._still_ours()
            self._publish({HEADER: self._attributes[HEADER]}, sealed=False)
            self.seal = None
            self.__dict__.pop("usable", None)

    def write(self, unit: int, clips: Sequence[Row]) -> None:
        """Store a unit's values, then publish its record.

        Parameters
        ----------
        unit : int
            Number of the unit.
        clips : sequence of Row
            Its clips, in order. Every chunk is written, also one that holds NaN only: what is not there is then always
            an accident.
        """
        slots = self.header.clips_per_unit
        self._refuse_another()
        self.place.write(self.header.chunk("features", unit), chunks.shard([c.chunk for c in clips], slots))
        for name, rows in {"mean": [c.mean for c in clips], "variance": [c.variance for c in clips]}.items():
            block = np.full((slots, *self.layout.band_shape), np.nan)
            block[: len(rows)] = rows
            self.place.write(self.header.chunk(name, unit), chunks.chunk(block))
        record = UnitRecord(unit=unit, clips=tuple(c.record for c in clips))
        self._refuse_another()
        self.place.write(self.header.chunk(LEDGER, unit), chunks.text_chunk(canonical_json(record)))

    def finish(self, certify: Callable[[Store], Certificate | None] = lambda store: None, *, threads: int = 1) -> Seal:
        """Check that every unit is in the ledger and on the disk as it was written, and seal the store.

        Parameters
        ----------
        certify : callable
            Makes the certificate that the seal holds, from this store, once it is known to be whole.
        threads : int
            Units that are checked at once.

        Raises
        ------
        StoreError
            When a unit is not done or one of its chunks does not match its checksum (it is pending again), or when no
            clip is usable.
        """
        with ThreadPoolExecutor(threads) as pool:
            torn = [u for u, whole in enumerate(pool.map(self._verified, range(self.header.units))) if not whole]
        if torn:
            self.reopen(torn)
            raise StoreError(
                f"{self.place}: {len(torn)} of {self.header.units} units do not read back as they were written.",
                todo="Check the disk, then run the same command again: it recomputes exactly these units.",
            )
        usable, facts = self._tally()
        if not usable.any():
            raise StoreError(
                f"{self.place} cannot be sealed: none of its {self.header.clips} recordings could be used.",
                todo="Run `ascfeat check` on the dataset to see why.",
            )
        seal = facts.model_copy(update={"certificate": certify(self)})
        self._still_ours()
        self.place.write(self.header.chunk("usable"), chunks.chunk(usable))
        self._publish({HEADER: self._attributes[HEADER], SEAL: seal.model_dump(mode="json")}, sealed=True)
        self.seal = seal
        self.__dict__.pop("usable", None)
        return seal

    def _refuse_another(self) -> None:
        """Refuse to write into another store than was opened: the one who gave a worker its unit may be gone."""
        self._still_ours()
        there = root_of(self.place)["attributes"]
        if there.get(HEADER) != self._attributes[HEADER] or SEAL in there:
            raise StoreError(
                f"{self.place} is another store by now, or finished: this unit is not its own.",
                todo="Nothing need be done: somebody else has taken over the work.",
            )

    def _tally(self) -> tuple[npt.NDArray[np.bool_], Seal]:
        """Which clips hold values, and what the seal says of all; one pass over the ledger, a unit at a time."""
        usable, digest = np.zeros(self.header.clips, bool), self._header_digest()
        reasons: Counter[str] = Counter()
        worst: float | None = None
        for unit in range(self.header.units):
            text = self._record_text(unit)
            digest.update(text.encode())
            clips = UnitRecord.model_validate_json(text).clips
            usable[slice(*unit_rows(self.header, unit))] = [not c.excluded for c in clips]
            reasons.update(c.excluded for c in clips if c.excluded)
            off = [c.error for c in clips if c.error is not None]
            worst = max(worst or 0.0, *off) if off else worst
        excluded = dict(sorted(reasons.items()))
        return usable, Seal(digest=digest.hexdigest(), usable=int(usable.sum()), excluded=excluded, error=worst)

    def _publish(self, attributes: dict[str, object], *, sealed: bool) -> None:
        """Write the root anew, and its copy; sealed, with the metadata of everything below."""
        metadata = self._metadata() if sealed else None
        root = root_document(attributes, metadata)
        for key in (SPARE, ROOT) if sealed else (ROOT, SPARE):
            self.place.write(key, [root])
        self._version = self._root_version()

    def _metadata(self) -> dict[str, object]:
        """Documents of the groups and arrays of the store, by path."""
        return {name: json.loads(self.place.read(f"{name}/zarr.json")) for name in node_names(self.header)}

    def _verified(self, unit: int) -> bool:
        """Whether a unit is in the ledger, and every chunk of it is there and matches its checksum."""
        try:
            self._refuse_torn(unit)
            for name in ("mean", "variance"):
                chunks.content(self.place.read(self.header.chunk(name, unit)))
            record = self.unit_record(unit)
        except (FileNotFoundError, EOFError, Damaged, StoreError):
            return False
        return record is not None

    def _refuse_torn(self, unit: int) -> None:
        """Read every chunk of a shard, one after the other through memory that a cache holds, and check it."""
        key, slots = self.header.chunk("features", unit), self.header.clips_per_unit
        index = chunks.index_of(self.place.tail(key, chunks.index_size(slots)), slots)
        places = index[: len(range(*unit_rows(self.header, unit)))].tolist()
        if any(start == chunks.ABSENT for start, _ in places):
            raise Missing(f"{key} lacks a chunk")
        own = np.empty(max(size for _, size in places), np.uint8)
        read = self.place.spans(key, [(start, start + size) for start, size in places], [own] * len(places))
        for (_, size), _ in zip(places, read, strict=True):
            chunks.content(own[:size])


def node_names(header: StoreHeader) -> list[str]:
    """Paths of every group and array below the root."""
    axes = [a.name for a in header.layout.axes]
    return sorted({"features", "mean", "variance", "usable", "ledger", LEDGER, *axes, *table_names(header)})


def row(record: ClipRecord, values: Values | None, header: StoreHeader, *, clip: str = "a clip") -> Row:
    """One clip, ready to be written: its numbers, their digest and statistics; a clip without values is missing.

    Values that the store's precision does not hold exclude the clip, with reason ``imprecise``. Where the record names
    the digest of its rounded numbers already, ``values`` are these, from a store of the same encoding.

    Raises
    ------
    StoreError
        When the values are not what the layout says: a mistake of the representation.
    """
    layout, how = header.layout, header.encoding
    if values is not None and record.values is not None and how.tolerance is not None:
        return _again(record, values, header)
    if values is not None:
        _as_planned(values, layout)
        try:
            numbers, values, error = rounded(values, how, layout, clip)
            record = record.model_copy(update={"values": number_digest(numbers), "error": error})
        except AudioError as error:
            record, values = record.model_copy(update={"excluded": error.reason, "detail": error.detail(clip)}), None
    if values is None:
        values, numbers = np.full(layout.shape, np.nan, np.float32), missing(layout.shape, how)
    statistics = time_statistics(values, timed=layout.timed)
    return Row(record, chunks.chunk(numbers, compress=how.compress), *statistics)


def _again(record: ClipRecord, numbers: npt.NDArray[Any], header: StoreHeader) -> Row:
    """A clip of another store of the same encoding, as it was written there: rounding its values anew may not do."""
    how, values = header.encoding, np.empty(numbers.shape, np.float32)
    decode(numbers, how, values)
    return Row(
        record, chunks.chunk(numbers, compress=how.compress), *time_statistics(values, timed=header.layout.timed)
    )


def _as_planned(values: Values, layout: Layout) -> None:
    if values.shape == layout.shape and values.dtype == np.float32:
        return
    raise StoreError(
        "The representation computed something else than its layout says.",
        differences=[
            Difference(field="features", expected=f"float32 {layout.shape}", found=f"{values.dtype} {values.shape}")
        ],
        todo="Hold it against ascfeat.testing.representations.check_representation.",
    )


def time_statistics(values: Values, *, timed: bool) -> Statistics:
    """Mean and variance over time; without time, a value is its own mean and varies by nothing (NaN stays NaN)."""
    if not timed:
        exact = values.astype(np.float64)
        return exact, exact - exact
    from ascfeat.moments import mean_and_variance  # here: numba takes a third of a second to import

    return mean_and_variance(values)
