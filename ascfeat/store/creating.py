"""Creating an empty feature store: its arrays, coordinates and header, built aside and moved into place at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from ascfeat.store.chunks import sync
from ascfeat.store.reading import HEADER
from ascfeat.store.table import clip_table
from ascschemas.dataset import Manifest
from ascschemas.layout import Axis
from ascschemas.problems import StoreError
from ascschemas.store import StoreHeader

STRINGS_PER_CHUNK = 1 << 16
"""Clips in one chunk of a label array."""


def create(path: Path, header: StoreHeader, manifest: Manifest) -> None:
    """Create an empty store: built aside, then moved into place, which only one creator can do.

    Raises
    ------
    StoreError
        When the folder cannot be written, or something is at ``path`` already.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        aside.chmod(0o777 & ~_umask())
        _build(aside, header, manifest)
        for file in (*aside.rglob("*"), aside):
            sync(file)
        aside.rename(path)
        sync(path.parent)
    except OSError as error:
        raise StoreError(
            f"No store can be created at {path}: {error.strerror or error}.",
            todo="Check that the folder can be written and that nothing else is at that place.",
        ) from error


def _build(path: Path, header: StoreHeader, manifest: Manifest) -> None:
    """Write the metadata and the coordinates of an empty store; values come unit by unit."""
    group = zarr.create_group(path, zarr_format=3, attributes={HEADER: header.model_dump(mode="json")})
    table = clip_table(manifest)
    _value_arrays(group, header, coordinates=[*(name for name in table if name != "clip"), "usable"])
    for name, values in table.items():
        _strings(group, name, values, "clip")
    _array(group, "usable", (header.clips,), (header.clips,), "bool", ("clip",))
    for axis in header.layout.axes:
        _coordinate(group, axis)
    _array(group.create_group("ledger"), "record", (header.units,), (1,), "string", ("unit",), fill_value="")


def _value_arrays(group: zarr.Group, header: StoreHeader, *, coordinates: Sequence[str]) -> None:
    """``features``, a clip a chunk and a unit a shard, and its statistics over time, a unit a chunk; all still NaN."""
    layout, shape = header.layout, header.layout.shape
    dims, bands = (("clip", *(a.name for a in axes)) for axes in (layout.axes, layout.bands))
    named = {"long_name": layout.quantity, "coordinates": " ".join(coordinates)}
    shard = (header.clips_per_unit, *shape)
    whole = (header.clips, *shape)
    _array(group, "features", whole, (1, *shape), "float32", dims, fill_value=np.nan, shards=shard, attributes=named)
    whole, chunk = ((n, *layout.band_shape) for n in (header.clips, header.clips_per_unit))
    for name in ("mean", "variance"):
        said = {"long_name": f"{name} of features over time" if layout.timed else f"{name} of features"}
        _array(group, name, whole, chunk, "float64", bands, fill_value=np.nan, attributes=said)


def _coordinate(group: zarr.Group, axis: Axis) -> None:
    values = axis.coordinates()
    if isinstance(values[0], str):
        _strings(group, axis.name, [str(v) for v in values], axis.name)
        return
    said = {"units": axis.unit} if axis.unit else {}
    _array(group, axis.name, (axis.size,), (axis.size,), "float64", (axis.name,), attributes=said)[:] = np.array(values)


def _strings(group: zarr.Group, name: str, values: Sequence[str], dimension: str) -> None:
    chunk = (min(len(values), STRINGS_PER_CHUNK),)
    array = _array(group, name, (len(values),), chunk, "string", (dimension,), fill_value="")
    # every chunk is written, also one of empty strings only: what is not there is then always an accident
    array.with_config({"write_empty_chunks": True})[:] = np.array(values, dtype=object)


def _array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    dimensions: tuple[str, ...],
    **more: Any,
) -> zarr.Array[Any]:
    """An array whose every chunk ends in a checksum and whose every axis has a name."""
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        dimension_names=dimensions,
        compressors=Crc32cCodec(),
        **more,
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
