"""Leaks between the sides of a split: one clip, one place or one moment known to both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from ascfeat.doctor.recordings import finding
from ascschemas.dataset import Clip, Manifest, Split
from ascschemas.findings import Finding, FindingKind

Sides = tuple[list[str], list[str]]
"""Clip ids on the train side and on the test side."""


def leaks(manifest: Manifest) -> tuple[Finding, ...]:
    """Every clip, location and segment that stands on both sides of a split, in order of split and name."""
    clips = {clip.id: clip for clip in manifest.clips}
    return tuple(found for split in manifest.splits for found in _leaks_of(split, clips))


def crossing(manifest: Manifest, clips: Sequence[str]) -> tuple[str, ...]:
    """Names of the splits that have some of those clips on the train side and others on the test side."""
    wanted = set(clips)
    return tuple(
        split.name
        for split in manifest.splits
        if not wanted.isdisjoint(split.train) and not wanted.isdisjoint(split.test)
    )


def _leaks_of(split: Split, clips: Mapping[str, Clip]) -> Iterator[Finding]:
    for clip in sorted({*split.train} & {*split.test}):
        yield finding("leak-clip", f"is on both sides of {split.name}", clip, split=split.name)
    yield from _shared(split, clips, "leak-location", lambda clip: clip.location)
    yield from _shared(split, clips, "leak-segment", lambda clip: clip.segment)


def _shared(
    split: Split, clips: Mapping[str, Clip], kind: FindingKind, key: Callable[[Clip], str]
) -> Iterator[Finding]:
    for name, (train, test) in sorted(_sides_by(split, clips, key).items()):
        if name and train and test:
            yield finding(kind, _sentence(kind, name, split.name, train, test, clips), *train, *test, split=split.name)


def _sides_by(split: Split, clips: Mapping[str, Clip], key: Callable[[Clip], str]) -> Mapping[str, Sides]:
    sides: defaultdict[str, Sides] = defaultdict(lambda: ([], []))
    for side, ids in enumerate((split.train, split.test)):
        for clip in ids:
            sides[key(clips[clip])][side].append(clip)
    return sides


def _sentence(
    kind: FindingKind, name: str, split: str, train: Sequence[str], test: Sequence[str], clips: Mapping[str, Clip]
) -> str:
    what = "location" if kind == "leak-location" else "segment"
    many = "clip" if len(train) == 1 else "clips"
    example = f"{len(train)} {many} in train (first {train[0]}), {len(test)} in test (first {test[0]})"
    devices = sorted({clips[c].device for c in (*train, *test)})
    copies = f"; parallel recordings of devices {', '.join(devices)}" if what == "segment" and len(devices) > 1 else ""
    return f"{what} {name} is on both sides of {split}: {example}{copies}"
