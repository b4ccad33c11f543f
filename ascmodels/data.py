"""The feed: batches on the device that trains, from its memory, from RAM or from the store; the same either way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import override

from ascmodels import room
from ascmodels.inputs import Input
from ascmodels.joining import Joined, Member, joined
from ascmodels.order import MIB, Order, in_order
from ascmodels.source import Clips, FeatureSource
from ascmodels.tagging import multi_hot
from ascschemas.store import Encoding

Place = Literal["device", "ram", "stream"]
"""Where features are read from while training: the GPU's memory, RAM, or the store."""
Placement = Place | Literal["auto"]
"""A wish for it; ``auto`` is the first of them that the features fit into."""
Numbers = npt.NDArray[np.generic]
T = TypeVar("T")

MEMORY_SHARE = 0.6
"""Share of the memory that is free now that features may take; the rest is for the network, the system and others."""
CLIPS_PER_READ = 256
PIECE_MIB = 256
"""What is read at once from the store where windows are not limited."""


@dataclass(frozen=True)
class Batch:
    """Some clips, or patches of clips, on the device that trains."""

    clips: Clips
    """Positions in the store, ``(B,)``."""
    features: tuple[Tensor, ...]
    """Of each store ``(B, *shape)``, float32, as it has them: cut into patches, but neither normalised nor resized."""
    targets: Tensor
    """Class numbers, ``(B,)``, int64, -1 where a clip has no label; or tags, ``(B, K)``, float32, 0 or 1."""


class Reader(ABC):
    """Where the stored numbers of batches come from, of one store."""

    place: Place

    @abstractmethod
    def rows(self, order: Order, size: int) -> Iterator[Tensor]:
        """Numbers of ``size`` clips or patches after the other, as the store keeps them; they stay as they are."""


@dataclass(frozen=True)
class Feed:
    """Batches in any order, wherever the features lie."""

    readers: tuple[Reader, ...]
    """Where numbers come from, one for each store."""
    source: Joined
    """The stores."""
    targets: npt.NDArray[np.int64]
    """Class number of each clip of the first store; -1 where it has no label, or where labels list tags."""
    device: torch.device
    """Where batches are wanted."""
    window_mib: int | None = None
    """How much of the stores may be in memory at once while they are streamed, in float32."""
    tags: npt.NDArray[np.float32] | None = None
    """Which tags each clip of the first store has, ``(clips, K)``, 0 or 1, where labels list tags."""

    @property
    def place(self) -> Place:
        """Where features are read from."""
        return self.readers[0].place

    def batches(self, order: Order, size: int) -> Iterator[Batch]:
        """Clips or patches in their order, ``size`` at a time; the last batch holds what remains.

        Where a GPU trains, the next batch goes there while it works on this one.
        """
        found = self._batches(order, size)
        yield from ahead(found) if self.device.type == "cuda" and self.place != "device" else found

    def in_order(self, clips: Clips, size: int) -> Iterator[Batch]:
        """The same for whole clips as they are given."""
        return self.batches(in_order(self.source, clips, self.window_mib), size)

    def _batches(self, order: Order, size: int) -> Iterator[Batch]:
        starts = range(0, len(order), size)
        all_rows = zip(*(reader.rows(order, size) for reader in self.readers), strict=True)
        for start, rows in zip(starts, all_rows, strict=True):
            clips = order.clips[start : start + size]
            targets = torch.from_numpy((self.targets if self.tags is None else self.tags)[clips])
            yield Batch(clips, tuple(self._decoded(rows)), _moved(targets, self.device))

    def _decoded(self, rows: Iterable[Tensor]) -> Iterator[Tensor]:
        for member, numbers in zip(self.source.members, rows, strict=True):
            yield decoded(_moved(numbers, self.device), member.source.header.encoding)


@dataclass(frozen=True)
class Held:
    """Clips in memory, and which of them, or of their patches, come one after the other."""

    values: Tensor
    """Stored numbers, ``(n, *layout.shape)``."""
    at: Tensor | None
    """The clip of each; None where they come as they lie."""
    parts: Tensor | None
    """The patch of each; None where clips are seen whole."""
    input: Input

    def __len__(self) -> int:
        return len(self.values if self.at is None else self.at)

    def rows(self, start: int, stop: int) -> Tensor:
        """Some of them: a view where clips come whole and as they lie."""
        if self.at is None:
            return self.values[start:stop]
        if self.parts is None:
            return self.values.index_select(0, self.at[start:stop])
        return self.input.some(self.values, self.at[start:stop], self.parts[start:stop])


class InMemory(Reader):
    """All of some clips, read once, in RAM or on the device."""

    def __init__(self, member: Member, clips: Clips, device: torch.device | None = None) -> None:
        self.place = "ram" if device is None else "device"
        self._member, self._kept = member, np.unique(member.at[clips])
        source, values = member.source, _empty(member.source, len(self._kept), device)
        for start in range(0, len(self._kept), CLIPS_PER_READ):
            some = self._kept[start : start + CLIPS_PER_READ]
            into = values[start : start + len(some)]
            if device is None:
                source.read(some, out=into.numpy())
            else:
                into.copy_(torch.from_numpy(source.read(some, out=_empty(source, len(some)).numpy())))
        self._values = values

    @override
    def rows(self, order: Order, size: int) -> Iterator[Tensor]:
        at = torch.from_numpy(np.searchsorted(self._kept, self._member.at[order.clips])).to(self._values.device)
        return _cut(
            [Held(self._values, at, _parts(order, self._member, self._values.device), self._member.input)], size
        )


class Streamed(Reader):
    """Windows of whole shards read from the store, one ahead of the other; batches of whole clips are views of them."""

    place = "stream"

    def __init__(self, member: Member, window_mib: int | None = None) -> None:
        self._member = member
        room = (window_mib or PIECE_MIB) * MIB // member.source.layout.clip_bytes
        self._most = max(1, room, member.source.header.clips_per_unit if window_mib else 0)

    @override
    def rows(self, order: Order, size: int) -> Iterator[Tensor]:
        yield from _cut(ahead(self._whole(order) if order.parts is None else self._patches(order)), size)

    def _whole(self, order: Order) -> Iterator[Held]:
        """Clips in the order in which they are wanted."""
        for window in order.windows:
            clips = self._member.at[order.clips[window]]
            for start in range(0, len(clips), self._most):
                yield Held(self._read(clips[start : start + self._most]), None, None, self._member.input)

    def _patches(self, order: Order) -> Iterator[Held]:
        """The clips of a window, each once, and where the patches lie in them."""
        parts = _parts(order, self._member)
        for window in order.windows:
            kept, at = np.unique(self._member.at[order.clips[window]], return_inverse=True)
            some = None if parts is None else parts[window]
            yield Held(self._read(kept), torch.from_numpy(at), some, self._member.input)

    def _read(self, clips: Clips) -> Tensor:
        values = _empty(self._member.source, len(clips))
        self._member.source.read(clips, out=values.numpy())
        return values


def placed(source: Joined, clips: int, wanted: Placement = "auto", device: torch.device | None = None) -> Place:
    """Where so many clips are best read from; ``auto`` is the GPU's memory, or RAM, where they fit."""
    if wanted != "auto":
        return "ram" if wanted == "device" and (device is None or device.type == "cpu") else wanted
    taken = clips * sum(_stored_bytes(m.source) for m in source.members)
    if device is not None and device.type == "cuda" and taken <= MEMORY_SHARE * room.gpu_memory(device):
        return "device"
    return "ram" if taken <= MEMORY_SHARE * room.memory() else "stream"


def feed(
    source: FeatureSource | Joined,
    clips: Clips,
    classes: tuple[str, ...],
    place: Place,
    *,
    device: torch.device | None = None,
    window_mib: int | None = None,
    tags: bool = False,
) -> Feed:
    """A feed for some clips of a store, or of several.

    Parameters
    ----------
    source : FeatureSource or Joined
        A sealed store, or several from ``ascmodels.joining.join``.
    clips : array of int
        Every clip that will be asked for, as positions in the first store.
    classes : tuple of str
        Labels in the order of the network's outputs.
    place : str
        ``device`` and ``ram`` read all clips now, ``stream`` reads windows from the stores when they are asked for.
    device : torch.device
        Where batches are wanted; the CPU where absent.
    window_mib : int, optional
        How much of the stores is read at once while streaming, in MiB of float32; twice as much is held.
    tags : bool
        Whether labels list tags, and the targets of batches are rows of zeros and ones.
    """
    device, source = device or torch.device("cpu"), joined(source)
    number = {label: i for i, label in enumerate(classes)}
    targets = np.array([-1 if tags else number.get(label, -1) for label in source.labels], dtype=np.int64)
    rows = multi_hot(source.labels, classes) if tags else None
    share = [_share(window_mib, m, source) for m in source.members]
    readers = [_reader(m, clips, place, device, mib) for m, mib in zip(source.members, share, strict=True)]
    return Feed(tuple(readers), source, targets, device, window_mib, rows)


def decoded(numbers: Tensor, how: Encoding) -> Tensor:
    """Values of stored numbers, as ``Store.read`` gives them, bit for bit: ``float32(number * scale + offset)``.

    Law: ``ascfeat.store.encoding.decode``; missing clips are not asked for.
    """
    values = (numbers.double() * how.scale).float() if how.dtype.startswith("int") else numbers.float()
    return values + torch.tensor(how.offset, dtype=torch.float32, device=values.device) if how.offset else values


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same, each made on a thread while the one before it is used."""
    rest = iter(items)
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming = thread.submit(_next, rest)
        while found := coming.result():
            coming = thread.submit(_next, rest)
            yield found[0]


def _next(rest: Iterator[T]) -> tuple[T] | None:
    return next(((item,) for item in rest), None)


def _reader(member: Member, clips: Clips, place: Place, device: torch.device, window_mib: int | None) -> Reader:
    if place == "stream":
        return Streamed(member, window_mib)
    return InMemory(member, clips, device if place == "device" else None)


def _share(window_mib: int | None, member: Member, source: Joined) -> int | None:
    """The part of a window that one of several stores may take."""
    return window_mib and max(1, window_mib * member.source.layout.clip_bytes // source.clip_bytes)


def _parts(order: Order, member: Member, device: torch.device | None = None) -> Tensor | None:
    """The patch of each example; None where the clips of this store are seen whole."""
    if order.parts is None or member.input.patches is None:
        return None
    parts = torch.from_numpy(order.parts).to(device)
    return parts if member.input.count > 1 else torch.zeros_like(parts)  # its one patch beside each of another store's


def _cut(windows: Iterable[Held], size: int) -> Iterator[Tensor]:
    """Batches of windows; those that begin in one and end in the next are put together."""
    begun: Tensor | None = None
    for window in windows:
        start = 0
        if begun is not None:
            start = min(size - len(begun), len(window))
            begun = torch.cat([begun, window.rows(0, start)])
            if len(begun) < size:
                continue
            yield begun
        full = start + (len(window) - start) // size * size
        yield from (window.rows(i, i + size) for i in range(start, full, size))
        begun = window.rows(full, len(window)).clone() if full < len(window) else None  # not the whole window for it
    if begun is not None:
        yield begun


def _stored_bytes(source: FeatureSource) -> int:
    return source.layout.clip_bytes // 4 * np.dtype(source.header.encoding.dtype).itemsize


def _empty(source: FeatureSource, clips: int, device: torch.device | None = None) -> Tensor:
    """Room for the numbers of some clips, as the store keeps them."""
    kind: torch.dtype = getattr(torch, source.header.encoding.dtype)
    return torch.empty((clips, *source.layout.shape), dtype=kind, device=device)


def _moved(values: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda" or values.device.type == "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
