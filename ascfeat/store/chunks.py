"""Chunk files of a store, written and checked directly, as the Zarr v3 specification has them: several times faster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

CHECKSUM = 4
"""Bytes of a crc32c, little-endian, at the end of every chunk and of a shard's index."""
ABSENT = 2**64 - 1
"""Place and size of a chunk that a shard does not hold."""


def write_chunk(path: Path, values: npt.NDArray[Any]) -> None:
    """Write a chunk with its checksum (codecs ``bytes``, ``crc32c``) so that it is there whole or not at all."""
    _publish(path, _checked(values))


def write_shard(path: Path, chunks: Sequence[npt.NDArray[Any]], slots: int) -> None:
    """Write a shard: so many chunks, each with its checksum, and where they lie (codec ``sharding_indexed``).

    Parameters
    ----------
    path : Path
        The file; replaced where it exists.
    chunks : sequence of array
        Equal in shape, one clip each, in their order.
    slots : int
        Chunks for which a shard of this array has room.
    """
    size = chunks[0].nbytes + CHECKSUM
    index = np.full((slots, 2), ABSENT, "<u8")
    index[: len(chunks)] = [(i * size, size) for i in range(len(chunks))]
    _publish(path, (piece for values in (*chunks, index) for piece in _checked(values)))


def is_whole_chunk(path: Path) -> bool:
    """Whether a chunk is there and matches its checksum."""
    try:
        return _matches(path.read_bytes())
    except OSError:
        return False


def is_whole_shard(path: Path, chunks: int, slots: int) -> bool:
    """Whether a shard holds its first so many chunks, and every one matches its checksum."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    at = len(data) - slots * 16 - CHECKSUM
    if at < 0 or not _matches(data[at:]):
        return False
    index = np.frombuffer(data[at:-CHECKSUM], "<u8").reshape(slots, 2)[:chunks].tolist()
    return all(start + size <= at and _matches(data[start : start + size]) for start, size in index)


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folders(path: Path, root: Path) -> None:
    """Bring a file's folders up to ``root`` to the disk: a new name is lost with them otherwise."""
    for folder in path.parents:
        if not folder.is_relative_to(root):
            return
        sync(folder)


def _publish(path: Path, pieces: Iterable[bytes | Bytes]) -> None:
    """Write a file aside, bring it to the disk, and only then give it its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.partial")
    with aside.open("wb") as file:
        for piece in pieces:
            file.write(piece.data if isinstance(piece, np.ndarray) else piece)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _checked(values: npt.NDArray[Any]) -> tuple[Bytes, bytes]:
    """Little-endian bytes of an array, not copied where they are already so, and their checksum."""
    data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    data.flags.writeable = False  # of this view; crc32c takes no other
    return data, google_crc32c.value(data).to_bytes(CHECKSUM, "little")


def _matches(chunk: bytes) -> bool:
    """Whether bytes end in their own checksum."""
    expected = int.from_bytes(chunk[-CHECKSUM:], "little")
    return len(chunk) >= CHECKSUM and google_crc32c.value(chunk[:-CHECKSUM]) == expected
