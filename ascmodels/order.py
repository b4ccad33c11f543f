"""The order of an epoch: shuffled within windows of whole shards, the same wherever features are read from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ascmodels.joining import Joined
from ascmodels.source import Clips

MIB = 1 << 20


@dataclass(frozen=True)
class Order:
    """Clips, or patches of clips, one after the other, in windows that a reader may hold as a whole."""

    clips: Clips
    """Positions in the store."""
    ends: tuple[int, ...]
    """Where each window ends, as positions in ``clips``; the last one is their number."""
    parts: Clips | None = None
    """Number of the patch of each; None where clips are seen whole."""

    def __len__(self) -> int:
        """Number of clips, or of patches."""
        return len(self.clips)

    def first(self, count: int) -> Order:
        """The same, ended after so many."""
        if count >= len(self):
            return self
        ends = (*(end for end in self.ends if end < count), count)
        return Order(self.clips[:count], ends, None if self.parts is None else self.parts[:count])

    @property
    def windows(self) -> Iterator[slice]:
        """Where each window lies."""
        return (slice(start, end) for start, end in pairwise((0, *self.ends)))


def in_order(source: Joined, clips: Clips, window_mib: int | None) -> Order:
    """Whole clips as they are given, for scoring.

    Parameters
    ----------
    source : Joined
        The stores.
    clips : array of int
        Positions in them.
    window_mib : int, optional
        As for :func:`shuffled`.
    """
    room = _clips_per_window(source, window_mib)
    return Order(clips, tuple(range(room, len(clips), room)) + ((len(clips),) if len(clips) else ()))


def shuffled(source: Joined, clips: Clips, window_mib: int | None, draw: np.random.Generator) -> Order:
    """The clips, or all their patches, in an order drawn from a generator, so that each shard is read once.

    The shards are put in random order and taken into windows of at most ``window_mib``; the clips of a window, or
    their patches, are shuffled. Where all clips fit into one window, as with most sets, that is a permutation like any
    other.

    Parameters
    ----------
    source : Joined
        The stores.
    clips : array of int
        Positions in them.
    window_mib : int, optional
        Size of a window's features in float32, in MiB; a window has a whole shard at least. None takes all clips
        into one, whatever their size.
    draw : Generator
        What the order is drawn from.
    """
    room, count = _clips_per_window(source, window_mib), source.examples
    if len(clips) <= room:
        windows = [clips] if len(clips) else []
    else:
        shards = _shards(source, clips)
        windows = list(_windows([shards[i] for i in draw.permutation(len(shards))], room))
    mixed = [draw.permutation(_numbered(window, count)) for window in windows]
    examples = np.concatenate(mixed) if mixed else clips
    ends = tuple(np.cumsum([len(m) for m in mixed]).tolist())
    return Order(examples // count, ends, examples % count if source.cut else None)


def _numbered(clips: Clips, count: int) -> Clips:
    """Every example of some clips as one number: ``clip * count + patch``."""
    found: Clips = (clips[:, None] * count + np.arange(count)).ravel()
    return found


def _clips_per_window(source: Joined, window_mib: int | None) -> int:
    if window_mib is None:
        return max(1, len(source.ids))
    return max(1, window_mib * MIB // source.clip_bytes)


def _shards(source: Joined, clips: Clips) -> list[Clips]:
    """The clips of each shard, those of the first one first."""
    ordered = np.sort(clips)
    edges = np.flatnonzero(np.diff(ordered // source.clips_per_unit)) + 1
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
