"""Parallel recordings: which clips of the training side are of one moment, and which of them coefficients come from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from ascfeat.store import Store
from ascschemas.correction import Method
from ascschemas.dataset import Manifest, Split
from ascschemas.problems import DatasetError, Difference, nearest

Pairing = Literal["complete", "anchor", "each", "none"]
Moment = tuple[str, str, str, str]
"""What parallel recordings share: label, city, location and segment."""

FEW = 0.5
"""Moments that all devices recorded are few below that share of those that one device has in common with the anchor:
2019 Mobile has as many of both, 2020 Mobile 58 and 750."""


@dataclass(frozen=True)
class Clips:
    """What is known of a dataset's clips, a column a property, in the order of its list."""

    ids: Sequence[str]
    moments: Sequence[Moment]
    devices: Sequence[str]
    sides: Sequence[str]
    """``train``, ``test`` or ``unused``."""
    usable: Sequence[bool]
    without: frozenset[int] = frozenset()
    """Positions that are to be treated as if they were not there: held off."""

    @cached_property
    def training(self) -> list[int]:
        """Usable clips of the training side that no test clip shares a moment with, each device once a moment.

        A clip of an unnamed device tells nothing of a device.
        """
        beside = {*self.beside_test, *self.repeated}
        return [i for i in self._usable_training if i not in beside]

    @cached_property
    def beside_test(self) -> list[int]:
        """Usable training clips of moments that the test side knows as well, by another device."""
        tested = {m for m, side in zip(self.moments, self.sides, strict=True) if side == "test" and m[3]}
        return [i for i in self._usable_training if self.moments[i] in tested]

    @cached_property
    def repeated(self) -> list[int]:
        """Usable training clips of a moment of which the list names a clip of the same device before."""
        seen, found = set[tuple[Moment, str]](), []
        for i in self._usable_training:
            key = self.moments[i], self.devices[i]
            if key in seen and key[0][3]:
                found.append(i)
            seen.add(key)
        return found

    @cached_property
    def excluded(self) -> list[int]:
        """Training clips that hold no values."""
        return [i for i, side in enumerate(self.sides) if side == "train" and not self.usable[i]]

    @cached_property
    def parallel(self) -> dict[Moment, dict[str, int]]:
        """Moments that the training side has of at least two devices: position by device."""
        found: dict[Moment, dict[str, int]] = defaultdict(dict)
        for i in self.training:
            if self.moments[i][3]:  # a dataset that names no segments has no parallel recordings that anybody knows of
                found[self.moments[i]][self.devices[i]] = i
        return {moment: devices for moment, devices in found.items() if len(devices) > 1}

    @property
    def names(self) -> tuple[str, ...]:
        """Every device of the dataset that has a name, in alphabetical order."""
        return tuple(sorted({d for d in self.devices if d}))

    def apart_from(self, positions: Iterable[int]) -> Clips:
        """The same clips, as if some were not there."""
        return replace(self, without=self.without | {*positions})

    @cached_property
    def _usable_training(self) -> list[int]:
        rows = enumerate(zip(self.sides, self.usable, self.devices, strict=True))
        return [i for i, (side, ok, device) in rows if side == "train" and ok and device and i not in self.without]


@dataclass(frozen=True)
class Selection:
    """Clips that coefficients are estimated from, by device: of parallel ones, moment by moment in one order."""

    pairing: Pairing
    sets: Mapping[str, tuple[int, ...]]
    """By device that gets coefficients."""
    partners: Mapping[str, tuple[tuple[int, ...], ...]]
    """By device, what each of its clips is held against: clips of the reference devices, or of the anchor."""
    anchor: str = ""


def clips_of(manifest: Manifest, split: Split) -> Clips:
    """The clips of a dataset, before it is known which of them can be used."""
    moments = [(c.label, c.city, c.location, c.segment) for c in manifest.clips]
    devices = [c.device for c in manifest.clips]
    return Clips([c.id for c in manifest.clips], moments, devices, manifest.sides(split), [True] * len(manifest.clips))


def clips_in(store: Store, split: str) -> Clips:
    """The clips of a sealed store."""
    moments = list(zip(store.labels, store.cities, store.locations, store.segments, strict=True))
    return Clips(store.ids, moments, store.devices, store.sides(split).tolist(), store.usable.tolist())


def select(clips: Clips, reference: Sequence[str], method: Method) -> Selection:
    """Choose what coefficients are estimated from.

    ``mean`` takes the moments that every device recorded that shares any with the anchor, the device that shares most.
    Where these are fewer than half of those that one device shares with the anchor, each device is held against the
    anchor over its own moments. ``pairs`` and ``geometric`` take for each device the moments that it and every
    reference device recorded; ``geometric_unaligned`` takes every training clip.

    Raises
    ------
    DatasetError
        When the split trains on nothing, there is only one device, a reference device is not there, or there are no
        parallel recordings to take.
    """
    _refuse_nothing(clips)
    _refuse_strangers(clips, reference)
    if method == "geometric_unaligned":
        return _unaligned(clips)
    if not clips.parallel:
        _refuse_unpaired(clips)
    chosen = _of_devices(clips) if method == "mean" else _of_pairs(clips, reference)
    lacking = [d for d in reference if d not in chosen.sets]
    if lacking:
        raise DatasetError(
            f"Device {lacking[0]} has no parallel recording on the training side that method {method} could use.",
            differences=_shared(clips, lacking[0]),
            todo="Leave it out of --ref, or use another --method.",
        )
    return chosen


def _of_devices(clips: Clips) -> Selection:
    anchor = _anchor(clips)
    own = {d: [m for m, there in clips.parallel.items() if {d, anchor} <= there.keys()] for d in clips.names}
    own = {d: moments for d, moments in own.items() if moments}
    complete = [m for m, there in clips.parallel.items() if own.keys() <= there.keys()]
    most = max(len(moments) for d, moments in own.items() if d != anchor)
    if len(complete) >= FEW * most:
        sets = {d: tuple(clips.parallel[m][d] for m in complete) for d in own}
        return Selection("complete", sets, {}, anchor)
    sets = {d: tuple(clips.parallel[m][d] for m in moments) for d, moments in own.items()}
    partners = {d: tuple((clips.parallel[m][anchor],) for m in moments) for d, moments in own.items()}
    return Selection("anchor", sets, partners, anchor)


def _of_pairs(clips: Clips, reference: Sequence[str]) -> Selection:
    """Of each device the moments that every reference device recorded, too."""
    whole = [there for there in clips.parallel.values() if {*reference} <= there.keys()]
    of = {d: [there for there in whole if d in there] for d in clips.names}
    sets = {d: tuple(there[d] for there in each) for d, each in of.items() if each}
    partners = {d: tuple(tuple(there[r] for r in reference) for there in of[d]) for d in sets}
    return Selection("each", sets, partners)


def _unaligned(clips: Clips) -> Selection:
    sets: dict[str, list[int]] = defaultdict(list)
    for i in clips.training:
        sets[clips.devices[i]].append(i)
    return Selection("none", {d: tuple(sets[d]) for d in sorted(sets)}, {})


def _anchor(clips: Clips) -> str:
    """The device that shares most moments with others; of several the first in the alphabet."""
    count = Counter(d for there in clips.parallel.values() for d in there)
    return min(count, key=lambda d: (-count[d], d))


def _refuse_nothing(clips: Clips) -> None:
    if not any(side == "train" for side in clips.sides):
        raise DatasetError(
            "The split has no training clips, and a correction is estimated from no others.",
            differences=[Difference(field="training clips", expected="at least one", found="0")],
            todo="Name a split that trains on something with --split.",
        )
    if len(clips.names) < 2:
        raise DatasetError(
            "There is nothing to correct: the dataset names only one device.",
            differences=[Difference(field="devices", expected="at least 2", found=", ".join(clips.names) or "none")],
            todo="Correct a dataset that was recorded by several devices, and whose list says by which.",
        )


def _refuse_strangers(clips: Clips, reference: Sequence[str]) -> None:
    """Refuse reference devices that the dataset, or its training side, lacks."""
    trained = {clips.devices[i] for i in clips.training}
    for device in reference:
        if device not in clips.names:
            what = f"There is no device {device!r} in this dataset: {nearest(device, clips.names)}"
        elif device not in trained:
            what = f"Device {device!r} has no usable clip on the training side."
        else:
            continue
        found = ", ".join(sorted(trained)) or "none"
        raise DatasetError(
            what,
            differences=[Difference(field="devices of the training side", expected=device, found=found)],
            todo="Name devices that are there with --ref.",
        )


def _refuse_unpaired(clips: Clips) -> None:
    count = Counter(clips.devices[i] for i in clips.training)
    found = "0, of " + ", ".join(f"{n} clips of {d}" for d, n in sorted(count.items()))
    beside = f"; {len(clips.beside_test)} clips have their partner on the test side" if clips.beside_test else ""
    raise DatasetError(
        "The training side has no parallel recordings: no moment was recorded by two devices.",
        differences=[Difference(field="parallel moments", expected="at least one", found=found + beside)],
        todo="Use --method geometric_unaligned, which needs none, or check the names of the recordings: parallel ones "
        "differ in the device only.",
    )


def _shared(clips: Clips, device: str) -> list[Difference]:
    """How many moments a device shares with each of the others."""
    count = Counter(d for there in clips.parallel.values() if device in there for d in there if d != device)
    found = ", ".join(f"{n} with {d}" for d, n in sorted(count.items())) or "none with any"
    return [Difference(field=f"moments of {device}", expected="some with every device asked for", found=found)]
