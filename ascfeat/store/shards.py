"""The thin reader: clips out of shards by the shards' own indexes, checked, into the caller's memory, on threads."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from ascfeat.store import chunks
from ascfeat.store.chunks import ABSENT, CHECKSUM, Damaged, Index
from ascfeat.store.encoding import decode
from ascfeat.store.places import Bytes, Folder, Place
from ascschemas.store import StoreHeader

Rows = npt.NDArray[Any]
Clips = npt.NDArray[np.int64]

PIECE = 16
"""Clips of one shard that one thread reads at a time."""
REMOTE_THREADS = 16
"""Pieces asked for at once from a server: most of the time is its answer's way."""
FARTHEST = 1 << 62
"""First bytes beyond it are no file's."""


class ShardReader:
    """Reads clips of one store's ``features``; safe to use from several threads.

    Parameters
    ----------
    place : Place
        The store.
    header : StoreHeader
        What it was made from.
    """

    def __init__(self, place: Place, header: StoreHeader) -> None:
        self.place, self.header = place, header
        self._stored = np.dtype(header.encoding.dtype).newbyteorder("<")
        self._indexes: dict[int, Index] = {}
        self._own = threading.local()
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def read(self, clips: Clips, out: Rows) -> dict[int, str]:
        """Fill ``out`` with some clips; those that do not read are returned, with the reason of each.

        ``out`` is ``(len(clips), *layout.shape)``: float32 for values, the stored type for numbers as they are.
        """
        units = clips // self.header.clips_per_unit
        order = np.argsort(units, kind="stable")
        edges = np.flatnonzero(np.diff(units[order])) + 1
        parts = [p[i : i + PIECE] for p in np.split(order, edges) for i in range(0, len(p), PIECE)]
        call = self._pool.map if len(parts) > 1 else map
        done = call(lambda part: self._part(int(units[part[0]]), clips[part], [out[i] for i in part]), parts)
        return {clip: why for failed in done for clip, why in failed.items()}

    def index(self, unit: int) -> Index:
        """First byte and size of each chunk of a shard; read from it once.

        Raises
        ------
        Damaged
            When it does not match its checksum.
        FileNotFoundError
            When there is no such shard.
        """
        if unit not in self._indexes:
            slots = self.header.clips_per_unit
            tail = self.place.tail(self.header.chunk("features", unit), chunks.index_size(slots))
            self._indexes[unit] = chunks.index_of(tail, slots)
        return self._indexes[unit]

    def unpacked(self, data: bytes, index: Index, out: Rows) -> dict[int, str]:
        """Fill ``out`` with the first clips of a shard that is in memory; those that do not read are returned."""
        failed = {}
        for i, (row, (start, size)) in enumerate(zip(out, index.tolist(), strict=False)):
            why = self._refused(start, size) or ("" if start + size <= len(data) else "its shard ends before it")
            try:
                if not why:
                    self._decode(chunks.content(np.frombuffer(data, np.uint8, size, start)), row)
            except Damaged as error:
                why = str(error)
            if why:
                failed[i] = why
        return failed

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "header": self.header}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def _pool(self) -> ThreadPoolExecutor:
        """Threads of this process: a forked one has none of those that it inherits."""
        if os.getpid() not in self._pools:
            here = isinstance(self.place, Folder)
            self._pools[os.getpid()] = ThreadPoolExecutor(min(os.cpu_count() or 1, 4) if here else REMOTE_THREADS)
        return self._pools[os.getpid()]

    def _part(self, unit: int, clips: Clips, rows: list[Rows]) -> dict[int, str]:
        """Read clips of one shard; where they fail by an index read earlier, read it again: the shard may be new."""
        known = unit in self._indexes
        failed = self._try(unit, clips, rows)
        if failed and known:
            self._indexes.pop(unit, None)
            failed = self._try(unit, clips, rows)
        return failed

    def _try(self, unit: int, clips: Clips, rows: list[Rows]) -> dict[int, str]:
        key = self.header.chunk("features", unit)
        try:
            places = self.index(unit)[clips % self.header.clips_per_unit].tolist()
        except FileNotFoundError:
            return dict.fromkeys(clips.tolist(), f"there is no file {key}")
        except Damaged as error:
            return dict.fromkeys(clips.tolist(), f"{key}: {error}")
        except OSError as error:
            return dict.fromkeys(clips.tolist(), f"{key}: {_unread(error)}")
        found = list(zip(clips.tolist(), rows, places, strict=True))
        failed = {clip: why for clip, _, at in found if (why := self._refused(*at))}
        failed.update(self._chunks(key, [f for f in found if f[0] not in failed]))
        return failed

    def _refused(self, start: int, size: int) -> str:
        """Why what an index says of a chunk cannot be; empty where it can."""
        if start == ABSENT:
            return "its chunk is not in the shard"
        packed = self.header.encoding.compress
        most = self.header.number_bytes + (chunks.BLOSC_HEADER if packed else 0) + CHECKSUM
        fits = CHECKSUM < size <= most if packed else size == most
        return "" if fits and start < FARTHEST else f"its shard's index gives it {size} bytes at {start}"

    def _chunks(self, key: str, found: list[tuple[int, Rows, list[int]]]) -> Iterator[tuple[int, str]]:
        """Read, check and decode chunks; yield those that fail.

        Numbers that are wanted as they lie on disk are read to where they are wanted, others through memory that is
        used again; what does not match its checksum is told by the caller, so that nobody uses it.
        """
        check = self._scratch(CHECKSUM, "check")
        bodies = [self._body(row, size - CHECKSUM) for _, row, (_, size) in found]
        ends = [(start, start + len(body)) for body, (_, _, (start, _)) in zip(bodies, found, strict=True)]
        spans = [span for start, end in ends for span in ((start, end), (end, end + CHECKSUM))]
        filled = self.place.spans(key, spans, [into for body in bodies for into in (body, check)])
        for i, ((clip, row, _), body) in enumerate(zip(found, bodies, strict=True)):
            try:
                next(filled), next(filled)
                self._decode(chunks.checked(body, check), row)
            except (EOFError, FileNotFoundError) as error:
                yield from ((c, f"{key}: {error}") for c, _, _ in found[i:])
                return
            except OSError as error:
                yield from ((c, f"{key}: {_unread(error)}") for c, _, _ in found[i:])
                return
            except Damaged as error:
                yield clip, str(error)

    def _body(self, row: Rows, size: int) -> Bytes:
        """Where a chunk's content goes: to its row, where that takes it as it is."""
        as_it_is = row.dtype == self._stored and not self.header.encoding.compress and row.flags.c_contiguous
        return row.reshape(-1).view(np.uint8) if as_it_is else self._scratch(size, "chunk")

    def _decode(self, held: Bytes, row: Rows) -> None:
        """A chunk's content to values, or to numbers as they are where the row is of their type."""
        if np.may_share_memory(held, row):
            return
        how = self.header.encoding
        numbers = (self._unpacked(held) if how.compress else held.view(self._stored)).reshape(row.shape)
        if row.dtype == self._stored:
            row[...] = numbers
        else:
            decode(numbers, how, row)

    def _unpacked(self, held: Bytes) -> Rows:
        numbers = self._scratch(self.header.number_bytes, "unpacked").view(self._stored)
        chunks.unpack(held, numbers)
        return numbers

    def _scratch(self, size: int, purpose: str) -> Bytes:
        """Memory of this thread, kept from call to call."""
        kept: Bytes | None = getattr(self._own, purpose, None)
        if kept is None or kept.size < size:
            kept = np.empty(size, np.uint8)
            setattr(self._own, purpose, kept)
        return kept[:size]


def _unread(error: OSError) -> str:
    """The words for a sector that a disk does not give back; whatever else a disk or a server refuses is raised."""
    if error.errno != errno.EIO:
        raise error
    return f"the disk does not give it back: {error.strerror}"
