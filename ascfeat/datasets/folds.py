"""Folds for datasets that come without any: no place on both sides, classes balanced, the same on every machine."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from ascschemas.dataset import Clip, Split

FOLDS: Final = 5
"""How many folds are made."""


def made_folds(clips: Sequence[Clip], folds: int = FOLDS) -> tuple[Split, ...]:
    """Splits ``fold1`` … ``fold5`` of labelled clips; the test side of ``fold<k>`` is the k-th part.

    Clips that share a location (or, without one, a segment) go together. Groups are taken class by class, large ones
    first and equal ones in the order of their name's SHA-256, and each goes to the part that has the fewest clips of
    its class. The order in which clips are listed does not matter. There are as many folds as groups when those are
    fewer, and none for fewer than two.

    Parameters
    ----------
    clips : sequence of Clip
        The clips; unlabelled ones are in no fold.
    folds : int
        The most folds to make.

    Returns
    -------
    tuple of Split
        Their ``origin`` is this rule in words.
    """
    labelled = [clip for clip in clips if clip.label]
    part = _parts(labelled, folds)
    made = len(set(part.values()))
    grouped = "by location, " if any(c.location or c.segment for c in labelled) else ""
    origin = f"made by ascfeat: {made} folds, {grouped}balanced by class, ordered by SHA-256 of the names"
    if made < 2:
        return ()
    return tuple(
        Split(
            name=f"fold{k + 1}",
            train=tuple(c.id for c in labelled if part[_group(c)] != k),
            test=tuple(c.id for c in labelled if part[_group(c)] == k),
            origin=origin,
        )
        for k in range(made)
    )


def _group(clip: Clip) -> str:
    return f"location {clip.location}" if clip.location else f"segment {clip.segment}" if clip.segment else clip.id


def _parts(clips: Sequence[Clip], folds: int) -> dict[str, int]:
    """The part of each group."""
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for clip in clips:
        groups[_group(clip)][clip.label] += 1
    filled: list[Counter[str]] = [Counter() for _ in range(min(folds, len(groups)))]
    part: dict[str, int] = {}
    for name in _order(groups):
        part[name] = _emptiest(filled, _main(groups[name]))
        filled[part[name]].update(groups[name])
    return part


def _order(groups: Mapping[str, Counter[str]]) -> list[str]:
    return sorted(groups, key=lambda g: (_main(groups[g]), -groups[g].total(), hashlib.sha256(g.encode()).digest()))


def _emptiest(filled: Sequence[Counter[str]], label: str) -> int:
    return min(range(len(filled)), key=lambda k: (filled[k][label], filled[k].total(), k))


def _main(labels: Counter[str]) -> str:
    """The class a group counts for: its most frequent label."""
    return min(labels, key=lambda label: (-labels[label], label))
