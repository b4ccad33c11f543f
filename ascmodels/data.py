"""The feed: batches of features and labels, from memory where they fit or from the store, the same either way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor

from ascmodels.sides import Clips
from ascmodels.source import FeatureSource, Values

Place = Literal["ram", "stream"]
"""Where features are read from while training: memory, or the store."""
Placement = Place | Literal["auto"]
"""A wish for it; ``auto`` is memory where the features fit."""
Reader = Callable[[Clips], Values]
"""Positions in the store -> features ``(n, *layout.shape)`` in that order."""

MEMORY_SHARE = 0.6
"""Share of the memory available now that features may take; the rest is for the network, the system and others."""
CLIPS_PER_READ = 256


@dataclass(frozen=True)
class Batch:
    """Some clips: positions in the store, features as stored, and class numbers."""

    clips: Clips
    """Positions in the store, ``(B,)``."""
    features: Tensor
    """``(B, C, F, T)``, float32, not normalised, on the CPU."""
    targets: Tensor
    """Class numbers, ``(B,)``, int64."""


@dataclass(frozen=True)
class Feed:
    """Batches of clips in any order, wherever the features lie."""

    read: Reader
    """Where features come from."""
    targets: npt.NDArray[np.int64]
    """Class number of each clip of the store; -1 where it has no label."""
    place: Place
    """Where that is, in a word."""

    def batches(self, clips: Clips, size: int) -> Iterator[Batch]:
        """The clips in their order, ``size`` at a time; the last batch holds what remains."""
        for start in range(0, len(clips), size):
            chosen = clips[start : start + size]
            yield Batch(chosen, torch.from_numpy(self.read(chosen)), torch.from_numpy(self.targets[chosen]))


def placed(source: FeatureSource, clips: int, wanted: Placement = "auto") -> Place:
    """Where so many clips of a store are best read from; ``auto`` takes memory where they fit."""
    if wanted != "auto":
        return wanted
    fits = clips * source.layout.clip_bytes <= MEMORY_SHARE * psutil.virtual_memory().available
    return "ram" if fits else "stream"


def feed(source: FeatureSource, clips: Clips, classes: tuple[str, ...], place: Place) -> Feed:
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
        ``ram`` reads all clips now, ``stream`` reads each batch from the store when it is asked for.
    """
    number = {label: i for i, label in enumerate(classes)}
    targets = np.array([number.get(label, -1) for label in source.labels], dtype=np.int64)
    return Feed(_in_memory(source, clips) if place == "ram" else source.read, targets, place)


def shuffled(clips: Clips, draw: np.random.Generator) -> Clips:
    """The clips in an order drawn from a generator."""
    return draw.permutation(clips)


def _in_memory(source: FeatureSource, clips: Clips) -> Reader:
    kept = np.unique(clips)
    values = np.empty((len(kept), *source.layout.shape), np.float32)
    for start in range(0, len(kept), CLIPS_PER_READ):
        rows = slice(start, start + CLIPS_PER_READ)
        source.read(kept[rows], out=values[rows])
    return lambda wanted: values[np.searchsorted(kept, wanted)]
