"""Bytes of chunks and shards, as the Zarr v3 specification has them: made and checked without zarr-python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from crc32c import crc32c
from numcodecs import VLenUTF8, blosc

from ascfeat.store.places import Bytes, Piece

P = TypeVar("P", bytes, Bytes)
Numbers = npt.NDArray[Any]
Index = npt.NDArray[np.uint64]
"""Of a shard: first byte and size of each of its chunks, ``(slots, 2)``."""

CHECKSUM = 4
"""Bytes of a crc32c, little-endian, at the end of every chunk and of a shard's index."""
ABSENT = 2**64 - 1
"""Place and size of a chunk that a shard does not hold."""
BLOSC_HEADER = 16
"""Bytes before blosc's own data; those from 4 to 8 are the decoded size."""


class Damaged(ValueError):
    """Bytes that do not match their checksum or are not what they should be."""


class Missing(Damaged):
    """A chunk that a shard does not hold."""


def chunk(numbers: Numbers, *, compress: bool = False) -> tuple[Piece, bytes]:
    """Bytes of a chunk, not copied where they are so in memory, and their checksum.

    Codecs ``bytes`` (little-endian), ``blosc`` (lz4, bit shuffle, level 5) where compressed, ``crc32c``.
    """
    data = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))
    if compress:
        packed: bytes = blosc.compress(data, b"lz4", 5, blosc.BITSHUFFLE, 0, data.itemsize)
        return packed, checksum(packed)
    plain = data.reshape(-1).view(np.uint8)
    return plain, checksum(plain)


def shard(chunks: Sequence[tuple[Piece, bytes]], slots: int) -> Iterator[Piece]:
    """Bytes of a shard: its chunks one after the other, and where they lie (codec ``sharding_indexed``).

    Parameters
    ----------
    chunks : sequence
        From ``chunk``, in their order.
    slots : int
        Chunks for which a shard of this array has room.
    """
    index, at = np.full((slots, 2), ABSENT, "<u8"), 0
    for i, (data, check) in enumerate(chunks):
        index[i] = at, len(data) + len(check)
        at += len(data) + len(check)
        yield data
        yield check
    yield from chunk(index)


def index_size(slots: int) -> int:
    """Bytes that a shard's index takes at its end."""
    return slots * 16 + CHECKSUM


def index_of(tail: bytes, slots: int) -> Index:
    """The index at the end of a shard, checked.

    Raises
    ------
    Damaged
        When it does not match its checksum.
    """
    if len(tail) != index_size(slots) or not matches(tail):
        raise Damaged("its index does not match its checksum")
    return np.frombuffer(tail[:-CHECKSUM], "<u8").reshape(slots, 2)


def checked_shard(data: bytes, chunks: int, slots: int) -> Iterator[bytes]:
    """The chunks of a whole shard, without their checksums, each checked when it is asked for.

    Raises
    ------
    Damaged
        When the index or a chunk does not match its checksum; ``Missing`` when a chunk is not there.
    """
    for start, size in index_of(data[-index_size(slots) :], slots)[:chunks].tolist():
        yield content(_present(data, start, size))


def content(data: P) -> P:
    """What a chunk holds, without its checksum; no copy of an array.

    Raises
    ------
    Damaged
        When they do not match.
    """
    return checked(data[:-CHECKSUM], data[-CHECKSUM:])


def checked(data: P, check: P) -> P:
    """What a chunk holds, if its checksum is ``check``; ``Damaged`` where it is not."""
    if checksum(data) != bytes(check):
        raise Damaged("it does not match its checksum")
    return data


def unpack(packed: Piece, out: Numbers) -> None:
    """Decompress a chunk into an array that it must fill exactly.

    Raises
    ------
    Damaged
        When it is not the compressed form of so many bytes, whatever it claims.
    """
    claimed = int.from_bytes(bytes(packed[4:8]), "little") if len(packed) >= BLOSC_HEADER else -1
    if claimed != out.nbytes:
        raise Damaged(f"it decompresses to {claimed} bytes, and {out.nbytes} were stored")
    try:
        blosc.decompress(packed, out)
    except (RuntimeError, ValueError) as error:
        raise Damaged(f"it does not decompress: {error}") from error


def text_chunk(text: str) -> tuple[Piece, bytes]:
    """A chunk of one string (codecs ``vlen-utf8``, ``crc32c``)."""
    said = text.encode()
    data = (1).to_bytes(4, "little") + len(said).to_bytes(4, "little") + said
    return data, checksum(data)


def text_of(data: bytes) -> str:
    """The string of a chunk that holds one.

    Raises
    ------
    Damaged
        When it does not match its checksum or holds something else.
    """
    held = content(data)
    if held[:4] != (1).to_bytes(4, "little") or int.from_bytes(held[4:8], "little") != len(held) - 8:
        raise Damaged("it is not one string")
    try:
        return str(held[8:], "utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(f"it is not UTF-8: {error.reason}") from error


def texts_of(data: bytes, count: int) -> list[str]:
    """The strings of a chunk that holds so many (codecs ``vlen-utf8``, ``crc32c``); equal ones share their memory.

    Raises
    ------
    Damaged
        When it does not match its checksum or holds something else.
    """
    held = content(data)
    if int.from_bytes(held[:4], "little") != count or len(held) < 4 + 4 * count:
        raise Damaged(f"it does not hold {count} strings")
    try:
        texts = VLenUTF8().decode(held)
    except (ValueError, RuntimeError) as error:
        raise Damaged(f"it does not hold {count} strings: {error}") from error
    same: dict[str, str] = {}
    return [same.setdefault(text, text) for text in texts]


def checksum(data: Piece) -> bytes:
    """crc32c of some bytes, as it stands behind them."""
    return crc32c(cast(bytes, data)).to_bytes(CHECKSUM, "little")  # other threads go on meanwhile


def matches(data: Piece) -> bool:
    """Whether bytes end in their own checksum."""
    return len(data) >= CHECKSUM and checksum(data[:-CHECKSUM]) == bytes(data[-CHECKSUM:])


def _present(data: bytes, start: int, size: int) -> bytes:
    if start == ABSENT:
        raise Missing("its chunk is not in the shard")
    return data[start : start + size]
