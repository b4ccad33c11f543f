"""What the metadata of a store's arrays must be, given its header; compared before zarr-python opens any of them."""

from __future__ import annotations

import errno
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ascfeat.store.chunks import Damaged
from ascfeat.store.encoding import LEAST
from ascfeat.store.places import Folder, Place
from ascfeat.store.table import PROPERTIES
from ascschemas.base import canonical_json
from ascschemas.layout import Axis
from ascschemas.problems import Difference, StoreError, differences
from ascschemas.store import Encoding, StoreHeader

CHECK: Final = "ascfeat_sha256"
"""The root's attribute that holds the digest of the root's document."""
ROOT: Final = "zarr.json"
"""The root's metadata; an array's have the same name in its folder."""
SPARE: Final = "ledger/root.json"
"""A copy of the root's metadata, which it is restored from when it is damaged."""
COEFFICIENTS: Final = "coefficients+"
"""What names of stores of coefficients begin with; they hold no clips, and no command takes them for such."""
COPY: Final = "copy"
"""How what says, beside a store, that a copy to there is not finished ends."""
ROOT_BYTES: Final = 4 << 20
"""Largest metadata of a root: header, seal, and a copy of the metadata of every array."""
ARRAY_BYTES: Final = 1 << 18
"""Largest metadata of one array."""
DEEPEST: Final = 32
"""Levels of metadata; the root's copy of the codecs of shards has eleven."""
MOST: Final = {
    "clips": 100_000_000,
    "units": 10_000_000,
    "clips of one unit": 1 << 20,
    "splits": 1000,
    "axes": 8,
    "points of an axis": 1 << 26,
    "values of one clip": 1 << 29,
    "values of one unit": 1 << 31,
}
"""Largest extents of a store: fifty times AudioSet; a clip of 2 GiB; a unit of 8 GiB, in float32."""
STRINGS_PER_CHUNK: Final = 1 << 16
"""Clips in one chunk of a label array."""
LONG_AXIS: Final = 1 << 16
"""Points of an axis above which its coordinates are looked for when a store is opened."""
STRING_BYTES: Final = 4096
"""Most bytes that a string takes on average in a chunk of them."""
RECORD_BYTES: Final = 8192
"""Most bytes that a clip takes in a ledger record."""
STATISTICS: Final = ("mean", "variance")
LEDGER: Final = "ledger/record"
GROUPS: Final = ("ledger",)

NO_COPIES: Final = {"kind": "inline", "must_understand": False, "metadata": {}}
"""What a root's copy of a group says of the arrays in it: they stand beside it."""
CHECKED: Final = {"name": "crc32c"}
LITTLE: Final = {"name": "bytes", "configuration": {"endian": "little"}}
ITEMS: Final = {"float16": 2, "float32": 4, "float64": 8, "int16": 2, "int32": 4, "bool": 1}
"""Bytes of one number."""
OUTSIDE_SHARDS: Final = 20
"""Bytes by which a chunk may be larger than its numbers: blosc's header and a checksum."""


def copy_mark(place: Place) -> str:
    """The name, beside a store, of what says that a copy to there is not finished."""
    return f".{place.name}.{COPY}"


def read_root(place: Place) -> dict[str, Any]:
    """The root's metadata, parsed.

    Raises
    ------
    FileNotFoundError
        When there is none.
    StoreError
        When it is no JSON that a store can have.
    """
    return _read(place, ROOT, ROOT_BYTES)


def root_digest(root: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of a root's document without this digest, which stands in it as ``CHECK``."""
    attributes = {k: v for k, v in root["attributes"].items() if k != CHECK}
    return hashlib.sha256(canonical_json({**root, "attributes": attributes}).encode()).hexdigest()


def parse(data: bytes) -> dict[str, Any]:
    """A JSON object, strictly: every key once, no NaN, no nesting that exhausts the stack.

    Raises
    ------
    ValueError
        When it is anything else, with the reason.
    """
    try:
        found = json.loads(data, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError(f"it is no object but {type(found).__name__}")
    if _deeper(found, DEEPEST):
        raise ValueError("it is nested too deep")
    return found


def check_header(place: Place, header: StoreHeader) -> None:
    """Refuse a header whose extents cannot be, or that the store has no names for; to be called when it is opened.

    Where it speaks of more than 65,536 clips or points of an axis, one file is looked for: their names and coordinates
    are on disk, so a header of a few bytes cannot keep its reader busy with millions of them.

    Raises
    ------
    StoreError
        With every reason.
    """
    wrong = header_problems(header) or [*_name_count_problems(place, header), *_long_axis_problems(place, header)]
    if wrong:
        raise _refusal(place, f"its header cannot be meant: {'; '.join(wrong)}")


def header_problems(header: StoreHeader) -> list[str]:
    """What keeps a header from being any store's: extents out of all bounds, and names that would collide."""
    return [*_extent_problems(header), *_name_problems(header), *_encoding_problems(header)]


def array_names(header: StoreHeader) -> tuple[str, ...]:
    """Every array of a store, by its path in the group."""
    table = ("clip", *PROPERTIES, *(f"split_{split}" for split in header.splits))
    return ("features", *STATISTICS, *table, "usable", *(axis.name for axis in header.layout.axes), LEDGER)


def metadata(header: StoreHeader, name: str) -> dict[str, Any]:
    """The whole ``zarr.json`` of an array, as ``ascfeat.store.create`` writes it.

    Parameters
    ----------
    header : StoreHeader
        The store's, without problems.
    name : str
        One of ``array_names(header)``.
    """
    if name == "features":
        return _features(header)
    if name in STATISTICS:
        return _statistics(header, name)
    if name == LEDGER:
        return _strings((header.units,), (1,), "unit")
    if name == "usable":
        return _array((header.clips,), (header.clips,), ("clip",), "bool", False, [{"name": "bytes"}, CHECKED])
    axis = header.layout.axis(name)
    if axis is not None:
        return _coordinate(axis)
    return _strings((header.clips,), (min(header.clips, STRINGS_PER_CHUNK),), "clip")


def array_differences(header: StoreHeader, name: str, found: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Every field in which an array's metadata, parsed, are not what the header asks for."""
    wrong = differences(_texts(_normal(metadata(header, name))), _texts(_normal(found)))
    return tuple(d.model_copy(update={"field": d.field.replace(".[", "[")}) for d in wrong)


def array_problems(header: StoreHeader, name: str, found: Mapping[str, Any]) -> list[str]:
    """The same as sentences; none where all is well."""
    wrong = array_differences(header, name, found)
    return [f"its {d.field} is {d.found}, the header asks for {d.expected}" for d in wrong]


def check(place: Place, header: StoreHeader, name: str) -> None:
    """Refuse an array whose metadata are not what the header asks for; to be called before it is opened.

    Raises
    ------
    StoreError
        With every field that differs.
    """
    try:
        wrong = array_differences(header, name, _read(place, f"{name}/{ROOT}", ARRAY_BYTES))
    except FileNotFoundError as error:
        raise _refusal(place, f"there is no {name}/{ROOT}") from error
    if wrong:
        raise _refusal(place, f"the array {name} is not what its header asks for", wrong)


def problems(place: Place, header: StoreHeader, *, root: bool = True) -> Iterator[tuple[str, str]]:
    """Everything that is wrong with the metadata of a store, array by array: ``(file or array, what)``.

    Parameters
    ----------
    place : Place
        The store.
    header : StoreHeader
        Its header, without problems.
    root : bool
        Whether to look at what the root says of itself and of the arrays; not where it is known to be damaged.
    """
    copies, absent = {}, True
    try:
        found = read_root(place) if root else {"zarr_format": 3, "node_type": "group"}
        copies, absent = _consolidated(found), "consolidated_metadata" not in found
        yield from ((ROOT, problem) for problem in _group_problems(found, consolidated=True))
    except (FileNotFoundError, StoreError) as error:
        yield ROOT, str(error).split("\n", 1)[0]
    known = array_names(header)
    yield from (
        (name, "the root speaks of it, and no store has it") for name in copies if name not in {*known, *GROUPS}
    )
    for name in (*GROUPS, *known):
        yield from ((name, problem) for problem in _found_problems(place, header, name, copies.get(name), absent))


def most_bytes(header: StoreHeader, name: str) -> int:
    """Size that no file of a chunk or shard of an array exceeds; to be compared before one is read whole."""
    said = metadata(header, name)
    shape: list[int] = said["chunk_grid"]["configuration"]["chunk_shape"]
    if said["data_type"] == "string":
        each = RECORD_BYTES * header.clips_per_unit if name == LEDGER else STRING_BYTES
        return (1 << 16) + each * math.prod(shape)
    chunks = shape[0] if name == "features" else 1
    return ITEMS[said["data_type"]] * math.prod(shape) + chunks * (OUTSIDE_SHARDS + 16) + OUTSIDE_SHARDS


def read_chunk(place: Place, header: StoreHeader, key: str) -> bytes:
    """A file of a chunk or shard, whole; never more of it than it can have.

    Parameters
    ----------
    place : Place
        The store.
    header : StoreHeader
        Its header, without problems.
    key : str
        From ``header.chunk``, or ``<array>/c/<n>``.

    Raises
    ------
    FileNotFoundError
        When there is none.
    StoreError
        When it is larger.
    Damaged
        When the disk does not give it back.
    """
    most = most_bytes(header, key.partition("/c/")[0])
    try:
        if isinstance(place, Folder):
            size = place.size(key)
            data = place.read(key) if size <= most else b""
        else:  # one request tells both
            data = place.tail(key, most + 1)
            size = len(data)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise Damaged(f"the disk does not give it back: {error.strerror}") from error
    if size > most:
        raise _refusal(place, f"{key} is larger than the {most:,} bytes that it can have")
    return data


def _read(place: Place, key: str, most: int) -> dict[str, Any]:
    """A JSON file, never more of it than may be."""
    try:
        return _parsed(place, key, most)
    except ValueError as error:
        raise _refusal(place, f"{key} {error}") from error


def _parsed(place: Place, key: str, most: int) -> dict[str, Any]:
    """The same; a ValueError says in a predicate what is wrong with it."""
    size = place.size(key)
    if size > most:
        raise ValueError(f"is {size:,} bytes, and no store has more than {most:,} there")
    try:
        return parse(place.tail(key, size))
    except ValueError as error:
        raise ValueError(f"does not read: {error}") from error


def _found_problems(place: Place, header: StoreHeader, name: str, copy: object, absent: bool) -> Iterator[str]:
    """Problems of an array's or group's own file, and of the root's copy of it."""
    try:
        found = _parsed(place, f"{name}/{ROOT}", ARRAY_BYTES)
    except FileNotFoundError:
        yield f"there is no {ROOT} in its folder"
        return
    except ValueError as error:
        yield f"its {ROOT} {error}"
        return
    wrong = [*(_group_problems(found) if name in GROUPS else array_problems(header, name, found))]
    yield from wrong
    if not wrong and not absent and (not isinstance(copy, dict) or _texts(_normal(copy)) != _texts(_normal(found))):
        yield f"its {ROOT} is not what the store's root says of it"


def _group_problems(found: Mapping[str, Any], *, consolidated: bool = False) -> Iterator[str]:
    """A group says that it is one, and nothing else; only the root has attributes and copies."""
    expected: dict[str, Any] = {"zarr_format": 3, "node_type": "group"}
    if not consolidated:
        expected["attributes"] = {}
    rest = {k: v for k, v in found.items() if not (consolidated and k in ("attributes", "consolidated_metadata"))}
    for d in differences(_texts(expected), _texts({k: v for k, v in rest.items() if v is not None})):
        yield f"its {d.field} is {d.found}, and should be {d.expected}"


def _consolidated(root: Mapping[str, Any]) -> dict[str, Any]:
    """What a root says of its arrays, by name; nothing where it says it in a form that no reader knows."""
    said = root.get("consolidated_metadata")
    copies = said.get("metadata") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(copies, dict):
        return {}
    return copies if {**said, "metadata": {}} == NO_COPIES else {}


def _features(header: StoreHeader) -> dict[str, Any]:
    layout, how = header.layout, header.encoding
    shape = layout.shape
    inner = {
        "chunk_shape": [1, *shape],
        "codecs": [LITTLE, *_compressors(header), CHECKED],
        "index_codecs": [LITTLE, CHECKED],
        "index_location": "end",
    }
    table = (*PROPERTIES, *(f"split_{split}" for split in header.splits), "usable")
    said = {"long_name": layout.quantity, "coordinates": " ".join(table), **packing(how)}
    fill = LEAST.get(how.dtype, "NaN")
    shard = [{"name": "sharding_indexed", "configuration": inner}]
    names = ("clip", *(axis.name for axis in layout.axes))
    whole, unit = (header.clips, *shape), (header.clips_per_unit, *shape)
    return _array(whole, unit, names, how.dtype, fill, shard, said)


def packing(how: Encoding) -> dict[str, Any]:
    """How to unpack numbers, by the CF conventions, which xarray follows by itself."""
    if (how.scale, how.offset) == (1.0, 0.0):
        return {}
    missing = {} if how.missing is None else {"_FillValue": how.missing}
    return {"scale_factor": how.scale, "add_offset": how.offset, **missing}


def _compressors(header: StoreHeader) -> list[dict[str, Any]]:
    if not header.encoding.compress:
        return []
    size = ITEMS[header.encoding.dtype]
    said = {"typesize": size, "cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0}
    return [{"name": "blosc", "configuration": said}]


def _statistics(header: StoreHeader, name: str) -> dict[str, Any]:
    layout = header.layout
    names = ("clip", *(axis.name for axis in layout.bands))
    said = {"long_name": f"{name} of features over time" if layout.timed else f"{name} of features"}
    whole, unit = (header.clips, *layout.band_shape), (header.clips_per_unit, *layout.band_shape)
    return _array(whole, unit, names, "float64", "NaN", [LITTLE, CHECKED], said)


def _coordinate(axis: Axis) -> dict[str, Any]:
    if axis.values is not None and isinstance(axis.values[0], str):
        return _strings((axis.size,), (min(axis.size, STRINGS_PER_CHUNK),), axis.name)
    said = {"units": axis.unit} if axis.unit else {}
    return _array((axis.size,), (axis.size,), (axis.name,), "float64", 0.0, [LITTLE, CHECKED], said)


def _strings(shape: tuple[int, ...], chunk: tuple[int, ...], dimension: str) -> dict[str, Any]:
    return _array(shape, chunk, (dimension,), "string", "", [{"name": "vlen-utf8"}, CHECKED])


def _array(
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    names: tuple[str, ...],
    dtype: str,
    fill: object,
    codecs: list[dict[str, Any]],
    attributes: Mapping[str, Any] = {},
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": dict(attributes),
        "dimension_names": list(names),
    }


def _normal(said: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata in one form: what the specification lets a writer leave out or write twice is left out."""
    whole = {key: _without_empty(value) for key, value in said.items()}
    if whole.get("storage_transformers") == []:
        del whole["storage_transformers"]
    if whole.get("consolidated_metadata") == NO_COPIES:
        del whole["consolidated_metadata"]
    return {"attributes": {}, **whole}


def _without_empty(value: Any) -> Any:
    """Without the empty ``configuration`` of a codec that has none to tell; nothing else is touched."""
    if isinstance(value, list):
        return [_without_empty(v) for v in value]
    if not isinstance(value, dict):
        return value
    return {k: _without_empty(v) for k, v in value.items() if (k, v) != ("configuration", {})}


def _texts(value: Any) -> Any:
    """Leaves as JSON text: ``1``, ``1.0`` and ``true`` are equal in Python and are not the same metadata."""
    if value and isinstance(value, dict):
        return {k: _texts(v) for k, v in value.items()}
    if value and isinstance(value, list):
        return {f"[{i}]": _texts(v) for i, v in enumerate(value)}
    return json.dumps(value)


def _name_count_problems(place: Place, header: StoreHeader) -> Iterator[str]:
    """Where there are many clips, the last chunk of names is there and has room for the length of each in it."""
    key = f"clip/c/{(header.clips - 1) // STRINGS_PER_CHUNK}"
    try:
        if header.clips > STRINGS_PER_CHUNK and place.size(key) < 4 * STRINGS_PER_CHUNK:
            yield f"it speaks of {header.clips:,} clips, and {key} has no room for so many names"
    except FileNotFoundError:
        yield f"it speaks of {header.clips:,} clips, and there is no file {key}"


def _long_axis_problems(place: Place, header: StoreHeader) -> Iterator[str]:
    """An axis that is not listed in the header has its coordinates on disk; looked for where they are many."""
    for axis in header.layout.axes:
        key, size = f"{axis.name}/c/0", 8 * axis.size + 4
        long = axis.values is None and axis.size > LONG_AXIS
        if long and not (place.exists(key) and place.size(key) == size):
            yield f"it speaks of {axis.size:,} points of {axis.name}, and {key} does not hold so many"


def _extent_problems(header: StoreHeader) -> Iterator[str]:
    layout = header.layout
    values = math.prod(layout.shape)
    found = {
        "clips": header.clips,
        "units": header.units,
        "clips of one unit": header.clips_per_unit,
        "splits": len(header.splits),
        "axes": len(layout.axes),
        "points of an axis": max(layout.shape),
        "values of one clip": values,
        "values of one unit": values * header.clips_per_unit,
    }
    for what, count in found.items():
        if count > MOST[what]:
            yield f"it speaks of {count:,} {what}, and no store has more than {MOST[what]:,}"


def _name_problems(header: StoreHeader) -> Iterator[str]:
    """An axis or split whose array would be another's, or look like a file that is not published."""
    names = Counter(name.casefold() for name in (*array_names(header), *GROUPS, ROOT))
    taken = {name for name, times in names.items() if times > 1}
    for name in (*(axis.name for axis in header.layout.axes), *(f"split_{split}" for split in header.splits)):
        if name.casefold() in taken or name.casefold().endswith(".partial"):
            yield f"it has an axis or split called {name!r}, which cannot be the name of an array of its own"


def _encoding_problems(header: StoreHeader) -> Iterator[str]:
    how = header.encoding
    if not 1e-12 <= how.scale <= 1e12 or abs(how.offset) > 1e12:
        yield f"its values are said to be number x {how.scale} + {how.offset}"
    if how.missing is not None and how.dtype not in ("int16", "int32"):
        yield f"the {how.dtype} number {how.missing} is said to stand for missing values"


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects lie in each other in more levels than so many."""
    level = [value]
    for _ in range(levels):
        inside = [v for c in level for v in (c.values() if isinstance(c, dict) else c)]
        level = [v for v in inside if isinstance(v, dict | list)]
        if not level:
            return False
    return True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


def _refusal(place: Place, why: str, wrong: tuple[Difference, ...] = ()) -> StoreError:
    return StoreError(
        f"{place} cannot be used: {why}.",
        differences=wrong,
        todo="Take it from where it was made, or remove it and extract again.",
    )
