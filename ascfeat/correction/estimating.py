"""Coefficients from spectra: four ways to bring the mean spectra of devices together, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ascfeat.correction.pairing import Selection
from ascfeat.dsp.specs import LEAST

Float64 = npt.NDArray[np.float64]
Spectra = Callable[[Sequence[int]], Float64]
"""Mean spectra of some clips, ``(clip, bin)``: of magnitudes, or of their natural logarithms."""


@dataclass(frozen=True)
class Estimate:
    """Coefficients of each device, and what there is to say of them."""

    coefficients: Mapping[str, Float64]
    """``c_d[k]``, ``(bin,)``."""
    guarded: Mapping[str, npt.NDArray[np.bool_]]
    """Bins whose divisor was raised to ``LEAST``."""
    identity: float | None = None
    """``max |mean_i c_d M_{i,d} - R| / R`` over devices and bins that are not guarded, where the method promises 0."""


def estimate(method: str, chosen: Selection, reference: Sequence[str], spectra: Spectra) -> Estimate:
    """Coefficients by a method, from the clips that were chosen for it.

    Parameters
    ----------
    spectra : callable
        Mean magnitudes for ``mean`` and ``pairs``; for the geometric methods, means of their natural logarithms.

    References
    ----------
    nguyen2020 Sec. 2.2; Kosmider, DCASE 2019 technical report, and Interspeech 2020.
    """
    if method == "mean":
        return _mean(chosen, reference, spectra)
    if method == "pairs":
        return of_pairs({d: _held_against(chosen, d, spectra) for d in chosen.sets})
    if method == "geometric":
        return of_log_pairs({d: _held_against(chosen, d, spectra) for d in chosen.sets})
    return of_log_devices({d: spectra(clips) for d, clips in chosen.sets.items()}, reference)


def of_devices(spectra: Mapping[str, Float64], reference: Sequence[str]) -> Estimate:
    """``c_d = R / D_d``, with ``D_d = mean_i M_{i,d}`` and ``R`` the mean of all spectra of the reference devices.

    Parameters
    ----------
    spectra : mapping of arrays, shape ``(clip, bin)``
        Mean magnitude spectra of each device.
    """
    means: dict[str, Float64] = {d: m.mean(axis=0) for d, m in spectra.items()}
    common = np.concatenate([spectra[d] for d in reference]).mean(axis=0)
    guarded = {d: mean < LEAST for d, mean in means.items()}
    found = {d: common / np.maximum(mean, LEAST) for d, mean in means.items()}
    return Estimate(found, guarded, _identity(spectra, found, common, guarded))


def of_anchor(pairs: Mapping[str, tuple[Float64, Float64]], anchor: str, reference: Sequence[str]) -> Estimate:
    """``c_d = r / rho_d``: each device against an anchor over their own moments.

    ``rho_d = mean_i M_{i,d} / mean_i M_{i,anchor}`` over the moments of both, 1 for the anchor, and ``r`` the mean of
    ``rho_d`` over the reference devices. Over moments that all devices share it is :func:`of_devices`.

    Parameters
    ----------
    pairs : mapping of pairs of arrays, each of shape ``(clip, bin)``
        Of each device its spectra, and the anchor's of the same moments.
    """
    own, theirs = ({d: pair[i].mean(axis=0) for d, pair in pairs.items()} for i in (0, 1))
    ratio = {d: own[d] / np.maximum(theirs[d], LEAST) for d in pairs} | {anchor: np.ones_like(own[anchor])}
    common = np.mean([ratio[d] for d in reference], axis=0)
    guarded = {d: np.logical_or(own[d] < LEAST, theirs[d] < LEAST) for d in pairs}
    return Estimate({d: common / np.maximum(r, LEAST) for d, r in ratio.items()}, guarded)


def of_pairs(pairs: Mapping[str, tuple[Float64, Float64]]) -> Estimate:
    """``c_d = mean_i P_i / M_{i,d}``, with ``P_i`` the mean of the reference devices' spectra of moment ``i``.

    Parameters
    ----------
    pairs : mapping of pairs of arrays, of shapes ``(clip, bin)`` and ``(clip, reference device, bin)``
        Of each device its spectra, and the reference devices' of the same moments.
    """
    found = {d: (refs.mean(axis=1) / np.maximum(own, LEAST)).mean(axis=0) for d, (own, refs) in pairs.items()}
    return Estimate(found, {d: np.asarray((own < LEAST).any(axis=0)) for d, (own, _) in pairs.items()})


def of_log_pairs(pairs: Mapping[str, tuple[Float64, Float64]]) -> Estimate:
    """``c_d = exp mean_{i,t} ln(|X_{i,ref}| / |X_{i,d}|)``; of several references, the geometric mean of their spectra.

    Recordings of one moment have as many frames, so that the mean over frames of a difference of logarithms is the
    difference of their means.

    Parameters
    ----------
    pairs : mapping of pairs of arrays
        As in :func:`of_pairs`, of mean logarithms.
    """
    found = {d: np.exp((refs.mean(axis=1) - own).mean(axis=0)) for d, (own, refs) in pairs.items()}
    return Estimate(found, {d: _silent(own) for d, (own, _) in pairs.items()})


def of_log_devices(logs: Mapping[str, Float64], reference: Sequence[str]) -> Estimate:
    """``c_d = g_d / g_ref``, ``g_d = exp mean_{i,t} (-ln |X_{i,d}|)``; of several references, their geometric mean.

    Parameters
    ----------
    logs : mapping of arrays, shape ``(clip, bin)``
        Mean logarithms of each device's magnitudes.
    """
    means = {d: m.mean(axis=0) for d, m in logs.items()}
    common = np.mean([means[d] for d in reference], axis=0)
    return Estimate({d: np.exp(common - mean) for d, mean in means.items()}, {d: _silent(m) for d, m in logs.items()})


def _mean(chosen: Selection, reference: Sequence[str], spectra: Spectra) -> Estimate:
    if chosen.pairing == "complete":
        return of_devices({d: spectra(clips) for d, clips in chosen.sets.items()}, reference)
    pairs = {d: (own, refs[:, 0]) for d in chosen.sets for own, refs in [_held_against(chosen, d, spectra)]}
    return of_anchor(pairs, chosen.anchor, reference)


def _held_against(chosen: Selection, device: str, spectra: Spectra) -> tuple[Float64, Float64]:
    """Spectra of a device, ``(clip, bin)``, and of what they are held against, ``(clip, partner, bin)``."""
    own, partners = spectra(chosen.sets[device]), chosen.partners[device]
    flat = spectra([p for each in partners for p in each])
    return own, flat.reshape(len(partners), -1, own.shape[-1])


def _identity(
    spectra: Mapping[str, Float64],
    found: Mapping[str, Float64],
    common: Float64,
    guarded: Mapping[str, npt.NDArray[np.bool_]],
) -> float:
    """Evaluated on the spectra themselves: every clip is corrected, and then averaged."""
    worst = 0.0
    for device, each in spectra.items():
        clear = ~guarded[device] & (common > 0)
        apart = np.abs((each * found[device]).mean(axis=0) - common)[clear] / common[clear]
        worst = max(worst, float(apart.max(initial=0.0)))
    return worst


def _silent(logs: Float64) -> npt.NDArray[np.bool_]:
    """Bins that are below the floor in every frame of a clip: their mean logarithm is the floor's, rounded."""
    return np.asarray((logs <= np.log(LEAST) + 1e-5).any(axis=0))
