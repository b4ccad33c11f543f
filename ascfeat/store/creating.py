"""Creating an empty feature store: its arrays, coordinates and header, built aside and moved into place at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from ascfeat.store.reading import HEADER
from ascfeat.store.table import clip_table
from ascschemas.dataset import Manifest
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
        aside.rename(path)
    except OSError as error:
        raise StoreError(
            f"No store can be created at {path}: {error.strerror or error}.",
            todo="Check that the folder can be written and that nothing else is at that place.",
        ) from error


def _build(path: Path, header: StoreHeader, manifest: Manifest) -> None:
    """Write the metadata and the coordinates of an empty store; values come unit by unit."""
    group = zarr.create_group(path, zarr_format=3, attributes={HEADER: header.model_dump(mode="json")})
    dims = ("clip", *(a.name for a in header.layout.axes))
    table = clip_table(manifest)
    unit, n = header.clips_per_unit, header.clips
    group.create_array(
        "features",
        shape=(n, *header.layout.shape),
        chunks=(1, *header.layout.shape),
        shards=(unit, *header.layout.shape),
        dtype="float32",
        fill_value=np.nan,
        compressors=Crc32cCodec(),
        dimension_names=dims,
        attributes={
            "long_name": header.layout.quantity,
            "coordinates": " ".join([*(name for name in table if name != "clip"), "usable"]),
        },
    )
    for name in ("mean", "variance"):
        group.create_array(
            name,
            shape=(n, *header.layout.shape[:-1]),
            chunks=(unit, *header.layout.shape[:-1]),
            dtype="float64",
            fill_value=np.nan,
            compressors=Crc32cCodec(),
            dimension_names=dims[:-1],
            attributes={"long_name": f"{name} of features over {dims[-1]}"},
        )
    for name, values in table.items():
        _strings(group, name, values, "clip")
    group.create_array(
        "usable", shape=(n,), dtype="bool", chunks=(n,), compressors=Crc32cCodec(), dimension_names=("clip",)
    )
    for axis in header.layout.axes:
        _coordinate(group, axis.name, axis.coordinates(), axis.unit)
    ledger = group.create_group("ledger")
    ledger.create_array(
        "record",
        shape=(header.units,),
        chunks=(1,),
        dtype="string",
        fill_value="",
        compressors=Crc32cCodec(),
        dimension_names=("unit",),
    )


def _coordinate(group: zarr.Group, name: str, values: tuple[float, ...] | tuple[str, ...], unit: str) -> None:
    if values and isinstance(values[0], str):
        _strings(group, name, [str(v) for v in values], name)
        return
    numbers = np.asarray(values, dtype=np.float64)
    array = group.create_array(
        name,
        shape=numbers.shape,
        chunks=numbers.shape,
        dtype="float64",
        compressors=Crc32cCodec(),
        dimension_names=(name,),
        attributes={"units": unit} if unit else {},
    )
    array[:] = numbers


def _strings(group: zarr.Group, name: str, values: Sequence[str], dimension: str) -> None:
    array = group.create_array(
        name,
        shape=(len(values),),
        chunks=(min(len(values), STRINGS_PER_CHUNK),),
        dtype="string",
        fill_value="",
        compressors=Crc32cCodec(),
        dimension_names=(dimension,),
    )
    # every chunk is written, also one of empty strings only: what is not there is then always an accident
    array.with_config({"write_empty_chunks": True})[:] = np.array(values, dtype=object)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
