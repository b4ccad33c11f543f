"""Clips counted by class, device, city and side, and compared with the published numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from ascfeat.datasets.official import OfficialSet
from ascschemas.dataset import AudioFormat, Manifest, Side
from ascschemas.findings import GroupCount, SideCount
from ascschemas.problems import Difference

OFFICIAL_SPLIT: Final = "fold1"
"""The one split that the published sets have."""
SIDES: Final[tuple[Side, ...]] = ("train", "test", "unused")


def side_counts(manifest: Manifest) -> tuple[SideCount, ...]:
    """Clips on each side of every split."""
    return tuple(_counted(split.name, manifest.sides(split)) for split in manifest.splits)


def group_counts(manifest: Manifest) -> tuple[GroupCount, ...]:
    """Clips by class, device and city, and each of these by side of every split, in alphabetical order."""
    keys = [(clip.label, clip.device, clip.city) for clip in manifest.clips]
    sides = {split.name: Counter(zip(keys, manifest.sides(split), strict=True)) for split in manifest.splits}
    return tuple(
        GroupCount(
            label=key[0],
            device=key[1],
            city=key[2],
            clips=clips,
            sides=tuple(_side_count(name, [found[key, side] for side in SIDES]) for name, found in sides.items()),
        )
        for key, clips in sorted(Counter(keys).items())
    )


def official_differences(manifest: Manifest, known: OfficialSet) -> tuple[Difference, ...]:
    """Counts of fold 1 that are not the published ones: by device and side, by class where that is published too."""
    split = manifest.split(OFFICIAL_SPLIT)
    sides: tuple[Side, ...] = manifest.sides(split) if split else tuple("unused" for _ in manifest.clips)
    found = Counter(
        (clip.device, label, side)
        for clip, side in zip(manifest.clips, sides, strict=True)
        for label in {"", clip.label}
    )
    expected = dict(_published(known))
    keys = [*expected, *(key for key in sorted(found) if key not in expected and _comparable(key, known))]
    return tuple(
        _difference(key, expected.get(key, 0), found[key]) for key in keys if expected.get(key, 0) != found[key]
    )


def format_difference(found: AudioFormat | None, known: OfficialSet) -> str:
    """How the recordings' format differs from the published one; empty where it does not."""
    official = known.format.audio
    return "" if found in (None, official) else f"officially {official}; here {found}"


def _published(known: OfficialSet) -> Iterator[tuple[tuple[str, str, Side], int]]:
    for device, counts in known.devices.items():
        yield from (((device, "", side), n) for side, n in zip(SIDES, counts, strict=True))
    for device, classes in known.classes.items():
        for label, counts in classes.items():
            yield from (((device, label, side), n) for side, n in zip(SIDES, counts, strict=True))


def _comparable(key: tuple[str, str, Side], known: OfficialSet) -> bool:
    """Whether a count that is not published says something: an unknown device, or a class of a published device."""
    device, label, _ = key
    return not label or device in known.classes


def _difference(key: tuple[str, str, Side], expected: int, found: int) -> Difference:
    device, label, side = key
    return Difference(
        field=f"{label or 'all classes'}, device {device}, {side}", expected=str(expected), found=str(found)
    )


def _counted(name: str, sides: Iterable[Side]) -> SideCount:
    found = Counter(sides)
    return _side_count(name, [found[side] for side in SIDES])


def _side_count(name: str, counts: list[int]) -> SideCount:
    return SideCount(split=name, train=counts[0], test=counts[1], unused=counts[2])
