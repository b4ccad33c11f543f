"""Which files a sealed store has, and whether the bytes of one are whole: told from its own metadata alone."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ascfeat.store.chunks import CHECKSUM, Damaged, checked_shard, content
from ascfeat.store.metadata import ROOT

MOST: Final = 20_000_000
"""Files that a store has at most: fifty times those of AudioSet."""

Arrays = Mapping[str, Mapping[str, Any]]
"""Metadata of arrays and groups, by name."""


def members(root: bytes) -> Arrays:
    """What the root's consolidated metadata say of each array and group.

    Raises
    ------
    ValueError
        When there are none: the store is not sealed.
    """
    said = json.loads(root)
    found = said.get("consolidated_metadata") if isinstance(said, dict) else None
    named = found.get("metadata") if isinstance(found, dict) else None
    if not isinstance(named, dict) or not all(isinstance(v, dict) for v in named.values()):
        raise ValueError("its zarr.json names no arrays")
    return named


def files(root: bytes) -> Iterator[str]:
    """Keys of all files of a store but its root, from the root.

    Raises
    ------
    ValueError
        When the root is not that of a sealed store, or claims more files than any store has.
    """
    named = members(root)
    counts = {name: _grid(name, said) for name, said in named.items()}
    total = sum(math.prod(grid) for grid in counts.values() if grid is not None)
    if total > MOST:
        raise ValueError(f"it speaks of {total:,} chunks, and no store has more than {MOST:,}")
    for name, grid in sorted(counts.items()):
        yield f"{name}/{ROOT}"
        if grid is not None:
            yield from ("/".join([name, "c", *map(str, at)]) for at in itertools.product(*map(range, grid)))


def refusal(key: str, data: bytes, named: Arrays) -> str:
    """Why the bytes of a chunk or shard are not whole, by their own checksums; empty where they are.

    Raises
    ------
    KeyError
        When the file is not one of an array's chunks, and so has no checksum in it.
    """
    name, _, at = key.rpartition("/c/")
    if not at:
        raise KeyError(key)
    try:
        for _ in _checked(data, named[name]):
            pass
    except Damaged as error:
        return str(error)
    return ""


def has_checksum(key: str) -> bool:
    """Whether a file is a chunk or shard, which carries its checksum."""
    return "/c/" in key


def _checked(data: bytes, said: Mapping[str, Any]) -> Iterator[bytes]:
    """The chunks of a file without their checksums, each checked."""
    codec = said["codecs"][0]
    if codec["name"] != "sharding_indexed":
        yield content(data)
        return
    outer, inner = said["chunk_grid"]["configuration"]["chunk_shape"], codec["configuration"]["chunk_shape"]
    slots = math.prod(o // i for o, i in zip(outer, inner, strict=True))
    if len(data) < slots * 16 + CHECKSUM:
        raise Damaged("it is shorter than its index")
    yield from checked_shard(data, _held(data, slots), slots)


def _held(data: bytes, slots: int) -> int:
    """Chunks that a shard says it holds: the last unit's has room for more."""
    index = data[-slots * 16 - CHECKSUM : -CHECKSUM]
    absent = b"\xff" * 16
    return next((n for n in range(slots, 0, -1) if index[(n - 1) * 16 : n * 16] != absent), 0)


def _grid(name: str, said: Mapping[str, Any]) -> list[int] | None:
    """Chunks along each axis of an array; None for a group."""
    if said.get("node_type") == "group":
        return None
    try:
        shape, chunk = said["shape"], said["chunk_grid"]["configuration"]["chunk_shape"]
        counts = [-(-int(n) // int(c)) for n, c in zip(shape, chunk, strict=True)]
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"its zarr.json says of {name} no shape that can be") from error
    if min(counts, default=0) < 0:
        raise ValueError(f"its zarr.json says of {name} no shape that can be")
    return counts
