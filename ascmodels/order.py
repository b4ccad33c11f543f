"""The order of clips in an epoch: shuffled within windows of whole shards, the same wherever features are read from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ascmodels.sides import Clips
from ascmodels.source import FeatureSource

MIB = 1 << 20


@dataclass(frozen=True)
class Order:
    """Clips one after the other, in windows that a reader may hold as a whole."""

    clips: Clips
    """Positions in the store."""
    ends: tuple[int, ...]
    """Where each window ends, as positions in ``clips``; the last one is their number."""

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)

    @property
    def windows(self) -> Iterator[Clips]:
        """The clips of each window."""
        return (self.clips[start:end] for start, end in pairwise((0, *self.ends)))


def in_order(source: FeatureSource, clips: Clips, window_mib: int | None) -> Order:
    """The clips as they are given, for scoring.

    Parameters
    ----------
    source : FeatureSource
        The store.
    clips : array of int
        Positions in it.
    window_mib : int, optional
        As for :func:`shuffled`.
    """
    room = _clips_per_window(source, window_mib)
    return Order(clips, tuple(range(room, len(clips), room)) + ((len(clips),) if len(clips) else ()))


def shuffled(source: FeatureSource, clips: Clips, window_mib: int | None, draw: np.random.Generator) -> Order:
    """The clips in an order drawn from a generator, so that each shard is read once.

    The shards are put in random order and taken into windows of at most ``window_mib``; the clips of a window are
    shuffled. Where all clips fit into one window, as with most sets, that is a permutation like any other.

    Parameters
    ----------
    source : FeatureSource
        The store.
    clips : array of int
        Positions in it.
    window_mib : int, optional
        Size of a window's features in float32, in MiB; a window has a whole shard at least. None takes all clips
        into one, whatever their size.
    draw : Generator
        What the order is drawn from.
    """
    room = _clips_per_window(source, window_mib)
    if len(clips) <= room:
        return Order(draw.permutation(clips), (len(clips),) if len(clips) else ())
    shards = _shards(source, clips)
    parts = [draw.permutation(w) for w in _windows([shards[i] for i in draw.permutation(len(shards))], room)]
    return Order(np.concatenate(parts), tuple(np.cumsum([len(p) for p in parts]).tolist()))


def _clips_per_window(source: FeatureSource, window_mib: int | None) -> int:
    if window_mib is None:
        return max(1, source.header.clips)
    return max(1, window_mib * MIB // source.layout.clip_bytes)


def _shards(source: FeatureSource, clips: Clips) -> list[Clips]:
    """The clips of each shard, those of the first one first."""
    ordered = np.sort(clips)
    edges = np.flatnonzero(np.diff(ordered // source.header.clips_per_unit)) + 1
    return np.split(ordered, edges)


def _windows(shards: list[Clips], room: int) -> Iterator[Clips]:
    """Shards put together until the next one would not fit."""
    window: list[Clips] = []
    for shard in shards:
        if window and sum(map(len, window)) + len(shard) > room:
            yield np.concatenate(window)
            window = []
        window.append(shard)
    yield np.concatenate(window)
