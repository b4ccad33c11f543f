"""What there is to say of coefficients: clips, guards, and devices compared on recordings that the estimate missed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ascfeat.correction.estimating import Estimate, Float64, Spectra, estimate
from ascfeat.correction.pairing import Clips, Moment, Selection, select
from ascschemas.correction import Band, DeviceAudit, Grid, HeldOut, Method
from ascschemas.problems import DatasetError

SHARE = 0.25
"""Share of the parallel moments that is held off, at least."""
LOWEST = 50.0
"""Lower edge in Hz of the lowest third octave."""
SILENCE = -400.0
"""Decibels of a coefficient of zero."""


@dataclass(frozen=True)
class Held:
    """Parallel moments of the training side that an estimate is to do without."""

    moments: tuple[Moment, ...]
    locations: tuple[str, ...]
    """Their locations, which are held off whole; none where there is only one."""
    clips: Clips
    """What is left to estimate from."""


def held_off(clips: Clips, *, seed: int) -> Held | None:
    """Hold off some parallel moments, by location where there are several; None where there are too few.

    Locations are drawn by the seed until they hold a quarter of the moments; every clip of theirs is held off.
    """
    moments = list(clips.parallel)
    places = sorted({_place(m) for m in moments})
    groups = [[m for m in moments if _place(m) == p] for p in places] if len(places) > 1 else [[m] for m in moments]
    if len(groups) < 2:
        return None
    chosen = list[int]()
    for group in np.random.default_rng(seed).permutation(len(groups))[:-1].tolist():
        chosen.append(group)
        if sum(len(groups[g]) for g in chosen) >= SHARE * len(moments):
            break
    off = [m for g in sorted(chosen) for m in groups[g]]
    names = tuple(places[g] for g in sorted(chosen)) if len(places) > 1 else ()
    gone = {*names}
    left = [i for i, m in enumerate(clips.moments) if _place(m) in gone or (not gone and m in {*off})]
    return Held(tuple(off), names, clips.apart_from(left))


def compared(
    clips: Clips, reference: Sequence[str], method: Method, spectra: Spectra, grid: Grid, *, seed: int
) -> HeldOut | None:
    """Estimate without some parallel recordings, and compare the devices on these before and after.

    None where there are too few to hold any off, or the rest gives no coefficients.
    """
    held = held_off(clips, seed=seed)
    if held is None:
        return None
    try:
        chosen = select(held.clips, reference, method)
    except DatasetError:  # a reference device records parallel to nothing else
        return None
    found = estimate(method, chosen, reference, spectra).coefficients
    there = {m: {d: i for d, i in clips.parallel[m].items() if d in found} for m in held.moments}
    there = {m: devices for m, devices in there.items() if len(devices) > 1}
    if not there:
        return None
    magnitudes = spectra if not method.startswith("geometric") else lambda at: np.exp(spectra(at))
    return _held_out(there, found, magnitudes, grid, held, _moments(chosen, held.clips), seed)


def third_octaves(grid: Grid) -> list[tuple[float, float]]:
    """Edges of the third octaves from 50 Hz to half the rate that hold a bin of the transform, ``1000 * 2^(n/3)``."""
    first = round(3 * math.log2(LOWEST / 1000))
    edges = [1000 * 2 ** ((first + n - 0.5) / 3) for n in range(40)]
    bins = np.array(grid.frequencies())
    return [(a, b) for a, b in pairwise(edges) if b <= grid.sample_rate / 2 and ((bins >= a) & (bins < b)).any()]


def levels(spectra: Float64, grid: Grid) -> Float64:
    """Level in dB of each third octave, from mean magnitudes ``(…, bin)``: ``20 log10`` of their mean in the band."""
    bins = np.array(grid.frequencies())
    means = [spectra[..., (bins >= a) & (bins < b)].mean(axis=-1) for a, b in third_octaves(grid)]
    return np.asarray(20 * np.log10(np.maximum(np.stack(means, axis=-1), 1e-20)))


def devices_of(chosen: Selection, found: Estimate, clips: Clips) -> tuple[DeviceAudit, ...]:
    """What each device's coefficients came from, counted over the clips that were used."""
    trained = {d: sum(clips.devices[i] == d for i in clips.training) for d in chosen.sets}
    return tuple(
        DeviceAudit(
            device=device,
            clips=tuple(clips.ids[i] for i in sorted(used)),
            unpaired=trained[device] - len(used),
            guarded=tuple(np.flatnonzero(found.guarded[device]).tolist()),
            lowest=_decibels(found.coefficients[device].min()),
            highest=_decibels(found.coefficients[device].max()),
        )
        for device, used in sorted(chosen.sets.items())
    )


def _held_out(
    there: Mapping[Moment, Mapping[str, int]],
    found: Mapping[str, Float64],
    magnitudes: Callable[[Sequence[int]], Float64],
    grid: Grid,
    held: Held,
    moments: int,
    seed: int,
) -> HeldOut:
    devices = sorted({d for each in there.values() for d in each})
    before, after = (_spread(there, magnitudes, grid, gain) for gain in ({}, found))
    bands = tuple(
        Band(low=low, high=high, before=float(b), after=float(a))
        for (low, high), b, a in zip(third_octaves(grid), before[0], after[0], strict=True)
    )
    return HeldOut(
        stems=tuple(m[3] for m in there),
        locations=held.locations,
        devices=tuple(devices),
        estimated_from=moments,
        seed=seed,
        before=_rms(before[0]),
        after=_rms(after[0]),
        each_before=_rms(before[1]),
        each_after=_rms(after[1]),
        bands=bands,
    )


def _spread(
    there: Mapping[Moment, Mapping[str, int]],
    magnitudes: Callable[[Sequence[int]], Float64],
    grid: Grid,
    gain: Mapping[str, Float64],
) -> tuple[Float64, Float64]:
    """How far devices lie apart in each band, in dB: their mean spectra, and those of single recordings.

    Each device is held against the one that recorded most of the moments, over the moments of both.
    """
    of = {d: {m: i for m, each in there.items() for e, i in each.items() if e == d} for d in _names(there)}
    spectra = {d: magnitudes(list(each.values())) * gain.get(d, 1.0) for d, each in of.items()}
    rows = {d: {m: n for n, m in enumerate(each)} for d, each in of.items()}
    anchor = min(of, key=lambda d: (-len(of[d]), d))
    apart, single = [np.zeros(len(third_octaves(grid)))], list[Float64]()
    for device in of:
        shared = [m for m in of[device] if m in of[anchor]]
        if device != anchor and shared:
            pair = [spectra[d][[rows[d][m] for m in shared]] for d in (device, anchor)]
            mean, its = (levels(each.mean(axis=0), grid) for each in pair)
            apart.append(mean - its)
    for moment, each in there.items():
        single.append(np.std([levels(spectra[d][rows[d][moment]], grid) for d in each], axis=0))
    return np.std(apart, axis=0), np.sqrt(np.mean(np.square(single), axis=0))


def _names(there: Mapping[Moment, Mapping[str, int]]) -> list[str]:
    return sorted({d for each in there.values() for d in each})


def _moments(chosen: Selection, clips: Clips) -> int:
    return len({clips.moments[i] for used in chosen.sets.values() for i in used})


def _place(moment: Moment) -> str:
    """City and location; of a list that names none, the moment itself."""
    return "-".join(p for p in dict.fromkeys(moment[1:3]) if p) or moment[3]


def _rms(values: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _decibels(coefficient: float) -> float:
    return float(20 * np.log10(coefficient)) if coefficient > 0 else SILENCE
