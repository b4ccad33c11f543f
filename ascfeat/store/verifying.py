"""Verifying a sealed store against itself: every chunk, digest, statistic and count, and what is wrong by name."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from ascfeat.store.reading import Store, unit_rows, value_digest
from ascfeat.store.table import PROPERTIES, table_digest
from ascfeat.store.writing import time_statistics
from ascfeat.work import ordered
from ascschemas.problems import StoreError
from ascschemas.store import ClipRecord, UnitRecord

ProblemKind = Literal["missing", "damaged", "different"]
"""A file that is not there; bytes that do not read; values that read well and are not those that were written."""
VALUES, LEDGER = ("features", "mean", "variance"), "ledger/record"
STATISTICS_TOLERANCE = 1e-9
"""Relative: sums in float64 come out otherwise in their last digits on another machine, and no further."""

Array = npt.NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a store."""

    kind: ProblemKind
    where: str
    """A clip, a unit or an array."""
    detail: str
    """What is wrong with it."""

    def __str__(self) -> str:
        return f"{self.kind:<9}  {self.where}: {self.detail}"


Found = Generator[Problem, None, T]
"""Yields problems, and returns what could be read all the same."""


def verify(store: Store, *, threads: int = 1, progress: Callable[[int], None] = lambda done: None) -> Iterator[Problem]:
    """Read all of a store and yield what is wrong with it; nothing is written.

    Parameters
    ----------
    store : Store
        From ``open_store``, so that it is sealed.
    threads : int
        Units read at once.
    progress : callable
        Given the number of clips that are done.
    """
    broken = list(_metadata(store))
    yield from broken
    if broken:  # what else they hold cannot be told
        return
    names = yield from _table(store)
    yield from _coordinates(store)
    units = ordered(lambda unit: list(_unit(store, unit, names)), range(store.header.units), threads=threads)
    for unit, problems in enumerate(units):
        yield from problems
        progress(unit_rows(store.header, unit)[1])
    yield from _seal(store)


def _metadata(store: Store) -> Iterator[Problem]:
    """Every array's own metadata is there, fits the header, and is what the root says of it to readers of the root."""
    root = json.loads((store.path / "zarr.json").read_bytes())
    consolidated = (root.get("consolidated_metadata") or {}).get("metadata", {})
    for name, shape in _shapes(store).items():
        try:
            own = json.loads((store.path / name / "zarr.json").read_bytes())
        except FileNotFoundError:
            yield Problem("missing", name, "there is no zarr.json in its folder")
        except (OSError, ValueError) as error:
            yield Problem("damaged", name, f"its zarr.json does not read: {error}")
        else:
            if own != consolidated.get(name):
                yield Problem("different", name, "its zarr.json is not what the store's root says of it")
            elif own.get("shape") != list(shape):
                yield Problem("different", name, f"its shape is {own.get('shape')}, the header asks for {list(shape)}")


def _shapes(store: Store) -> dict[str, tuple[int, ...]]:
    """Every array of a store, and the shape that follows from the header."""
    header, layout = store.header, store.layout
    bands = (header.clips, *layout.band_shape)
    return {
        **dict.fromkeys([*_table_names(store), "usable"], (header.clips,)),
        **{axis.name: (axis.size,) for axis in layout.axes},
        **dict(zip(VALUES, ((header.clips, *layout.shape), bands, bands), strict=True)),
        LEDGER: (header.units,),
    }


def _table(store: Store) -> Found[Sequence[str]]:
    """Clip ids, or positions where the string arrays are not those that the store was made with."""
    table = {}
    for name in _table_names(store):
        values = yield from _whole(store, name)
        if values is not None:
            table[name] = tuple(str(v) for v in values)
    if len(table) == len(_table_names(store)):
        if table_digest(table) == store.header.table:
            return table["clip"]
        yield Problem("different", "clip table", f"one of {', '.join(table)} is not what the header has the SHA-256 of")
    return [f"clip {i}" for i in range(store.header.clips)]


def _coordinates(store: Store) -> Iterator[Problem]:
    for axis in store.layout.axes:
        values = yield from _whole(store, axis.name)
        if values is not None and values.tolist() != list(axis.coordinates()):
            yield Problem("different", axis.name, "its coordinates are not those of the header's layout")


def _unit(store: Store, unit: int, names: Sequence[str]) -> Iterator[Problem]:
    """Problems of a unit's files and clips; a clip whose values are wrong has no second problem of its statistics."""
    rows = range(*unit_rows(store.header, unit))
    record = yield from _record(store, unit, len(rows))
    blocks = []
    for name in VALUES:
        blocks.append((yield from _block(store, name, unit, names)))
    for i, row in enumerate(rows):
        features, mean, variance = (block[i] for block in blocks)
        wrong = features is not None and record is not None and _wrong_values(features, record.clips[i])
        if wrong:
            yield Problem(wrong[0], names[row], wrong[1])
        elif features is not None:
            yield from _statistics(names[row], features, mean, variance, timed=store.layout.timed)


def _record(store: Store, unit: int, clips: int) -> Found[UnitRecord | None]:
    where = f"ledger record {unit}"
    if not store._chunk(LEDGER, unit).is_file():
        yield Problem("missing", where, f"there is no file {_relative(store, store._chunk(LEDGER, unit))}")
        return None
    try:
        record = store.unit_record(unit)
    except (StoreError, ValidationError) as error:
        yield Problem("damaged", where, _brief(error))
        return None
    if record is None or (record.unit, len(record.clips)) != (unit, clips):
        found = f"unit {record.unit} of {len(record.clips)} clips" if record else "nothing"
        yield Problem("different", where, f"it speaks of {found}, not of unit {unit} of {clips} clips")
        return None
    return record


def _block(store: Store, name: str, unit: int, names: Sequence[str]) -> Found[Sequence[Array | None]]:
    """What a unit holds of each of its clips in one array; None where that does not read."""
    rows = range(*unit_rows(store.header, unit))
    where, file = f"{name} of {names[rows[0]]} … {names[rows[-1]]}", store._chunk(name, unit)
    if not file.is_file():
        yield Problem("missing", where, f"there is no file {_relative(store, file)}")
        return [None] * len(rows)
    try:
        return list(store._array(name)[rows.start : rows.stop])
    except Exception as error:  # zarr raises whatever damaged bytes lead it to
        whole = Problem("damaged", where, _brief(error))
    found = [_one(store, name, row) for row in rows]
    if all(isinstance(f, str) for f in found):  # the shard's index, say
        yield whole
    else:
        yield from (Problem("damaged", names[row], f) for row, f in zip(rows, found, strict=True) if isinstance(f, str))
    return [None if isinstance(f, str) else f for f in found]


def _one(store: Store, name: str, row: int) -> Array | str:
    """What an array holds of one clip, or why it does not read."""
    try:
        return np.asarray(store._array(name)[row])
    except Exception as error:  # as above
        return _brief(error)


def _wrong_values(features: Array, record: ClipRecord) -> tuple[ProblemKind, str] | None:
    if record.excluded:
        wrong = not np.isnan(features).all()
        return ("different", f"it holds values, and the ledger excludes it: {record.excluded}") if wrong else None
    if np.isnan(features).all():
        return "missing", "its chunk is not in the shard"
    if not np.isfinite(features).all():
        return "different", "its values are not finite"
    if value_digest(features) != record.values:
        return "different", "its values are not those that the ledger has the SHA-256 of"
    return None


def _statistics(
    clip: str, features: Array, mean: Array | None, variance: Array | None, *, timed: bool
) -> Iterator[Problem]:
    """Mean and variance over time are those of the values, to the last digits of float64."""
    expected = time_statistics(features, timed=timed)
    scale = float(np.nan_to_num(np.abs(features)).max())  # an excluded clip is NaN
    for name, found, right, size in zip(
        ("mean", "variance"), (mean, variance), expected, (scale, scale**2), strict=True
    ):
        if found is not None and not np.allclose(found, right, 0, STATISTICS_TOLERANCE * size, equal_nan=True):
            yield Problem("different", clip, f"its {name} is not that of its values")


def _seal(store: Store) -> Iterator[Problem]:
    """The seal's counts and digest, and ``usable``, are what the ledger says; nothing where the ledger is not whole."""
    assert store.seal is not None
    usable = yield from _whole(store, "usable")
    try:
        records, digest = [r for r in store.records() if r is not None], store.digest()
    except (StoreError, ValidationError):
        return
    if len(records) != store.header.clips:
        return
    if usable is not None and usable.tolist() != [not r.excluded for r in records]:
        yield Problem("different", "usable", "it does not name the clips that the ledger says hold values")
    reasons = Counter(r.excluded for r in records if r.excluded)
    for name, sealed, found in (
        ("usable clips", store.seal.usable, len(records) - reasons.total()),
        ("excluded clips", dict(store.seal.excluded), dict(sorted(reasons.items()))),
        ("digest", store.seal.digest, digest),
    ):
        if sealed != found:
            yield Problem("different", "seal", f"{name}: sealed {sealed}, header and ledger give {found}")


def _table_names(store: Store) -> list[str]:
    return ["clip", *PROPERTIES, *(f"split_{s}" for s in store.header.splits)]


def _whole(store: Store, name: str) -> Found[Array | None]:
    """All values of a small array, or None where it does not read."""
    try:
        array = store._array(name)
        counts = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
        files = [store.path.joinpath(name, "c", *map(str, at)) for at in itertools.product(*map(range, counts))]
        gone = [file for file in files if not file.is_file()]
        if not gone:
            return np.asarray(array[:])
    except Exception as error:  # zarr raises whatever damaged bytes lead it to
        yield Problem("damaged", name, _brief(error))
        return None
    yield from (Problem("missing", name, f"there is no file {_relative(store, file)}") for file in gone)
    return None


def _relative(store: Store, file: Path) -> str:
    return file.relative_to(store.path).as_posix()


def _brief(error: Exception) -> str:
    """The first line of what a library says of damaged bytes."""
    return (str(error).splitlines() or [type(error).__name__])[0]
