"""Reading a feature store: its header, its clips, their values, checked."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from pydantic import ValidationError

from ascfeat.patches import cut
from ascfeat.store.table import PROPERTIES, table_digest
from ascschemas.base import canonical_json
from ascschemas.problems import StoreError, nearest
from ascschemas.store import ClipRecord, Seal, StoreHeader, UnitRecord

Values = npt.NDArray[np.float32]
Statistics = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

HEADER, SEAL = "ascfeat", "ascfeat_seal"
"""Attributes of the root group."""


class Store:
    """A feature store, open for reading.

    Arrays of the Zarr group: ``features``, such as ``(clip, channel, frequency, time)``, the coordinates of its axes,
    one string array per clip property, ``split_<name>`` per split, ``usable``, and ``mean`` and ``variance`` over time
    per clip.

    Parameters
    ----------
    path : Path
        The store's folder.

    Raises
    ------
    StoreError
        When there is no store at ``path``, or what is there was not written by this package.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._group = open_group(self.path, mode="r")
        attributes = dict(self._group.attrs)
        try:
            self.header = StoreHeader.model_validate(attributes.get(HEADER))
            seal = attributes.get(SEAL)
            self.seal = None if seal is None else Seal.model_validate(seal)
        except ValidationError as error:
            raise damaged(self.path, f"its description does not hold: {_first(error)}") from error
        self.layout = self.header.layout

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Clip ids, in store order."""
        return self._table["clip"]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Scene class of each clip."""
        return self._table["label"]

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """Recording device of each clip."""
        return self._table["device"]

    @cached_property
    def cities(self) -> tuple[str, ...]:
        """City of each clip."""
        return self._table["city"]

    @cached_property
    def locations(self) -> tuple[str, ...]:
        """Location of each clip: the grouping key of splits."""
        return self._table["location"]

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """What parallel recordings of one moment share."""
        return self._table["segment"]

    @cached_property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Whether each clip holds values; those that do not are NaN."""
        usable = np.asarray(self._load("usable"), dtype=bool)
        if self.seal is not None and int(usable.sum()) != self.seal.usable:
            raise damaged(self.path, f"its seal counts {self.seal.usable} usable clips, `usable` {int(usable.sum())}")
        return usable

    def sides(self, split: str) -> npt.NDArray[np.str_]:
        """``train``, ``test`` or ``unused`` for each clip.

        Raises
        ------
        StoreError
            When the store has no such split; those that it has are named.
        """
        if split not in self.header.splits:
            raise StoreError(
                f"{self.path} has no split {split!r}: {nearest(split, self.header.splits)}",
                todo="Name one of its splits, or add the split to the dataset and extract again.",
            )
        return np.array(self._table[f"split_{split}"])

    def read(self, clips: Sequence[int] | npt.NDArray[np.int64], out: Values | None = None) -> Values:
        """The features of some clips, in the order asked for.

        Parameters
        ----------
        clips : sequence of int
            Positions in the store; repetitions are allowed.
        out : array, shape ``(len(clips), *layout.shape)``, float32, optional
            Filled and returned instead of a new array.

        Returns
        -------
        array, shape ``(len(clips), *layout.shape)``, float32
            Every chunk's checksum has been verified; excluded clips are NaN.

        Raises
        ------
        IndexError
            When a position is outside the store.
        StoreError
            When a chunk does not match its checksum.
        """
        wanted = np.asarray(clips, dtype=np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.header.clips):
            raise IndexError(f"clips {wanted.min()}..{wanted.max()} of a store of {self.header.clips}")
        values = np.empty((len(wanted), *self.layout.shape), np.float32) if out is None else out
        features = self._array("features")
        for start, stop in _runs(wanted):
            try:
                values[start:stop] = features[int(wanted[start]) : int(wanted[stop - 1]) + 1]
            except Exception as error:
                raise damaged(self.path, f"clip {self.ids[int(wanted[start])]} does not read: {error}") from error
        self._refuse_missing(wanted, values)
        return values

    def patches(self, clips: Sequence[int] | npt.NDArray[np.int64]) -> Values:
        """The features of some clips, cut as the recipe's ``patches`` say.

        Returns
        -------
        array, shape ``(len(clips), channel, …, patch, row, width)``, float32
            As ``ascfeat.patches.cut`` makes it.

        Raises
        ------
        StoreError
            When the recipe has no patches.
        """
        if self.header.recipe.patches is None:
            raise StoreError(
                f"{self.path} has no patches: its recipe {self.header.recipe.name} names none.",
                todo="Read whole clips, or cut them with ascfeat.patches.cut.",
            )
        return cut(self.read(clips), self.header.recipe.patches)

    def statistics(self) -> Statistics:
        """Mean and variance over time of each clip.

        ``mean[i] = mean_t x[i, ..., t]``, ``variance[i] = mean_t (x[i, ..., t] - mean[i])^2``; where features have no
        time axis, ``mean`` is the features themselves and ``variance`` 0.

        Returns
        -------
        mean, variance : arrays, shape ``(clips, *layout.band_shape)``, float64
            NaN for excluded clips.
        """
        mean, variance = (np.asarray(self._load(name), dtype=np.float64) for name in ("mean", "variance"))
        gone = self.usable & ~np.isfinite(mean + variance).reshape(len(mean), -1).all(axis=1)
        if self.seal is not None and gone.any():
            raise damaged(
                self.path, f"mean or variance of {gone.sum()} clips is missing, first {self.ids[gone.argmax()]}"
            )
        return mean, variance

    def records(self) -> Iterator[ClipRecord | None]:
        """What became of each clip, in store order; None where its unit is not done."""
        for unit in range(self.header.units):
            record = self.unit_record(unit)
            yield from record.clips if record else [None] * len(range(*unit_rows(self.header, unit)))

    def unit_record(self, unit: int) -> UnitRecord | None:
        """The ledger's record of a unit, or None while it is not done."""
        text = self._record_text(unit)
        return UnitRecord.model_validate_json(text) if text else None

    def written(self, clip: int) -> float:
        """When the unit of a clip was recorded, in seconds since the epoch; by the file system, not by the store."""
        record = self._chunk("ledger/record", clip // self.header.clips_per_unit)
        return record.stat().st_mtime if record.is_file() else 0.0

    def digest(self) -> str:
        """SHA-256 over the canonical JSON of the header as it was written and the ledger's records in order."""
        whole = hashlib.sha256(canonical_json(dict(self._group.attrs)[HEADER]).encode())
        for unit in range(self.header.units):
            whole.update(self._record_text(unit).encode())
        return whole.hexdigest()

    def excluded(self) -> dict[str, ClipRecord]:
        """The clips that hold no values, by id, with their reasons."""
        return {i: r for i, r in zip(self.ids, self.records(), strict=True) if r is not None and r.excluded}

    def pending(self) -> list[int]:
        """Units that are not done: no record in the ledger, or no shard of the right size under it."""
        return [u for u in range(self.header.units) if not self._done(u)]

    def _done(self, unit: int) -> bool:
        shard = self._chunk("features", unit)
        clips = len(range(*unit_rows(self.header, unit)))
        least = clips * (self.layout.clip_bytes + 4)  # every chunk carries a checksum of four bytes, before the index
        return self._recorded(unit) and shard.is_file() and shard.stat().st_size >= least

    def _recorded(self, unit: int) -> bool:
        """Whether the ledger holds a readable record of a unit; a damaged one is none."""
        try:
            return self.unit_record(unit) is not None
        except (StoreError, ValidationError):
            return False

    def _chunk(self, name: str, unit: int) -> Path:
        """The file of an array's chunk or shard; a unit takes one along the first axis, and all of the others."""
        rest = {"features": self.layout.shape, "mean": self.layout.band_shape, "variance": self.layout.band_shape}
        return self.path.joinpath(name, "c", str(unit), *["0"] * len(rest.get(name, ())))

    def _refuse_missing(self, wanted: npt.NDArray[np.int64], values: Values) -> None:
        """A deleted shard reads as the fill value without a word from any Zarr reader; here it does not."""
        if self.seal is None or not len(wanted):
            return
        finite = np.isfinite(values.reshape(len(wanted), -1).sum(axis=1))  # one NaN anywhere, and the sum is NaN
        gone = wanted[self.usable[wanted] & ~finite]
        if len(gone):
            raise damaged(self.path, f"the values of {len(gone)} clips are missing, first {self.ids[gone[0]]}")

    def _record_text(self, unit: int) -> str:
        return str(self._load("ledger/record", unit))

    @cached_property
    def _table(self) -> dict[str, tuple[str, ...]]:
        """What the store's string arrays say of each clip, checked against the header."""
        names = ("clip", *PROPERTIES, *(f"split_{s}" for s in self.header.splits))
        table = {name: tuple(str(s) for s in self._load(name)) for name in names}
        if table_digest(table) != self.header.table:
            raise damaged(self.path, "ids, labels, devices, places or splits are not those that it was made with")
        return table

    def _load(self, name: str, at: Any = slice(None)) -> Any:
        """Values of an array; whatever zarr makes of damaged bytes becomes one clear error."""
        try:
            return self._array(name)[at]
        except Exception as error:
            raise damaged(self.path, f"{name} does not read: {error}") from error

    def _array(self, name: str) -> Any:
        try:
            return self._group[name]
        except Exception as error:
            raise damaged(self.path, f"{name} does not open: {error}") from error


def store_path(features: Path, dataset: str, recipe: str) -> Path:
    """Where the store of a dataset and a recipe lies: ``features/<dataset>/<recipe>.zarr``."""
    return Path(features) / dataset / f"{recipe}.zarr"


def find_stores(features: Path, recipe: str | None = None) -> list[Path]:
    """The stores of a feature folder, sorted; those of one recipe if it is named."""
    return sorted(p for p in Path(features).glob(f"*/{recipe or '*'}.zarr") if (p / "zarr.json").is_file())


def open_store(path: Path) -> Store:
    """Open a sealed store.

    Raises
    ------
    StoreError
        When there is none, or when it is not sealed: an unfinished store is never read as if it were whole.
    """
    store = Store(path)
    if store.seal is None:
        done = sum(store.unit_record(u) is not None for u in range(store.header.units))
        raise StoreError(
            f"{path} is not finished: {done} of {store.header.units} units are done, and it is not sealed.",
            todo=f"Finish it with `ascfeat extract` on {store.header.dataset}, --recipe {store.header.recipe.name}.",
        )
    return store


def unit_rows(header: StoreHeader, unit: int) -> tuple[int, int]:
    """First clip of a unit, and the first of the next."""
    return unit * header.clips_per_unit, min((unit + 1) * header.clips_per_unit, header.clips)


def value_digest(values: Values) -> str:
    """SHA-256 of one clip's values as little-endian bytes."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).hexdigest()


def _runs(wanted: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Stretches of consecutive clips, so that neighbours are read in one go."""
    breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
    edges = [0, *breaks.tolist(), len(wanted)]
    return ((a, b) for a, b in itertools.pairwise(edges) if b > a)


def open_group(path: Path, *, mode: Any) -> zarr.Group:
    """The root group of a store, or a StoreError that says why there is none."""
    if not (path / "zarr.json").is_file():
        raise StoreError(
            f"There is no feature store at {path}.",
            todo="Make it with `ascfeat extract`, or list what there is with `ascfeat ls`.",
        )
    try:
        return zarr.open_group(path, mode=mode, use_consolidated=False)
    except Exception as error:  # zarr raises whatever the damaged JSON leads it to
        raise damaged(path, f"its zarr.json does not open: {error}") from error


def damaged(path: Path, why: str) -> StoreError:
    """The error for a store that is there and does not hold."""
    return StoreError(
        f"{path} cannot be used: {why}.",
        todo="Restore it from a copy, or remove it and extract again.",
    )


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'header'}: {problem['msg']}"
