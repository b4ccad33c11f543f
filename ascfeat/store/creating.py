"""Creating an empty feature store: its arrays, coordinates and header, built aside and moved into place at once."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from ascfeat.store.metadata import CHECK, ROOT, SPARE, STRINGS_PER_CHUNK, header_problems, packing, root_digest
from ascfeat.store.places import Folder, Place, open_place
from ascfeat.store.reading import HEADER
from ascfeat.store.table import clip_table
from ascschemas.dataset import Manifest
from ascschemas.layout import Axis
from ascschemas.problems import StoreError
from ascschemas.store import Encoding, StoreHeader

WHOLE: Any = {"write_empty_chunks": True}
"""Every chunk is written, also one of zeros or empty strings: what is not there is then always an accident."""


def create(place: Place | Path | str, header: StoreHeader, manifest: Manifest) -> None:
    """Create an empty store: built aside, then moved into place, which only one creator can do.

    What holds the place must be there: for the one who holds the place's lock, it is.

    Raises
    ------
    StoreError
        When the place cannot be written, or something is there already.
    """
    place = open_place(place)
    if problems := header_problems(header):
        raise StoreError(
            f"No store can be created at {place}: {'; '.join(problems)}.", todo="Store fewer values a clip."
        )
    try:
        with aside(place) as folder:
            build(folder, header, manifest)
            if not place.adopt(folder, ROOT):
                todo = "Run the same command again: it goes on there."
                raise StoreError(f"Something is at {place} already.", todo=todo)
    except OSError as error:
        raise StoreError(
            f"No store can be created at {place}: {error.strerror or error}.",
            todo="Check that the place can be written and that nothing else is there.",
        ) from error


def build(folder: Path, header: StoreHeader, manifest: Manifest) -> None:
    """Write the metadata and the coordinates of an empty store into a folder; values come unit by unit."""
    group = zarr.create_group(folder, zarr_format=3)
    table = clip_table(manifest)
    _value_arrays(group, header, coordinates=[*(name for name in table if name != "clip"), "usable"])
    for name, values in table.items():
        strings(group, name, values, "clip")
    array(group, "usable", (header.clips,), (header.clips,), "bool", ("clip",))
    for axis in header.layout.axes:
        _coordinate(group, axis)
    array(group.create_group("ledger"), "record", (header.units,), (1,), "string", ("unit",), fill_value="")
    for file in folder.rglob("zarr.json"):
        file.write_bytes(document(json.loads(file.read_bytes())))
    root = root_document({HEADER: header.model_dump(mode="json")})
    for name in (ROOT, SPARE):
        (folder / name).write_bytes(root)


def root_document(attributes: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of a root ``zarr.json``, with a digest of itself among its attributes.

    Parameters
    ----------
    attributes : mapping
        Header, and seal.
    metadata : mapping, optional
        The metadata of every array and group below, by its path, to be consolidated.
    """
    held: dict[str, Any] = {"attributes": dict(attributes), "zarr_format": 3}
    if metadata is not None:  # not in the Zarr v3 specification yet; readers that cannot list need it
        inline = {"kind": "inline", "must_understand": False, "metadata": dict(sorted(metadata.items()))}
        held["consolidated_metadata"] = inline
    held["node_type"] = "group"
    held["attributes"][CHECK] = root_digest(held)
    return document(held)


def document(value: Any) -> bytes:
    """The one way in which a store's JSON documents are written: as zarr-python does."""
    return json.dumps(value, indent=2).encode()


@contextmanager
def aside(place: Place) -> Iterator[Path]:
    """A folder to build in: beside a folder, so that it can be moved; anywhere for a place on a server."""
    folder = place.aside() if isinstance(place, Folder) else Path(tempfile.mkdtemp(prefix="ascfeat-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # nothing is left there of a store that was moved


def _value_arrays(group: zarr.Group, header: StoreHeader, *, coordinates: Sequence[str]) -> None:
    """``features``, a clip a chunk and a unit a shard, and its statistics over time, a unit a chunk; all empty."""
    layout, shape = header.layout, header.layout.shape
    dims, bands = (("clip", *(a.name for a in axes)) for axes in (layout.axes, layout.bands))
    named = {"long_name": layout.quantity, "coordinates": " ".join(coordinates), **packing(header.encoding)}
    array(
        group,
        "features",
        (header.clips, *shape),
        (1, *shape),
        header.encoding.dtype,
        dims,
        codecs=_codecs(header.encoding),
        fill_value=_fill(header.encoding),
        shards=(header.clips_per_unit, *shape),
        attributes=named,
    )
    whole, chunk = ((n, *layout.band_shape) for n in (header.clips, header.clips_per_unit))
    for name in ("mean", "variance"):
        said = {"long_name": f"{name} of features over time" if layout.timed else f"{name} of features"}
        array(group, name, whole, chunk, "float64", bands, fill_value=np.nan, attributes=said)


def _codecs(how: Encoding) -> tuple[Any, ...]:
    if not how.compress:
        return (Crc32cCodec(),)
    size = np.dtype(how.dtype).itemsize
    return (BloscCodec(typesize=size, cname="lz4", clevel=5, shuffle="bitshuffle", blocksize=0), Crc32cCodec())


def _fill(how: Encoding) -> float | int:
    return np.nan if how.dtype in ("float32", "float16") else int(np.iinfo(how.dtype).min)


def _coordinate(group: zarr.Group, axis: Axis) -> None:
    values = axis.coordinates()
    if isinstance(values[0], str):
        strings(group, axis.name, [str(v) for v in values], axis.name)
        return
    said = {"units": axis.unit} if axis.unit else {}
    made = array(group, axis.name, (axis.size,), (axis.size,), "float64", (axis.name,), attributes=said)
    made.with_config(WHOLE)[:] = np.array(values)


def strings(group: zarr.Group, name: str, values: Sequence[str], dimension: str) -> None:
    """An array of texts along one axis."""
    chunk = (min(len(values), STRINGS_PER_CHUNK),)
    made = array(group, name, (len(values),), chunk, "string", (dimension,), fill_value="")
    made.with_config(WHOLE)[:] = np.array(values, dtype=object)


def array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    dimensions: tuple[str, ...],
    *,
    codecs: tuple[Any, ...] = (Crc32cCodec(),),
    **more: Any,
) -> zarr.Array[Any]:
    """An array whose every chunk ends in a checksum and whose every axis has a name."""
    return group.create_array(
        name, shape=shape, chunks=chunks, dtype=dtype, dimension_names=dimensions, compressors=codecs, **more
    )
