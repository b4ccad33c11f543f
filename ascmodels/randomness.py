"""Where every random draw of a run comes from: its seed, a purpose and counters; nothing else is kept or shared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np
import torch

Purpose = Literal["validation", "weights", "order", "augmentation", "layers"]
"""What is drawn for; new ones go to the end, so that old runs repeat."""


def generator(seed: int, purpose: Purpose, *counters: int) -> np.random.Generator:
    """A fresh generator for one purpose; the same arguments give the same draws.

    A run that goes on from epoch e needs no saved state: the draws of epoch e + 1 are made from ``(seed, e + 1)``.

    Parameters
    ----------
    seed : int
        The run's seed.
    purpose : str
        What is drawn for.
    *counters : int
        Such as the epoch and the batch.
    """
    key = (get_args(Purpose).index(purpose), *counters)
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=key))


@contextmanager
def torch_seeded(seed: int, purpose: Purpose, *counters: int, device: torch.device) -> Iterator[None]:
    """Within it, torch draws (weights, dropout) come from ``(seed, purpose, counters)``; after it all is as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(generator(seed, purpose, *counters).integers(1 << 62)))
        yield
