"""MFCCs of the harmonic and percussive components on the CPU: separated in compiled blocks of frames.

Only the harmonic component is brought back to audio: the soft masks add up to one, and a transform and its inverse to
nothing, so the percussive one is what is left of the waveform. Where a spectrum is corrected, it is what is left of the
corrected waveform, which is brought back beside it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ascfeat.dsp.backends import Transform, Values
from ascfeat.dsp.numba_backend.features import bands, cepstrum, gains, mel_energies, per_clip
from ascfeat.dsp.numba_backend.fourier import (
    LANES,
    Complex128,
    Float64,
    Samples,
    Tables,
    add_frames,
    block,
    compiled,
    overlap_add_numpy,
    scratch,
    stft,
    tables,
    transform,
)
from ascfeat.dsp.numba_backend.median import medians, memory, reflect, running_median, strip_rows
from ascfeat.dsp.specs import HpssMfccSpec, Stft


def hpss_mfcc(spec: HpssMfccSpec, device: str) -> Transform:
    """MFCCs of both components, ``(clip, channel, samples) -> (clip, channel, 2, n_mfcc, frames)``."""
    separation, made = tables(spec.separation), tables(spec.mfcc.stft)
    filters = bands(spec.mfcc.bank, spec.mfcc.stft, 2)
    weight = window_sum(spec.separation, separation)

    def one(waveform: Samples) -> Values:
        both = components(waveform, spec, separation, weight)
        power = mel_energies(both.reshape(-1, both.shape[-1]), replace(spec.mfcc.stft, mid=False), made, filters, 2)
        values = cepstrum(power, spec.mfcc)
        return values.reshape(*both.shape[:2], *values.shape[1:])

    return per_clip(one)


def components(waveform: Samples, spec: HpssMfccSpec, made: Tables, weight: Float64) -> Float64:
    """Harmonic and percussive audio of one clip.

    ``h = istft(X M)``, ``p = istft(X) - h``, with ``M = H^power / (H^power + P^power)`` from the running medians ``H``
    over frames and ``P`` over bins of ``|X|``; ``M = 1 / 2`` where both are zero.

    Parameters
    ----------
    waveform : array, shape ``(channel, samples)``
        One clip.
    spec : HpssMfccSpec
        Its separation; ``mid`` adds the mean of two channels as a third.
    made : Tables
        Of the separation's transform.
    weight : array
        Its :func:`window_sum`.

    Returns
    -------
    array, shape ``(channel, 2, samples)``, float64

    References
    ----------
    D. FitzGerald, *Harmonic/percussive separation using median filtering*, DAFx 2010; ``librosa.effects.hpss``.
    """
    stft_spec, samples = spec.separation, waveform.shape[-1]
    out = np.empty((len(waveform) + stft_spec.mid, 2, samples))
    own, half = slice(stft_spec.n_fft // 2, stft_spec.n_fft // 2 + samples), weight[stft_spec.n_fft // 2 :][:samples]
    harmonic, whole = component_sums(waveform, spec, made)
    np.divide(harmonic[:, own], half, out=out[:, 0])
    if len(whole):
        np.divide(whole[:, own], half, out=out[:, 1])
    else:
        out[: len(waveform), 1] = waveform
        if stft_spec.mid:
            np.multiply(out[0, 1] + out[1, 1], 0.5, out=out[2, 1])
    out[:, 1] -= out[:, 0]
    return out


def window_sum(spec: Stft, made: Tables) -> Float64:
    """What an inverse transform is divided by: the squared windows of all frames added up, padding included."""
    out = np.zeros(spec.n_fft + spec.hop_length * (spec.frames - 1))
    for t in range(spec.frames):
        out[t * spec.hop_length :][: spec.n_fft] += made.window**2
    return out


def component_sums(waveform: Samples, spec: HpssMfccSpec, made: Tables) -> tuple[Float64, Float64]:
    """Windowed inverse transforms added up, padding included, ``(channel, samples)``.

    Of the harmonic component; and of the whole corrected spectrum, or no channels where there is nothing to correct.
    """
    if not made.is_compiled:
        return component_sums_numpy(stft(waveform, spec.separation, made), spec, made)
    n_fft, hop, frames = spec.separation.n_fft, spec.separation.hop_length, spec.separation.frames
    channels = len(waveform) + spec.separation.mid
    tracks = np.empty((channels, -(-spec.separation.bins // LANES), strip_rows(frames, spec.kernel), LANES), np.float32)
    gain = np.array(spec.separation.gain or (), np.float64)
    out, whole = (np.zeros((count, n_fft + hop * (frames - 1))) for count in (channels, channels * (len(gain) > 0)))
    args = (waveform, frames, hop, made, gain, spec.kernel)
    _track(*args, tracks)
    _steady(tracks, frames, spec.kernel)
    _separate(*args, spec.power, tracks, out, whole)
    return out, whole


def component_sums_numpy(spectra: Complex128, spec: HpssMfccSpec, made: Tables) -> tuple[Float64, Float64]:
    """The NumPy twin, from spectra ``(channel, bin, frame)``."""
    spectra = spectra * gains(spec.separation)[:, None]
    masked = [x * harmonic_mask(np.abs(x), spec.kernel, spec.power) for x in spectra]
    harmonic, whole = (
        [overlap_add_numpy(x, spec.separation.hop_length, made.window) for x in each]
        for each in (masked, spectra if spec.separation.gain else ())
    )
    return np.stack(harmonic), np.array(whole)


def harmonic_mask(magnitude: Float64, kernel: int, power: float) -> Float64:
    """Share of each bin that is harmonic, ``(bin, frame)``."""
    steady, broad = running_median(magnitude.T, kernel).T, running_median(magnitude, kernel)
    larger = np.maximum(steady, broad)
    silent = larger < TINY
    larger[silent] = 1.0
    harmonic, percussive = (steady / larger) ** power, (broad / larger) ** power
    return np.where(silent, 0.5, harmonic / np.where(silent, 1.0, harmonic + percussive))


TINY = float(np.finfo(np.float64).tiny)
"""Below it both medians count as zero, and the component is split evenly, as in librosa."""


@compiled
def _track(waveform, frames, hop, made, gain, kernel, tracks):
    """Magnitudes turned into strips along time, ``(channel, group of bins, kernel // 2 + frame, lane)``."""
    bins = len(made.window) // 2 + 1
    slab, work = scratch(waveform, len(made.window), hop)
    re, im, magnitude = np.empty((2, bins, LANES)), np.empty((2, bins, LANES)), np.empty((bins, LANES), np.float32)
    for first in range(0, frames, LANES):
        count = min(LANES, frames - first)
        for c in range(len(tracks)):
            _spectrum(waveform, c, first, hop, made, gain, slab, work, re, im)
            here = c % len(re)
            _magnitudes(re[here].reshape(-1), im[here].reshape(-1), magnitude.reshape(-1))
            for g in range(tracks.shape[1]):
                _turn(magnitude, g * LANES, count, tracks[c, g, kernel // 2 + first :])


@compiled
def _spectrum(waveform, c, first, hop, made, gain, slab, work, re, im):
    """Corrected spectra of a block of channel ``c`` in row ``c % 2``; the third is the mean of the first two."""
    if c < len(waveform):
        block(waveform[c], first, hop, made, slab, work, re[c % 2], im[c % 2])
        if len(gain) > 0:
            _correct(re[c % 2], im[c % 2], gain)
    else:
        _average(re[0].reshape(-1), re[1].reshape(-1))
        _average(im[0].reshape(-1), im[1].reshape(-1))


@compiled
def _correct(re, im, gain):
    for k in range(len(gain)):
        for v in range(LANES):
            re[k, v] *= gain[k]
            im[k, v] *= gain[k]


@compiled
def _average(values, others):
    for i in range(len(values)):
        values[i] = 0.5 * (values[i] + others[i])


@compiled
def _magnitudes(re, im, out):
    for i in range(len(out)):
        out[i] = np.sqrt(re[i] * re[i] + im[i] * im[i])


@compiled
def _turn(magnitude, low, count, track):
    """``LANES`` bins of some frames, ``(bin, lane)``, as rows ``(frame, lane)``; the last bin is repeated."""
    last = len(magnitude) - 1
    for k in range(LANES):
        row = magnitude[min(low + k, last)]
        for v in range(count):
            track[v, k] = row[v]


@compiled
def _steady(tracks, frames, kernel):
    """Medians along time in the place of magnitudes, from row 0 on."""
    channels, groups = tracks.shape[:2]
    held, found = memory(tracks, frames, kernel)
    for c in range(channels):
        for g in range(groups):
            track = tracks[c, g]
            reflect(track.reshape(-1), frames, kernel)
            medians(track.reshape(-1), frames, kernel, held, found)
            track.reshape(-1)[: len(found)] = found


@compiled
def _separate(waveform, frames, hop, made, gain, kernel, power, tracks, out, whole):
    """Block by block: medians along frequency, masks, and the inverse transform of what they leave."""
    half = len(made.window) // 2
    slab, work = scratch(waveform, len(made.window), hop)
    re, im, mask = np.empty((2, half + 1, LANES)), np.empty((2, half + 1, LANES)), np.empty((half + 1) * LANES)
    strip = np.empty(strip_rows(half + 1, kernel) * LANES, tracks.dtype)
    held, broad = memory(tracks, half + 1, kernel)
    own = slice(kernel // 2 * LANES, (kernel // 2 + half + 1) * LANES)
    for first in range(0, frames, LANES):
        count = min(LANES, frames - first)
        for c in range(len(tracks)):
            _spectrum(waveform, c, first, hop, made, gain, slab, work, re, im)
            x, y = re[c % 2].reshape(-1), im[c % 2].reshape(-1)
            _magnitudes(x, y, strip[own])
            reflect(strip, half + 1, kernel)
            medians(strip, half + 1, kernel, held, broad)
            for k in range(half + 1):
                for v in range(count):
                    mask[k * LANES + v] = tracks[c, k // LANES, first + v, k % LANES]
            _to_masks(mask, broad, power)
            _pack(x, y, mask, made.half_roots, work[0], work[1])
            transform(work[1], work[0], made.roots)
            add_frames(work[0], work[1], first, count, hop, made, out[c])
            if len(whole) > 0:
                mask[:] = 1.0
                _pack(x, y, mask, made.half_roots, work[0], work[1])
                transform(work[1], work[0], made.roots)
                add_frames(work[0], work[1], first, count, hop, made, whole[c])


@compiled
def _to_masks(steady, broad, power):
    """The harmonic share in the place of ``steady``; both are scaled by the larger, so that no power overflows."""
    for i in range(len(steady)):
        h, p = steady[i], float(broad[i])
        larger = max(h, p)
        if larger < TINY:
            h, p, larger = 1.0, 1.0, 1.0
        h, p = h / larger, p / larger
        if power == 2.0:
            steady[i] = h * h / (h * h + p * p)
        else:
            steady[i] = h**power / (h**power + p**power)


@compiled
def _pack(re, im, mask, half_roots, zr, zi):
    """Masked half spectra ``(bin, lane)``, flat, to those of even samples plus ``i`` times odd ones."""
    half = len(re) // LANES - 1
    for k in range(half // 2 + 1):
        c, s = half_roots[k].real, -half_roots[k].imag
        near, far = k * LANES, (half - k) % half * LANES
        for v in range(LANES):
            i, j = k * LANES + v, (half - k) * LANES + v
            a, b, p, q = re[i] * mask[i], im[i] * mask[i], re[j] * mask[j], -im[j] * mask[j]
            even_re, even_im, dif_re, dif_im = 0.5 * (a + p), 0.5 * (b + q), 0.5 * (a - p), 0.5 * (b - q)
            odd_re, odd_im = dif_re * c - dif_im * s, dif_re * s + dif_im * c
            zr[near + v], zi[near + v] = even_re - odd_im, even_im + odd_re
            if k > 0:
                zr[far + v], zi[far + v] = even_re + odd_im, odd_re - even_im
