"""Reading a feature store: its header, its clips, their values, checked; no zarr on the way."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from ascfeat.patches import cut
from ascfeat.store import chunks, metadata
from ascfeat.store.chunks import Damaged
from ascfeat.store.metadata import LEDGER, ROOT, STRINGS_PER_CHUNK
from ascfeat.store.places import Place, open_place
from ascfeat.store.shards import ShardReader
from ascfeat.store.table import PROPERTIES, table_digest
from ascfeat.store.views import TorchClips, View, Wanted, select
from ascschemas.base import canonical_json
from ascschemas.problems import Difference, StoreError, nearest
from ascschemas.store import ClipRecord, Seal, StoreHeader, UnitRecord

if TYPE_CHECKING:
    import dask.array
    import xarray

T = TypeVar("T")
Values = npt.NDArray[np.float32]
Statistics = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

HEADER, SEAL = "ascfeat", "ascfeat_seal"
"""Attributes of the root group."""


class Rewritten(StoreError):
    """A sealed store that was written anew since it was opened: its clips, their order and their values may differ."""

    def __init__(self, place: Place, opened: Seal, found: Seal | None) -> None:
        now = found.digest if found else "no sealed store"
        super().__init__(
            f"{place} {'was' if found else 'was removed, or was'} written anew since it was opened.",
            differences=[Difference(field="digest", expected=opened.digest, found=now)],
            todo="Open it again: its clips and their values may be others.",
        )


class Store:
    """A feature store, open for reading.

    Arrays of the Zarr group: ``features``, such as ``(clip, channel, frequency, time)``, the coordinates of its axes,
    one string array per clip property, ``split_<name>`` per split, ``usable``, and ``mean`` and ``variance`` over time
    per clip.

    Parameters
    ----------
    place : Place, path or URL
        Where the store lies.

    Raises
    ------
    StoreError
        When there is no store, or what is there was not written by this package.
    """

    def __init__(self, place: Place | Path | str) -> None:
        self.place = open_place(place)
        self._version = self._root_version()  # first: a root that is replaced meanwhile is then another
        self._attributes = root_of(self.place)["attributes"]
        try:
            self.header = StoreHeader.model_validate(self._attributes.get(HEADER))
            seal = self._attributes.get(SEAL)
            self.seal = None if seal is None else Seal.model_validate(seal)
        except ValidationError as error:
            raise damaged(self.place, f"its description does not hold: {_first(error)}") from error
        metadata.check_header(self.place, self.header)
        self.layout = self.header.layout
        self._shards = ShardReader(self.place, self.header)

    def __reduce__(self) -> tuple[Callable[[Place, Seal | None], Store], tuple[Place, Seal | None]]:
        """To another process by its place: what was read of it stays here. It must be the same store there."""
        return _opened_again, (self.place, self.seal)

    def __repr__(self) -> str:
        shape = " x ".join(str(n) for n in self.layout.shape)
        state = "sealed" if self.seal else "not finished"
        return f"<{type(self).__name__} {self.place}: {self.header.clips} clips of {shape}, {state}>"

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Clip ids, in store order."""
        return self.table["clip"]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Scene class of each clip."""
        return self.table["label"]

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """Recording device of each clip."""
        return self.table["device"]

    @property
    def recorders(self) -> dict[str, str]:
        """Recording device of each clip by its id, where the recipe corrects devices; else nothing is read or named."""
        return dict(zip(self.ids, self.devices, strict=True)) if self.header.recipe.correction else {}

    @cached_property
    def cities(self) -> tuple[str, ...]:
        """City of each clip."""
        return self.table["city"]

    @cached_property
    def locations(self) -> tuple[str, ...]:
        """Location of each clip: the grouping key of splits."""
        return self.table["location"]

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """What parallel recordings of one moment share."""
        return self.table["segment"]

    @cached_property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Whether each clip holds values; those that do not are NaN; none is while the store is not sealed."""
        seal = self.seal
        return np.zeros(self.header.clips, bool) if seal is None else self._steady(lambda: self._usable(seal))

    def sides(self, split: str) -> npt.NDArray[np.str_]:
        """``train``, ``test`` or ``unused`` for each clip.

        Raises
        ------
        StoreError
            When the store has no such split; those that it has are named.
        """
        if split not in self.header.splits:
            raise StoreError(
                f"{self.place} has no split {split!r}: {nearest(split, self.header.splits)}",
                todo="Name one of its splits, or add the split to the dataset and extract again.",
            )
        return np.array(self.table[f"split_{split}"])

    def read(
        self, clips: Sequence[int] | npt.NDArray[np.int64], out: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """The features of some clips, in the order asked for.

        Parameters
        ----------
        clips : sequence of int
            Positions in the store; repetitions are allowed.
        out : array, shape ``(len(clips), *layout.shape)``, optional
            Filled and returned instead of a new array. Of float32, it gets values; of the type that the store keeps
            (``header.encoding.dtype``), the numbers as they lie on disk, which spares the conversion.

        Returns
        -------
        array, shape ``(len(clips), *layout.shape)``
            float32 by default. Every chunk's checksum has been verified; excluded clips are NaN.

        Raises
        ------
        IndexError
            When a position is outside the store.
        ValueError
            When ``out`` has another shape or type.
        StoreError
            When a chunk is not there or does not match its checksum, or the store was written anew since it was opened.
        """
        wanted = np.asarray(clips, dtype=np.int64).reshape(-1)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.header.clips):
            raise IndexError(f"clips {wanted.min()}..{wanted.max()} of a store of {self.header.clips}")
        shape = (len(wanted), *self.layout.shape)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype not in (np.float32, np.dtype(self.header.encoding.dtype)):
            raise ValueError(f"out is {out.dtype} {out.shape}, and these clips are float32 {shape}")
        failed = self._steady(lambda: self._shards.read(wanted, out))
        if failed:
            clip, why = next(iter(failed.items()))
            more = f" ({len(failed)} clips of this read do not)" if len(failed) > 1 else ""
            raise damaged(self.place, f"clip {self.ids[clip]} does not read: {why}{more}")
        if self.header.encoding.dtype.startswith("int") and out.dtype == np.float32 and self.seal is not None:
            out[~self.usable[wanted]] = np.nan  # 16-bit samples leave no number to say so
        return out

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
                f"{self.place} has no patches: its recipe {self.header.recipe.name} names none.",
                todo="Read whole clips, or cut them with ascfeat.patches.cut.",
            )
        return cut(self.read(clips), self.header.recipe.patches)

    def view(self) -> View:
        """All clips, to be had as numpy, torch, dask or xarray arrays."""
        return View(self, np.arange(self.header.clips))

    def sel(self, *, split: str | None = None, side: str | None = None, **properties: Wanted) -> View:
        """The clips that hold values and have these properties, to be had as numpy, torch, dask or xarray arrays.

        Parameters
        ----------
        split, side : str, optional
            Such as ``fold1`` and ``train``; both or neither.
        **properties : str or strings
            ``scene`` (or ``label``), ``device``, ``city``, ``location``, ``segment``, ``clip``: a value, or several of
            which one must hold.

        Returns
        -------
        View
            In the order of the store.

        Raises
        ------
        StoreError
            When there is no such property, split or value; the nearest is named.

        Examples
        --------
        ``store.sel(scene="bus", device=["b", "c"], split="fold1", side="train").numpy()``
        """
        return View(self, select(self, split, side, properties))

    def numpy(self) -> Values:
        """All values in memory, ``(clips, *layout.shape)``; as ``view().numpy()``."""
        return self.view().numpy()

    def torch(self) -> TorchClips:
        """All clips as a dataset for a ``DataLoader``; as ``view().torch()``."""
        return self.view().torch()

    def dask(self) -> dask.array.Array:
        """All values as a lazy array, a unit a chunk; as ``view().dask()``."""
        return self.view().dask()

    def xarray(self) -> xarray.Dataset:
        """All values and all that is known of the clips, named; as ``view().xarray()``."""
        return self.view().xarray()

    def statistics(self) -> Statistics:
        """Mean and variance over time of each clip.

        ``mean[i] = mean_t x[i, ..., t]``, ``variance[i] = mean_t (x[i, ..., t] - mean[i])^2``; where features have no
        time axis, ``mean`` is the features themselves and ``variance`` 0.

        Returns
        -------
        mean, variance : arrays, shape ``(clips, *layout.band_shape)``, float64
            NaN for excluded clips.
        """
        mean, variance = self._steady(lambda: [self._statistic(name) for name in ("mean", "variance")])
        gone = self.usable & ~np.isfinite(mean + variance).reshape(len(mean), -1).all(axis=1)
        if gone.any():
            raise damaged(
                self.place, f"mean or variance of {gone.sum()} clips is missing, first {self.ids[gone.argmax()]}"
            )
        return mean, variance

    def records(self) -> Iterator[ClipRecord | None]:
        """What became of each clip, in store order; None where its unit is not done."""
        for unit in range(self.header.units):
            record = self.unit_record(unit)
            yield from record.clips if record else [None] * len(range(*unit_rows(self.header, unit)))

    def unit_record(self, unit: int) -> UnitRecord | None:
        """The ledger's record of a unit, or None while it is not done."""
        text = self._steady(lambda: self._record_text(unit))
        if not text:
            return None
        try:
            record = UnitRecord.model_validate_json(text)
        except ValidationError as error:
            raise damaged(self.place, f"ledger record {unit} does not hold: {_first(error)}") from error
        if (record.unit, len(record.clips)) != (unit, len(range(*unit_rows(self.header, unit)))):
            why = f"ledger record {unit} speaks of unit {record.unit} of {len(record.clips)} clips"
            raise damaged(self.place, why)
        return record

    def written(self, clip: int) -> float:
        """When the unit of a clip was recorded, in seconds since the epoch; by the file system, not by the store."""
        try:
            return self.place.modified(self.header.chunk(LEDGER, clip // self.header.clips_per_unit))
        except FileNotFoundError:
            return 0.0

    def digest(self) -> str:
        """SHA-256 over the canonical JSON of the header as it was written and the ledger's records in order."""
        whole = self._header_digest()
        for unit in range(self.header.units):
            whole.update(self._record_text(unit).encode())
        return str(whole.hexdigest())

    def excluded(self) -> dict[str, ClipRecord]:
        """The clips that hold no values, by id, with their reasons."""
        found = {i: r for i, r in enumerate(self.records()) if r is not None and r.excluded}
        return {self.ids[i]: r for i, r in found.items()}

    def pending(self) -> list[int]:
        """Units that are not done: no record in the ledger, or no shard of a possible size under it."""
        return [u for u in range(self.header.units) if not self._done(u)]

    def _usable(self, seal: Seal) -> npt.NDArray[np.bool_]:
        usable = np.frombuffer(self._content("usable"), bool)
        if len(usable) != self.header.clips or int(usable.sum()) != seal.usable:
            raise damaged(self.place, f"its seal counts {seal.usable} usable clips, `usable` {int(usable.sum())}")
        return usable

    def _steady(self, look: Callable[[], T]) -> T:
        """What is read here, if the sealed store that was opened is still there by then.

        Its root is replaced before anything else of it is: what was read before that is of the store that was opened.

        Raises
        ------
        StoreError
            When another one, or one that is being written, is there now.
        """
        while True:
            try:
                found = look()
            except (StoreError, OSError):
                if not self._replaced():
                    raise
            else:
                if not self._replaced():
                    return found

    def _replaced(self) -> bool:
        """Whether the root is another since this was asked last; it must hold the same values."""
        if self.seal is None or self._version == (version := self._root_version()):
            return False
        try:
            now = Store(self.place).seal
        except StoreError:  # moved aside, or half removed
            now = None
        if now is None or now.digest != self.seal.digest:
            raise Rewritten(self.place, self.seal, now)
        self._version = version
        return True

    def _root_version(self) -> str:
        try:
            return self.place.version(ROOT)
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def _done(self, unit: int) -> bool:
        clips = len(range(*unit_rows(self.header, unit)))
        each = 1 if self.header.encoding.compress else self.header.number_bytes
        least = clips * (each + chunks.CHECKSUM) + chunks.index_size(self.header.clips_per_unit)
        try:
            return self._recorded(unit) and self.place.size(self.header.chunk("features", unit)) >= least
        except FileNotFoundError:
            return False

    def _recorded(self, unit: int) -> bool:
        """Whether the ledger holds a readable record of a unit; a damaged one is none."""
        try:
            return self.unit_record(unit) is not None
        except StoreError:
            return False

    def _record_text(self, unit: int) -> str:
        key = self.header.chunk(LEDGER, unit)
        try:
            return chunks.text_of(metadata.read_chunk(self.place, self.header, key))
        except FileNotFoundError:
            return ""
        except Damaged as error:
            raise damaged(self.place, f"ledger record {unit}: {error}") from error

    def _header_digest(self) -> Any:
        return hashlib.sha256(canonical_json(self._attributes[HEADER]).encode())

    def _statistic(self, name: str) -> npt.NDArray[np.float64]:
        shape = (self.header.clips_per_unit, *self.layout.band_shape)
        whole = np.empty((self.header.units * shape[0], *shape[1:]))
        for unit in range(self.header.units):
            data = self._content(name, unit)
            if len(data) != 8 * math.prod(shape):
                raise damaged(self.place, f"{self.header.chunk(name, unit)} holds {len(data)} bytes")
            block = np.frombuffer(data, "<f8")
            whole[unit * shape[0] : (unit + 1) * shape[0]] = block.reshape(shape)
        return whole[: self.header.clips]

    @cached_property
    def table(self) -> dict[str, tuple[str, ...]]:
        """What the store's string arrays say of each clip, checked against the header."""
        table = self._steady(lambda: {name: tuple(self._strings(name)) for name in table_names(self.header)})
        if table_digest(table) != self.header.table:
            raise damaged(self.place, "ids, labels, devices, places or splits are not those that it was made with")
        return table

    def _strings(self, name: str, count: int | None = None) -> Iterator[str]:
        """The strings of an array; as many as there are clips unless it is said."""
        whole = count or self.header.clips
        size = min(whole, STRINGS_PER_CHUNK)
        for part in range(-(-whole // size)):
            try:
                texts = chunks.texts_of(metadata.read_chunk(self.place, self.header, f"{name}/c/{part}"), size)
            except FileNotFoundError:
                raise damaged(self.place, f"{name} is missing: there is no file {name}/c/{part}") from None
            except Damaged as error:
                raise damaged(self.place, f"{name} does not read: {error}") from error
            yield from texts[: whole - part * size]

    def _content(self, name: str, unit: int = 0) -> bytes:
        """What a chunk of a small array holds, checked."""
        key = self.header.chunk(name, unit)
        try:
            return chunks.content(metadata.read_chunk(self.place, self.header, key))
        except FileNotFoundError:
            raise damaged(self.place, f"{name} is missing: there is no file {key}") from None
        except Damaged as error:
            raise damaged(self.place, f"{name} does not read: {key}: {error}") from error


def store_path(features: Place | Path | str, dataset: str, recipe: str) -> Place:
    """Where the store of a dataset and a recipe lies: ``features/<dataset>/<recipe>.zarr``."""
    return open_place(features) / dataset / f"{recipe}.zarr"


def find_stores(features: Place | Path | str, recipe: str | None = None, *, broken: bool = False) -> list[Place]:
    """The stores of a feature folder, sorted; those of one recipe if it is named.

    With ``broken``, also those that have lost their root's document, and copies that are not finished.
    """
    library = open_place(features)
    below = (library / dataset for dataset in library.folders())
    names = ((d, [f"{recipe}.zarr"] if recipe else [n for n in d.folders() if _is_store(n)]) for d in below)
    found = (d / name for d, each in names for name in each)
    return [p for p in found if p.exists(ROOT) or (broken and _is_broken(p))]


def _is_store(name: str) -> bool:
    return name.endswith(".zarr") and not name.startswith(metadata.COEFFICIENTS)


def _is_broken(place: Place) -> bool:
    return place.exists(metadata.SPARE) or place.parent.exists(metadata.copy_mark(place))


def open_store(place: Place | Path | str) -> Store:
    """Open a sealed store: a folder, ``s3://bucket/prefix/…zarr`` or ``http://host/…zarr``.

    Raises
    ------
    StoreError
        When there is none, or when it is not sealed: an unfinished store is never read as if it were whole.
    """
    store = Store(place)
    if store.seal is None:
        done = sum(store.unit_record(u) is not None for u in range(store.header.units))
        raise StoreError(
            f"{store.place} is not finished: {done} of {store.header.units} units are done, and it is not sealed.",
            todo=f"Finish it with `ascfeat extract` on {store.header.dataset}, --recipe {store.header.recipe.name}.",
        )
    return store


def _opened_again(place: Place, seal: Seal | None) -> Store:
    """The store of that seal, in another process."""
    store = Store(place)
    if seal is not None and (store.seal is None or store.seal.digest != seal.digest):
        raise Rewritten(place, seal, store.seal)
    return store


def unit_rows(header: StoreHeader, unit: int) -> tuple[int, int]:
    """First clip of a unit, and the first of the next."""
    return unit * header.clips_per_unit, min((unit + 1) * header.clips_per_unit, header.clips)


def table_names(header: StoreHeader) -> list[str]:
    """The arrays that hold a string of each clip."""
    return ["clip", *PROPERTIES, *(f"split_{s}" for s in header.splits)]


def root_of(place: Place) -> dict[str, Any]:
    """The root's document, with its attributes; a StoreError says why there is none."""
    try:
        root = metadata.read_root(place)
    except (FileNotFoundError, NotADirectoryError):
        raise _no_root(place) from None
    if not isinstance(root.get("attributes"), dict):
        raise damaged(place, "its zarr.json is not that of a feature store")
    if root["attributes"].get(metadata.CHECK, digest := metadata.root_digest(root)) != digest:
        raise damaged(place, "its zarr.json does not match its digest")
    return root


def unfinished_copy(place: Place) -> StoreError:
    """The error for a place that somebody copies a store to, or did so and was interrupted."""
    return StoreError(
        f"{place} is a copy that is not finished.",
        todo="Run the same `ascfeat push` or `pull` again, which goes on; or let it go with "
        "`ascfeat gc --older-than 0 --delete`.",
    )


def lost_root(place: Place) -> StoreError:
    """The error for a store that has lost its root's document, which its copy brings back."""
    return damaged(place, f"its {ROOT} is not there, and the copy of it is")


def _no_root(place: Place) -> StoreError:
    """Why there is no root's document: an unfinished copy, a store that has lost it, or no store."""
    if place.parent.exists(metadata.copy_mark(place)):
        return unfinished_copy(place)
    if place.exists(metadata.SPARE):
        return lost_root(place)
    return StoreError(
        f"There is no feature store at {place}.",
        todo="Make it with `ascfeat extract`, or list what there is with `ascfeat ls`.",
    )


def damaged(place: Place | str, why: str) -> StoreError:
    """The error for a store that is there and does not hold."""
    return StoreError(
        f"{place} cannot be used: {why}.",
        todo=f"See what is wrong with `ascfeat verify {place}`, and heal it with `ascfeat repair`.",
    )


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'header'}: {problem['msg']}"
