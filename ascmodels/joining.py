"""Several stores of the same clips, joined on the clip's id: one table of clips, and features from each store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ascmodels.folds import EXAMPLES, fold, sides_of
from ascmodels.inputs import Input, examples
from ascmodels.source import Clips, FeatureSource, Located
from ascschemas.problems import Difference, StoreError, StoreMismatch, nearest

SAID = 3
"""Clips that are named where two stores differ."""


@dataclass(frozen=True)
class Member:
    """One of the stores."""

    source: FeatureSource
    """The store."""
    at: Clips
    """Where each clip of the first store lies in this one."""

    @property
    def input(self) -> Input:
        """What a network sees of it."""
        return Input.of(self.source.header)


@dataclass(frozen=True)
class Joined:
    """Stores of the same clips. Positions are those of the first store, and so is what is known of each clip."""

    members: tuple[Member, ...]
    usable: npt.NDArray[np.bool_]
    """Whether every store holds values of a clip."""

    @property
    def first(self) -> FeatureSource:
        """The store whose order of clips counts."""
        return self.members[0].source

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What a network sees of each store."""
        return tuple(m.input for m in self.members)

    @property
    def examples(self) -> int:
        """Examples that a clip gives."""
        return examples(self.inputs)

    @property
    def cut(self) -> bool:
        """Whether any of the stores is seen in patches, if only one a clip."""
        return any(member.input.patches for member in self.members)

    @property
    def clip_bytes(self) -> int:
        """Size of a clip's features in float32, in all stores together."""
        return sum(m.source.layout.clip_bytes for m in self.members)

    @property
    def clips_per_unit(self) -> int:
        """Clips of the largest shard; stores whose shards nest are read shard by shard."""
        return max(m.source.header.clips_per_unit for m in self.members)

    @property
    def place(self) -> Located:
        """Where the first store lies."""
        return self.first.place

    @property
    def ids(self) -> tuple[str, ...]:
        """Clip ids."""
        return self.first.ids

    @property
    def labels(self) -> tuple[str, ...]:
        """Class of each clip; empty where unknown, as below."""
        return self.first.labels

    @property
    def devices(self) -> tuple[str, ...]:
        """Recording device of each clip."""
        return self.first.devices

    @property
    def cities(self) -> tuple[str, ...]:
        """City of each clip."""
        return self.first.cities

    @property
    def locations(self) -> tuple[str, ...]:
        """Location of each clip."""
        return self.first.locations

    @property
    def segments(self) -> tuple[str, ...]:
        """What parallel recordings share."""
        return self.first.segments

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are stored."""
        return self.first.header.splits

    def sides(self, split: str) -> npt.NDArray[np.str_]:
        """``train``, ``test`` or ``unused`` for each clip.

        Parameters
        ----------
        split : str
            A split that is stored, or a fold of ``ascmodels.folds``, such as ``location5_1``.

        Raises
        ------
        StoreError
            When it is neither.
        RunError
            When there are fewer locations than folds.
        """
        if split in self.splits:
            return self.first.sides(split)
        if wanted := fold(split):
            return sides_of(self, wanted)
        near = nearest(split, [*self.splits, *EXAMPLES])
        raise StoreError(
            f"{self.place} has no split {split!r}: {near}",
            todo=f"Name one of its splits ({', '.join(self.splits) or 'it has none'}) or a fold by location, "
            "location<K>_<k>, such as location5_1.",
        )


def join(*sources: FeatureSource) -> Joined:
    """Sealed stores of the same clips as one.

    Raises
    ------
    StoreMismatch
        When they hold other clips, label them otherwise, divide them otherwise, or cut them into other numbers of
        patches; the first clips that differ are named.
    """
    first = sources[0]
    number = {clip: i for i, clip in enumerate(first.ids)}
    for other in sources[1:]:
        _require_alike(first, other, number)
    members = [Member(source, _places(source, number)) for source in sources]
    usable = np.logical_and.reduce([m.source.usable[m.at] for m in members])
    made = Joined(tuple(members), usable)
    _require_patches(made)
    return made


def joined(source: FeatureSource | Joined) -> Joined:
    """A store alone as a join of one; a join as it is."""
    return source if isinstance(source, Joined) else join(source)


def _places(source: FeatureSource, number: dict[str, int]) -> Clips:
    at = np.empty(len(number), dtype=np.int64)
    at[[number[clip] for clip in source.ids]] = np.arange(len(number))
    return at


def _require_alike(first: FeatureSource, other: FeatureSource, number: dict[str, int]) -> None:
    rows = list(_clips_apart(first, other))
    if not rows:
        at = _places(other, number)
        rows += _columns_apart("label", first.ids, first.labels, [other.labels[i] for i in at])
        shared = [s for s in first.header.splits if s in other.header.splits]
        for split in shared:
            rows += _columns_apart(
                f"side in {split}", first.ids, list(first.sides(split)), list(other.sides(split)[at])
            )
        if not shared and first.header.splits:
            names = [", ".join(s.header.splits) or "none" for s in (first, other)]
            rows.append(Difference(field="splits", expected=names[0], found=names[1]))
    if rows:
        raise StoreMismatch(
            f"{first.place} and {other.place} do not hold the same clips.",
            differences=rows,
            todo="Extract both recipes from the same dataset, in one command: `ascfeat extract --recipe ONE --recipe "
            "TWO <dataset>`.",
        )


def _clips_apart(first: FeatureSource, other: FeatureSource) -> list[Difference]:
    ours, theirs = {*first.ids}, {*other.ids}
    apart = [
        (sorted(ours - theirs), "in both", "in the first only"),
        (sorted(theirs - ours), "in both", "in the other only"),
    ]
    return [
        row for clips, expected, found in apart for row in _named(clips, [expected] * len(clips), [found] * len(clips))
    ]


def _columns_apart(what: str, ids: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> list[Difference]:
    apart = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    said = [[f"{what} {column[i] or 'none'}" for i in apart] for column in (ours, theirs)]
    return _named([ids[i] for i in apart], *said)


def _named(clips: Sequence[str], expected: Sequence[str], found: Sequence[str]) -> list[Difference]:
    """The first clips of many, and how many there are."""
    rows = [Difference(field=c, expected=e, found=f) for c, e, f in zip(clips, expected, found, strict=True)][:SAID]
    more = len(clips) - len(rows)
    return [*rows, Difference(field=f"and {more} more", expected=expected[0], found="otherwise")] if more > 0 else rows


def _require_patches(made: Joined) -> None:
    """Patches of several stores stand side by side, so there are as many of each; a whole clip goes with any."""
    counts = {m.source.place.absolute: m.input.count for m in made.members}
    several = {name: n for name, n in counts.items() if n > 1}
    if len({*several.values()}) > 1:
        (_, wanted), *others = several.items()
        raise StoreMismatch(
            "Patches of these stores cannot stand side by side.",
            differences=[
                Difference(field=name, expected=f"{wanted} patches a clip", found=str(n))
                for name, n in others
                if n != wanted
            ],
            todo="Choose recipes whose patches have the same width and hop in time.",
        )
