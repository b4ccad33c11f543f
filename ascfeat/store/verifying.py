"""Verifying a sealed store against itself: every file, digest, statistic and count, and what is wrong by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from ascfeat.store import chunks, metadata
from ascfeat.store.beneath import strangers
from ascfeat.store.chunks import Damaged
from ascfeat.store.creating import document
from ascfeat.store.encoding import decode, number_digest
from ascfeat.store.metadata import LEDGER, ROOT, SPARE
from ascfeat.store.places import Folder, Place, open_place
from ascfeat.store.reading import HEADER, SEAL, Store, open_store, table_names, unit_rows
from ascfeat.store.shards import ShardReader
from ascfeat.store.table import table_digest
from ascfeat.store.writing import node_names, time_statistics
from ascfeat.work import ordered
from ascschemas.base import canonical_json
from ascschemas.problems import StoreError
from ascschemas.store import ClipRecord, Seal, StoreHeader, UnitRecord

ProblemKind = Literal["missing", "damaged", "different"]
"""A file that is not there; bytes that do not read; values that read well and are not those that were written."""
Part = Literal["root", "structure", "unit", "seal"]
"""What heals it: the root's copy; the dataset's list; computing the unit again; sealing again."""
STATISTICS_TOLERANCE = 1e-9
"""Relative: sums in float64 come out otherwise in their last digits on another machine, and no further."""

Array = npt.NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a store."""

    kind: ProblemKind
    where: str
    """A clip, a unit, an array or a file."""
    detail: str
    """What is wrong with it."""
    part: Part = "unit"
    """What heals it."""
    unit: int | None = None
    """The unit that is concerned, where it is one."""

    def __str__(self) -> str:
        return f"{self.kind:<9}  {self.where}: {self.detail}"


Found = Generator[Problem, None, T]
"""Yields problems, and returns what could be read all the same."""


def root_problems(place: Place) -> Iterator[Problem]:
    """What is wrong with the root's document and its copy, by their own digests; a store may not open with them."""
    found = {key: _root(place, key) for key in (ROOT, SPARE)}
    for _, problem in found.values():
        if problem is not None:
            yield problem
    (root, bad), (spare, worse) = found[ROOT], found[SPARE]
    if bad is None and worse is None and root != spare:
        yield Problem("different", SPARE, f"it is not a copy of {ROOT}", "root")


def sound_root(place: Place) -> bytes | None:
    """The root's document, or the copy of it where only that is whole; None where neither is."""
    return next((data for key in (ROOT, SPARE) for data, problem in [_root(place, key)] if problem is None), None)


def open_to_verify(place: Place | Path | str) -> Store:
    """A sealed store, by the copy of its root where the root is damaged, so that all that is wrong can be told.

    Raises
    ------
    StoreError
        As ``open_store``, when neither is whole.
    """
    place = open_place(place)
    try:
        return open_store(place)
    except StoreError:
        sound = sound_root(place)
        if sound is None or SEAL not in (root := metadata.parse(sound))["attributes"]:
            raise
        return _Described(place, root)


def verify(store: Store, *, threads: int = 1, progress: Callable[[int], None] = lambda done: None) -> Iterator[Problem]:
    """Read all of a store and yield what is wrong with it; nothing is written.

    Parameters
    ----------
    store : Store
        From ``open_to_verify`` or ``open_store``, so that it is sealed.
    threads : int
        Units read at once.
    progress : callable
        Given the number of clips that are done.

    Raises
    ------
    StoreError
        When it is removed meanwhile, or written anew.
    """
    try:
        yield from _verified(store, threads, progress)
    except FileNotFoundError as error:  # what is only missing is a problem; this was there a moment ago
        raise StoreError(
            f"{store.place} was written anew, or removed, while it was verified: {error.filename} is gone.",
            todo="Verify it again when nobody writes it.",
        ) from None


def _verified(store: Store, threads: int, progress: Callable[[int], None]) -> Iterator[Problem]:
    found = list(_strangers(store.place))
    yield from found
    if found:  # nothing is read through them, and what is behind them cannot be told
        return
    wrong = list(root_problems(store.place))
    yield from wrong
    sound = sound_root(store.place)
    store = _described(store, sound) if wrong else store
    yield from _metadata(store, sound, whole=not any(p.where == ROOT for p in wrong))
    names = yield from _table(store)
    yield from _coordinates(store)
    units = ordered(lambda unit: list(_unit(store, unit, names)), range(store.header.units), threads=threads)
    for unit, problems in enumerate(units):
        yield from problems
        progress(unit_rows(store.header, unit)[1])
    yield from _seal(store)


def _strangers(place: Place) -> Iterator[Problem]:
    """What a store of files and folders may not hold."""
    for key, what in strangers(place.path) if isinstance(place, Folder) else ():
        yield Problem("different", key, f"it is {what}, and a store holds files and folders only", "structure")


def _root(place: Place, key: str) -> tuple[bytes, Problem | None]:
    """A root document's bytes, and what is wrong with them."""
    try:
        size = place.size(key)
        data = place.read(key) if size <= metadata.ROOT_BYTES else b""
    except FileNotFoundError:
        return b"", Problem("missing", key, "there is no such file", "root")
    if size > metadata.ROOT_BYTES:
        return data, Problem(
            "damaged", key, f"it is {size:,} bytes, and none is larger than {metadata.ROOT_BYTES:,}", "root"
        )
    try:
        root = metadata.parse(data)
        whole = document(root) == data and root["attributes"].get(metadata.CHECK) == metadata.root_digest(root)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return data, Problem("damaged", key, f"it does not read: {_brief(error)}", "root")
    return data, None if whole else Problem("damaged", key, "it does not match its digest", "root")


class _Described(Store):
    """A store by a root document that is not its own."""

    def __init__(self, place: Place, root: Mapping[str, Any]) -> None:
        self.place, self._attributes = place, root["attributes"]
        self.header = StoreHeader.model_validate(self._attributes[HEADER])
        self.seal = Seal.model_validate(self._attributes[SEAL])
        self.layout = self.header.layout
        self._shards = ShardReader(place, self.header)
        self._version = self._root_version()  # whatever is there: it is damaged, and not written anew


def _described(store: Store, root: bytes | None) -> Store:
    """The store as its sound root, or the copy of it, describes it: a damaged header is no measure of the rest."""
    as_opened = _Described(store.place, {"attributes": store._attributes})
    try:
        found = as_opened if root is None else _Described(store.place, metadata.parse(root))
    except (KeyError, ValidationError):
        return as_opened
    return as_opened if metadata.header_problems(found.header) else found


def _metadata(store: Store, sound: bytes | None, *, whole: bool) -> Iterator[Problem]:
    """Every array's own metadata is there, fits the header, and is byte for byte what the root says of it.

    A root that is not whole is named already: instead of what it says, that of its copy is looked at.
    """
    names, named = node_names(store.header), set()
    for name, problem in metadata.problems(store.place, store.header, root=whole):
        named.add(name)
        kind = _state(store.place, f"{name}/{ROOT}") if name in names else "different"
        yield Problem(kind, name, problem, "structure")
    copies = _copies(sound)
    for name in names:
        if name in copies and name not in named and store.place.read(f"{name}/{ROOT}") != document(copies[name]):
            yield Problem("damaged", name, f"its {ROOT} is not byte for byte what the root says of it", "structure")


def _copies(root: bytes | None) -> Mapping[str, Any]:
    """What a root says of the groups and arrays below it."""
    try:
        copies = metadata.parse(root or b"")["consolidated_metadata"]["metadata"]
    except (ValueError, KeyError, TypeError):
        return {}
    return copies if isinstance(copies, dict) else {}


def _state(place: Place, key: str) -> ProblemKind:
    """Whether a JSON document is missing, damaged, or reads well and is then another one."""
    try:
        metadata.parse(place.tail(key, metadata.ARRAY_BYTES))  # a longer one is cut, and does not read
    except FileNotFoundError:
        return "missing"
    except ValueError:
        return "damaged"
    return "different"


def _table(store: Store) -> Found[Sequence[str]]:
    """Problems of the string arrays; the clips' names, or their numbers where they do not read."""
    table = {}
    for name in table_names(store.header):
        try:
            table[name] = list(store._strings(name))
        except StoreError as error:
            yield _unread(store, name, error, "structure")
    if len(table) == len(table_names(store.header)) and table_digest(table) != store.header.table:
        yield Problem("different", "ids, labels, devices, places or splits", "not those of the header", "structure")
    ids = table.get("clip", [])
    return ids if len(ids) == store.header.clips else [f"clip {i}" for i in range(store.header.clips)]


def _coordinates(store: Store) -> Iterator[Problem]:
    """Coordinates are those of the header's layout."""
    for axis in store.layout.axes:
        values = axis.coordinates()
        try:
            if isinstance(values[0], str):
                same = list(store._strings(axis.name, axis.size)) == list(values)
            else:
                same = store._content(axis.name) == np.array(values, "<f8").tobytes()
        except StoreError as error:
            yield _unread(store, axis.name, error, "structure")
            continue
        if not same:
            yield Problem("different", axis.name, "its coordinates are not those of the header's layout", "structure")


def _unit(store: Store, unit: int, names: Sequence[str]) -> Iterator[Problem]:
    """Problems of a unit's files and clips; a clip whose values are wrong has no second problem of its statistics."""
    rows = range(*unit_rows(store.header, unit))
    record = yield from _record(store, unit, len(rows))
    numbers = yield from _shard(store, unit, names)
    means = yield from _block(store, "mean", unit, names)
    variances = yield from _block(store, "variance", unit, names)
    for i, (row, found, mean, variance) in enumerate(zip(rows, numbers, means, variances, strict=True)):
        wrong = found is not None and record is not None and _wrong_values(store, found, record.clips[i])
        if wrong:
            yield Problem(wrong[0], names[row], wrong[1], unit=unit)
        elif found is not None and record is not None:
            values = _values(store, found, record.clips[i])
            yield from _statistics(names[row], values, mean, variance, timed=store.layout.timed, unit=unit)


def _record(store: Store, unit: int, clips: int) -> Found[UnitRecord | None]:
    where, key = f"ledger record {unit}", store.header.chunk(LEDGER, unit)
    try:
        text = store._record_text(unit)
        record = UnitRecord.model_validate_json(text) if text else None
    except StoreError as error:
        yield _unread(store, where, error, "unit", unit=unit)
        return None
    except ValidationError as error:
        yield Problem("damaged", where, f"it is no record of a unit: {error.errors()[0]['msg']}", unit=unit)
        return None
    if record is None:
        there = store.place.exists(key)
        said = "it is empty" if there else f"there is no file {key}"
        yield Problem("different" if there else "missing", where, said, unit=unit)
        return None
    if (record.unit, len(record.clips)) != (unit, clips):
        found = f"unit {record.unit} of {len(record.clips)} clips"
        yield Problem("different", where, f"it speaks of {found}, not of unit {unit} of {clips} clips", unit=unit)
        return None
    if canonical_json(record) != text:
        yield Problem("different", where, "it is not in its canonical form", unit=unit)
    return record


def _shard(store: Store, unit: int, names: Sequence[str]) -> Found[list[Array | None]]:
    """The numbers of each clip of a unit; None where they do not read."""
    rows, key = range(*unit_rows(store.header, unit)), store.header.chunk("features", unit)
    nothing: list[Array | None] = [None] * len(rows)
    where = f"features of {names[rows[0]]} … {names[rows[-1]]}"
    try:
        data = metadata.read_chunk(store.place, store.header, key)
        index = chunks.index_of(data[-chunks.index_size(store.header.clips_per_unit) :], store.header.clips_per_unit)
    except FileNotFoundError:
        yield Problem("missing", where, f"there is no file {key}", unit=unit)
        return nothing
    except (Damaged, StoreError) as error:
        yield Problem("damaged", where, _why(store, key, error), unit=unit)
        return nothing
    out = np.empty((len(rows), *store.layout.shape), store.header.encoding.dtype)
    failed = store._shards.unpacked(data, index, out)
    for i, why in failed.items():
        kind: ProblemKind = "missing" if index[i, 0] == chunks.ABSENT else "damaged"
        yield Problem(kind, names[rows[i]], f"{why} ({key})", unit=unit)
    held = index[: len(rows)][index[: len(rows), 0] != chunks.ABSENT]
    if not failed and int(held[:, 1].sum()) + chunks.index_size(len(index)) != len(data):
        yield Problem("different", where, f"{key} holds more than its chunks and its index", unit=unit)
    return [None if i in failed else out[i] for i in range(len(rows))]


def _block(store: Store, name: str, unit: int, names: Sequence[str]) -> Found[Sequence[Array | None]]:
    """What a unit holds of each of its clips in a statistic; None where that does not read."""
    rows, key = range(*unit_rows(store.header, unit)), store.header.chunk(name, unit)
    where = f"{name} of {names[rows[0]]} … {names[rows[-1]]}"
    shape = (store.header.clips_per_unit, *store.layout.band_shape)
    try:
        block = np.frombuffer(chunks.content(metadata.read_chunk(store.place, store.header, key)), "<f8").reshape(shape)
    except FileNotFoundError:
        yield Problem("missing", where, f"there is no file {key}", unit=unit)
        return [None] * len(rows)
    except (ValueError, StoreError) as error:
        yield Problem("damaged", where, _why(store, key, error), unit=unit)
        return [None] * len(rows)
    return list(block[: len(rows)])


def _wrong_values(store: Store, numbers: Array, record: ClipRecord) -> tuple[ProblemKind, str] | None:
    if record.excluded:
        wrong = not _is_missing(numbers).all()
        return ("different", f"it holds values, and the ledger excludes it: {record.excluded}") if wrong else None
    if number_digest(numbers) == record.values:
        finite = bool(np.isfinite(_values(store, numbers, record)).all())
        return None if finite else ("different", "its values are not finite")
    if _is_missing(numbers).all():
        return "missing", "its values are those of a clip that has none"
    if not numbers.any():
        return "different", "its values are all zero, and the ledger has the SHA-256 of others"
    if not np.isfinite(_values(store, numbers, record)).all():
        return "different", "its values are not finite"
    return "different", "its values are not those that the ledger has the SHA-256 of"


def _is_missing(numbers: Array) -> Array:
    """Where numbers say that there is no value."""
    gone: Array = np.isnan(numbers) if numbers.dtype.kind == "f" else numbers == np.iinfo(numbers.dtype).min
    return gone


def _values(store: Store, numbers: Array, record: ClipRecord) -> Array:
    """Values of a clip's numbers; NaN where it is excluded."""
    values = np.empty(numbers.shape, np.float32)
    decode(numbers, store.header.encoding, values)
    if record.excluded:
        values[...] = np.nan
    return values


def _statistics(
    clip: str, features: Array, mean: Array | None, variance: Array | None, *, timed: bool, unit: int
) -> Iterator[Problem]:
    """Mean and variance over time are those of the values, to the last digits of float64."""
    expected = time_statistics(features, timed=timed)
    scale = float(np.nan_to_num(np.abs(features)).max())  # an excluded clip is NaN
    for name, found, right, size in zip(
        ("mean", "variance"), (mean, variance), expected, (scale, scale**2), strict=True
    ):
        if found is not None and not np.allclose(found, right, 0, STATISTICS_TOLERANCE * size, equal_nan=True):
            yield Problem("different", clip, f"its {name} is not that of its values", unit=unit)


def _seal(store: Store) -> Iterator[Problem]:
    """The seal's counts and digest, and ``usable``, are what the ledger says; nothing where the ledger is not whole."""
    assert store.seal is not None
    usable: Array | None = None
    try:
        usable = np.frombuffer(store._content("usable"), bool)
    except StoreError as error:
        yield _unread(store, "usable", error, "seal")
    try:
        records, digest = _ledger(store)
    except (StoreError, ValidationError):
        return
    if len(records) != store.header.clips:
        return
    if usable is not None and usable.tolist() != [not r.excluded for r in records]:
        yield Problem("different", "usable", "it does not name the clips that the ledger says hold values", "seal")
    reasons = Counter(r.excluded for r in records if r.excluded)
    off = [r.error for r in records if r.error is not None]
    for name, sealed, found in (
        ("usable clips", store.seal.usable, len(records) - reasons.total()),
        ("excluded clips", dict(store.seal.excluded), dict(sorted(reasons.items()))),
        ("error", store.seal.error, max(off) if off else None),
        ("digest", store.seal.digest, digest),
    ):
        if sealed != found:
            yield Problem("different", "seal", f"{name}: sealed {sealed}, header and ledger give {found}", "seal")


def _ledger(store: Store) -> tuple[list[ClipRecord], str]:
    """Records of the clips whose units are done, and the digest of header and ledger.

    Records are taken in their canonical form: one that is in another is named as such, and says the same.
    """
    records: list[ClipRecord] = []
    whole = store._header_digest()
    for unit in range(store.header.units):
        record = store.unit_record(unit)
        if record is not None:
            records += record.clips
            whole.update(canonical_json(record).encode())
    return records, whole.hexdigest()


def _unread(store: Store, name: str, error: StoreError, part: Part, *, unit: int | None = None) -> Problem:
    """The problem of an array, or of a record, that the reader refuses; in its words, without the store's."""
    why = _why(store, name, error)
    state, _, reason = why.removeprefix(f"{name} ").partition(": ")
    return Problem("missing" if state == "is missing" else "damaged", name, reason or why, part, unit)


def _why(store: Store, name: str, error: Exception) -> str:
    """What is wrong with a file: the reader's words, without the store's; or what is said of its bytes."""
    if isinstance(error, StoreError):
        return error.what.removeprefix(f"{store.place} cannot be used: ").removesuffix(".")
    return f"{name}: {error}"


def _brief(error: Exception) -> str:
    """The first line of what is said of damaged bytes."""
    return (str(error).splitlines() or [type(error).__name__])[0]
