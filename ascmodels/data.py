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
from ascmodels.order import MIB, Order, in_order
from ascmodels.sides import Clips
from ascmodels.source import FeatureSource
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
    """Some clips, on the device that trains."""

    clips: Clips
    """Positions in the store, ``(B,)``."""
    features: Tensor
    """``(B, *layout.shape)``, float32, as the store has them: not normalised."""
    targets: Tensor
    """Class numbers, ``(B,)``, int64; -1 where a clip has no label."""


class Reader(ABC):
    """Where the stored numbers of batches come from."""

    place: Place

    @abstractmethod
    def rows(self, order: Order, size: int) -> Iterator[Tensor]:
        """Numbers of ``size`` clips after the other, as the store keeps them; nobody else changes what was given."""


@dataclass(frozen=True)
class Feed:
    """Batches of clips in any order, wherever the features lie."""

    reader: Reader
    """Where numbers come from."""
    source: FeatureSource
    """The store."""
    targets: npt.NDArray[np.int64]
    """Class number of each clip of the store; -1 where it has no label."""
    device: torch.device
    """Where batches are wanted."""
    window_mib: int | None = None
    """How much of the store may be in memory at once while it is streamed, in float32."""

    @property
    def place(self) -> Place:
        """Where features are read from."""
        return self.reader.place

    def batches(self, order: Order, size: int) -> Iterator[Batch]:
        """The clips in their order, ``size`` at a time; the last batch holds what remains.

        Where a GPU trains, the next batch goes there while it works on this one.
        """
        found = self._batches(order, size)
        yield from ahead(found) if self.device.type == "cuda" and self.place != "device" else found

    def in_order(self, clips: Clips, size: int) -> Iterator[Batch]:
        """The same for clips as they are given."""
        return self.batches(in_order(self.source, clips, self.window_mib), size)

    def _batches(self, order: Order, size: int) -> Iterator[Batch]:
        starts = range(0, len(order), size)
        for start, rows in zip(starts, self.reader.rows(order, size), strict=True):
            clips = order.clips[start : start + size]
            targets = torch.from_numpy(self.targets[clips])
            features = decoded(_moved(rows, self.device), self.source.header.encoding)
            yield Batch(clips, features, _moved(targets, self.device))


class InMemory(Reader):
    """All of some clips, read once, in RAM or on the device."""

    def __init__(self, source: FeatureSource, clips: Clips, device: torch.device | None = None) -> None:
        self.place = "ram" if device is None else "device"
        self._kept = np.unique(clips)
        values = _empty(source, len(self._kept), device)
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
        where = torch.from_numpy(np.searchsorted(self._kept, order.clips)).to(self._values.device)
        for start in range(0, len(order), size):
            yield self._values.index_select(0, where[start : start + size])


class Streamed(Reader):
    """Windows of whole shards read from the store, one ahead of the other; batches are views of them."""

    place = "stream"

    def __init__(self, source: FeatureSource, window_mib: int | None = None) -> None:
        self._source = source
        room = (window_mib or PIECE_MIB) * MIB // source.layout.clip_bytes
        self._most = max(1, room, source.header.clips_per_unit if window_mib else 0)

    @override
    def rows(self, order: Order, size: int) -> Iterator[Tensor]:
        yield from _cut(ahead(self._read(clips) for clips in self._pieces(order)), size)

    def _pieces(self, order: Order) -> Iterator[Clips]:
        for window in order.windows:
            yield from (window[i : i + self._most] for i in range(0, len(window), self._most))

    def _read(self, clips: Clips) -> Tensor:
        values = _empty(self._source, len(clips))
        self._source.read(clips, out=values.numpy())
        return values


def placed(source: FeatureSource, clips: int, wanted: Placement = "auto", device: torch.device | None = None) -> Place:
    """Where so many clips of a store are best read from; ``auto`` is the GPU's memory, or RAM, where they fit."""
    if wanted != "auto":
        return "ram" if wanted == "device" and (device is None or device.type == "cpu") else wanted
    taken = clips * source.layout.clip_bytes // 4 * np.dtype(source.header.encoding.dtype).itemsize
    if device is not None and device.type == "cuda" and taken <= MEMORY_SHARE * room.gpu_memory(device):
        return "device"
    return "ram" if taken <= MEMORY_SHARE * room.memory() else "stream"


def feed(
    source: FeatureSource,
    clips: Clips,
    classes: tuple[str, ...],
    place: Place,
    *,
    device: torch.device | None = None,
    window_mib: int | None = None,
) -> Feed:
    """A feed for some clips of a store.

    Parameters
    ----------
    source : FeatureSource
        A sealed store.
    clips : array of int
        Every clip that will be asked for.
    classes : tuple of str
        Labels in the order of the network's outputs.
    place : str
        ``device`` and ``ram`` read all clips now, ``stream`` reads windows from the store when they are asked for.
    device : torch.device
        Where batches are wanted; the CPU where absent.
    window_mib : int, optional
        How much of the store is read at once while streaming, in MiB of float32; twice as much is held.
    """
    device = device or torch.device("cpu")
    number = {label: i for i, label in enumerate(classes)}
    targets = np.array([number.get(label, -1) for label in source.labels], dtype=np.int64)
    return Feed(_reader(source, clips, place, device, window_mib), source, targets, device, window_mib)


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


def _reader(source: FeatureSource, clips: Clips, place: Place, device: torch.device, window_mib: int | None) -> Reader:
    if place == "stream":
        return Streamed(source, window_mib)
    return InMemory(source, clips, device if place == "device" else None)


def _cut(windows: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Batches of windows: views, but for the few that begin in one and end in the next."""
    begun: Tensor | None = None
    for whole in windows:
        rows = whole
        if begun is not None:
            begun, rows = torch.cat([begun, rows[: size - len(begun)]]), rows[size - len(begun) :]
            if len(begun) < size:
                continue
            yield begun
        full = len(rows) // size * size
        yield from (rows[i : i + size] for i in range(0, full, size))
        begun = rows[full:].clone() if full < len(rows) else None  # not the whole window for it
    if begun is not None:
        yield begun


def _empty(source: FeatureSource, clips: int, device: torch.device | None = None) -> Tensor:
    """Room for the numbers of some clips, as the store keeps them."""
    kind: torch.dtype = getattr(torch, source.header.encoding.dtype)
    return torch.empty((clips, *source.layout.shape), dtype=kind, device=device)


def _moved(values: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda" or values.device.type == "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
