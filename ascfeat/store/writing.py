"""Writing a feature store: unit after unit, each published when it is on disk, and the seal at the end."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ascfeat.store.reading import SEAL, Statistics, Store, Values, open_group, unit_rows, value_digest
from ascschemas.base import canonical_json
from ascschemas.certificate import Certificate
from ascschemas.problems import StoreError
from ascschemas.store import ClipRecord, Seal, UnitRecord


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
            (self.path / "ledger/record/c" / str(unit)).unlink(missing_ok=True)

    def write(self, unit: int, values: Values, sources: Sequence[ClipRecord]) -> None:
        """Store a unit's values, then publish its record.

        Parameters
        ----------
        unit : int
            Number of the unit.
        values : array, shape ``(clips of the unit, *layout.shape)``, float32
            NaN where a clip is excluded.
        sources : sequence of ClipRecord
            What is known of each clip; the digest of its values is added here.
        """
        rows = slice(*unit_rows(self.header, unit))
        mean, variance = time_statistics(values, timed=self.layout.timed)
        for name, block in {"features": values, "mean": mean, "variance": variance}.items():
            # every chunk is written, also one that holds NaN only: what is not there is then always an accident
            self._chunk(name, unit).unlink(missing_ok=True)  # else zarr reads a torn last shard before it replaces it
            self._array(name).with_config({"write_empty_chunks": True})[rows] = block
            self._sync(self._chunk(name, unit))
        clips = [
            r if r.excluded else r.model_copy(update={"values": value_digest(v)})
            for r, v in zip(sources, values, strict=True)
        ]
        record = UnitRecord(unit=unit, clips=tuple(clips))
        self._array("ledger/record")[unit] = canonical_json(record)
        self._sync(self._chunk("ledger/record", unit))

    def finish(self, certify: Callable[[Store], Certificate | None] = lambda store: None) -> Seal:
        """Read every unit back, compare it with the ledger, and seal the store.

        Parameters
        ----------
        certify : callable
            Makes the certificate that the seal holds, from this store, once it is known to be whole.

        Raises
        ------
        StoreError
            When a unit is not done or reads back differently (it is pending again), or when no clip is usable.
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
        record = self.unit_record(unit)
        if record is None:
            return False
        try:
            values = self.read(np.arange(*unit_rows(self.header, unit)))
        except StoreError:
            return False
        return all(r.excluded or r.values == value_digest(v) for r, v in zip(record.clips, values, strict=True))

    def _sync(self, file: Path) -> None:
        for path in (file, *file.parents):
            if not path.is_relative_to(self.path):
                break
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def time_statistics(values: Values, *, timed: bool) -> Statistics:
    """Mean and variance over time; without time, a value is its own mean and varies by nothing (NaN stays NaN)."""
    if timed:
        return values.mean(axis=-1, dtype=np.float64), values.var(axis=-1, dtype=np.float64)
    exact = values.astype(np.float64)
    return exact, exact - exact


def sweep(path: Path) -> None:
    """Remove what a killed writer left: files never published, and folders never moved into place."""
    for leftover in path.parent.glob(f".{path.name}.*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in path.rglob("*.partial"):
        leftover.unlink(missing_ok=True)
