"""Which training clips an epoch has: each once, or as many of every class, device or both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ascmodels.source import Clips, ClipTable
from ascschemas.training import Sampler


def sampled(source: ClipTable, clips: Clips, how: Sampler, draw: np.random.Generator) -> Clips:
    """The clips of an epoch, as many as there are, in no particular order.

    Balanced, every group has the same number of them, one more or less: of a group that is larger, clips are drawn
    without repetition; of a smaller one, each is there equally often, once more or less.

    Parameters
    ----------
    source : ClipTable
        A sealed store, or several joined.
    clips : array of int
        The training side.
    how : str
        ``each`` takes every clip once and draws nothing; ``class``, ``device`` and ``class_device`` name the groups.
    draw : Generator
        What is left to chance comes from it.
    """
    if how == "each":
        return clips
    groups = _groups(source, clips, how)
    quotas = _shared_out(len(clips), len(groups), draw)
    return np.concatenate([_taken(group, n, draw) for group, n in zip(groups, quotas, strict=True)])


def _groups(source: ClipTable, clips: Clips, how: Sampler) -> list[Clips]:
    """Clips by the value of what is balanced, in alphabetical order."""
    columns = {"class": source.labels, "device": source.devices}
    named: Sequence[tuple[str, ...]] = [tuple(columns[part][c] for part in how.split("_")) for c in clips]
    return [clips[[i for i, name in enumerate(named) if name == group]] for group in sorted({*named})]


def _shared_out(total: int, parts: int, draw: np.random.Generator) -> list[int]:
    """A number in equal parts; who gets one more is drawn."""
    more = {*draw.permutation(parts)[: total % parts].tolist()}
    return [total // parts + (i in more) for i in range(parts)]


def _taken(group: Clips, count: int, draw: np.random.Generator) -> Clips:
    """So many clips of a group: whole permutations of it, the last one cut."""
    rounds = -(-count // len(group))
    return np.concatenate([draw.permutation(group) for _ in range(rounds)])[:count] if count else group[:0]
