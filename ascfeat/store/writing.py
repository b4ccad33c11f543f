"""Writing a feature store: unit after unit, each published when it is on disk, and the seal at the end."""

from __future__ import annotations

import json
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from ascfeat.store.chunks import is_whole_chunk, is_whole_shard, sync, sync_folders, write_chunk, write_shard
from ascfeat.store.reading import SEAL, Statistics, Store, Values, open_group, unit_rows, value_digest
from ascschemas.base import canonical_json
from ascschemas.certificate import Certificate
from ascschemas.layout import Layout
from ascschemas.problems import Difference, StoreError
from ascschemas.store import ClipRecord, Seal, UnitRecord


@dataclass(frozen=True)
class Row:
    """One clip of a unit, ready to be written; :func:`row` makes it."""

    record: ClipRecord
    """What is known of it, with the digest of its values."""
    values: Values
    """Of shape ``layout.shape``."""
    mean: npt.NDArray[np.float64]
    """Of shape ``layout.band_shape``, as is the variance."""
    variance: npt.NDArray[np.float64]


class Writer(Store):
    """A store that this process may write; get one inside ``lock.exclusive(path)``.

    Opening it sweeps what a killed writer left behind.
    """

    def __init__(self, path: Path) -> None:
        sweep(path)
        super().__init__(path)
        self._group = open_group(self.path, mode="r+")

    def reopen(self, units: Sequence[int]) -> None:
        """Forget units, so that they are pending again; the seal goes first."""
        if units and self.seal is not None:
            attributes = {k: v for k, v in self._group.attrs.items() if k != SEAL}
            self._replace_root(attributes)
            self.seal = None
        for unit in units:
            self._chunk("ledger/record", unit).unlink(missing_ok=True)
        records = self._chunk("ledger/record", 0)
        if units and records.parent.is_dir():  # on disk before anything is written over what they vouched for
            sync_folders(records, self.path)

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
        write_shard(self._chunk("features", unit), [c.values[None] for c in clips], slots)
        for name, rows in {"mean": [c.mean for c in clips], "variance": [c.variance for c in clips]}.items():
            block = np.full((slots, *self.layout.band_shape), np.nan)
            block[: len(rows)] = rows
            write_chunk(self._chunk(name, unit), block)
        record = UnitRecord(unit=unit, clips=tuple(c.record for c in clips))
        for name in ("features", "mean", "variance"):
            sync_folders(self._chunk(name, unit), self.path)
        self._array("ledger/record")[unit] = canonical_json(record)
        self._sync(self._chunk("ledger/record", unit))

    def finish(self, certify: Callable[[Store], Certificate | None] = lambda store: None) -> Seal:
        """Check that every unit is in the ledger and on the disk as it was written, and seal the store.

        Parameters
        ----------
        certify : callable
            Makes the certificate that the seal holds, from this store, once it is known to be whole.

        Raises
        ------
        StoreError
            When a unit is not done or one of its chunks does not match its checksum (it is pending again), or when no
            clip is usable.
        """
        torn = [u for u in range(self.header.units) if not self._verified(u)]
        if torn:
            self.reopen(torn)
            raise StoreError(
                f"{self.path}: {len(torn)} of {self.header.units} units do not read back as they were written.",
                todo="Check the disk, then run the same command again: it recomputes exactly these units.",
            )
        records = [r for r in self.records() if r is not None]
        reasons = Counter(r.excluded for r in records if r.excluded)
        usable = len(records) - reasons.total()
        if not usable:
            raise StoreError(
                f"{self.path} cannot be sealed: none of its {self.header.clips} recordings could be used.",
                todo="Run `ascfeat check` on the dataset to see why.",
            )
        seal = Seal(
            digest=self.digest(), usable=usable, excluded=dict(sorted(reasons.items())), certificate=certify(self)
        )
        self._array("usable")[:] = np.array([not r.excluded for r in records])
        self._sync(self._chunk("usable", 0))
        self._publish(seal)
        self.seal = seal
        return seal

    def _publish(self, seal: Seal) -> None:
        with warnings.catch_warnings():  # not in the Zarr v3 specification yet; readers that cannot list need it
            warnings.simplefilter("ignore")
            group = zarr.consolidate_metadata(self.path)
        group.update_attributes({SEAL: seal.model_dump(mode="json")})
        self._sync(self.path / "zarr.json")

    def _replace_root(self, attributes: Mapping[str, Any]) -> None:
        """Write the root's metadata anew, aside and then over the old: without a seal and without consolidation."""
        text = json.dumps({"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"}, indent=2)
        aside = self.path / "zarr.json.partial"
        aside.write_text(text, encoding="utf-8")
        self._sync(aside)
        aside.replace(self.path / "zarr.json")
        self._group = open_group(self.path, mode="r+")

    def _verified(self, unit: int) -> bool:
        """Whether a unit is in the ledger, and every chunk of it is there and matches its checksum."""
        first, stop = unit_rows(self.header, unit)
        shard, statistics = self._chunk("features", unit), [self._chunk(name, unit) for name in ("mean", "variance")]
        whole = is_whole_shard(shard, stop - first, self.header.clips_per_unit)
        return self._recorded(unit) and whole and all(is_whole_chunk(chunk) for chunk in statistics)

    def _sync(self, file: Path) -> None:
        sync(file)
        sync_folders(file, self.path)


def row(record: ClipRecord, values: Values | None, layout: Layout) -> Row:
    """One clip, ready to be written: its statistics and the digest of its values; NaN where it has none.

    Raises
    ------
    StoreError
        When the values are not what the layout says: a mistake of the representation.
    """
    if values is None:
        values = np.full(layout.shape, np.nan, np.float32)
    else:
        _as_planned(values, layout)
        record = record.model_copy(update={"values": value_digest(values)})
    return Row(record, values, *time_statistics(values, timed=layout.timed))


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
    exact = values.astype(np.float64)
    if not timed:
        return exact, exact - exact
    mean = exact.mean(axis=-1)
    exact -= mean[..., None]
    return mean, np.square(exact, out=exact).mean(axis=-1)


def sweep(path: Path) -> None:
    """Remove what a killed writer left: files never published, and folders never moved into place."""
    for leftover in path.parent.glob(f".{path.name}.*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in path.rglob("*.partial"):
        leftover.unlink(missing_ok=True)
