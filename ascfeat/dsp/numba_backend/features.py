"""Log-mels, MFCCs and mean spectra on the CPU: transform, energy and bands in one compiled pass over a block of frames.

Transforms are float64: what they subtract leaves little of large numbers. Energies and their sums over bands are
float32: nothing is subtracted there, so no rounding grows; so are decibels and their cosine transform, which are then
within 1e-4 dB. The logarithm of log-mels is taken in float64. Energies far below 1e-38 count as zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from ascfeat.dsp.backends import Transform, Values
from ascfeat.dsp.mel import filter_bank
from ascfeat.dsp.numba_backend.fourier import (
    LANES,
    Float64,
    Samples,
    Tables,
    aligned,
    block,
    block_energies,
    compiled,
    scratch,
    stft,
    tables,
)
from ascfeat.dsp.specs import LEAST, Decibels, LogMelSpec, MeanSpectrumSpec, MelBank, MelSpec, MfccSpec, Stft


@dataclass(frozen=True)
class Bands:
    """A mel bank as the bins that each band adds up: triangles that meet at their feet touch a bin at most twice."""

    first: npt.NDArray[np.int64]
    """Number of the first bin of each band, ``(n_mels,)``."""
    ends: npt.NDArray[np.int64]
    """Where the weights of each band end in ``weights``, ``(n_mels + 1,)``, from 0."""
    weights: Values
    """Weights of all bands, one after the other, each filled up with zeros to a multiple of ``AT_ONCE``."""
    matrix: Float64
    """The same filters, ``(n_mels, bin)``."""


ONE, ROOT_OF_HALF, TWO_TO_52 = (np.float64(x).view(np.uint64) for x in (1.0, 0.5**0.5, 2.0**52))
"""The bits of some numbers in float64."""
MANTISSA = np.uint64(52)
"""Bits of a float64 below its exponent."""
LN2 = math.log(2)
AT_ONCE = 4
"""Bins added to a band in one step: its sum goes to memory and back once a step."""


def log_mel(spec: LogMelSpec, device: str) -> Transform:
    """``ln(W |STFT(x)|^power + floor)``, ``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""
    made, filters = tables(spec.stft), bands(spec.bank, spec.stft, spec.power)

    return per_clip(lambda x: log_energies(x, spec, made, filters))


def mel(spec: MelSpec, device: str) -> Transform:
    """``W |STFT(x)|^power``, ``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""
    made, filters = tables(spec.stft), bands(spec.bank, spec.stft, spec.power)
    return per_clip(lambda x: in_order(mel_energies(x, spec.stft, made, filters, spec.power), spec.stft.frames))


def mfcc(spec: MfccSpec, device: str) -> Transform:
    """``DCT(dB(W |STFT(x)|^2))``, ``(clip, channel, samples) -> (clip, channel, n_mfcc, frames)``."""
    made, filters = tables(spec.stft), bands(spec.bank, spec.stft, 2)
    return per_clip(lambda x: cepstrum(mel_energies(x, spec.stft, made, filters, 2), spec))


def mean_spectrum(spec: MeanSpectrumSpec, device: str) -> Transform:
    """``mean_t |STFT(x)|``, or of its logarithm, ``(clip, channel, samples) -> (clip, channel, bins)``."""
    made = tables(spec.stft)
    return per_clip(lambda x: mean_magnitude(x, spec, made).astype(np.float32))


def per_clip(function: Callable[[Samples], Values]) -> Transform:
    """A transform of batches from one of clips, ``(channel, samples) -> features``."""

    def transform(waveforms: Values) -> Values:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and its clip is excluded
            values = [function(clip) for clip in waveforms]
        return values[0][None] if len(values) == 1 else np.stack(values)

    return transform


def bands(bank: MelBank, spec: Stft, power: int) -> Bands:
    """A mel bank without its zeros, over ``|X|^power`` of a transform: its gains are part of the weights."""
    matrix = filter_bank(bank)
    first = (matrix > 0).argmax(axis=1)
    widths = (matrix > 0).sum(axis=1)
    if spec.gain is not None:
        matrix = matrix * gains(spec) ** power
    spans = [np.pad(row[f : f + w], (0, -w % AT_ONCE)) for row, f, w in zip(matrix, first, widths, strict=True)]
    return Bands(first, np.cumsum([0, *map(len, spans)]), np.concatenate(spans).astype(np.float32), matrix)


def mel_energies(waveform: Samples, spec: Stft, made: Tables, filters: Bands, power: int) -> Values:
    """``W |STFT(x)|^power`` of one clip, in blocks of frames.

    Returns
    -------
    array, shape ``(channel, block, n_mels, LANES)``, float32
        Frame ``t`` lies at block ``t // LANES``, lane ``t % LANES``; what follows the last frame is zero.
        :func:`in_order` brings frames into their order.
    """
    blocks, channels = -(-spec.frames // LANES), len(waveform) + spec.mid
    if not made.is_compiled:
        return in_blocks(mel_energies_numpy(stft(waveform, spec, made), filters, power)).astype(np.float32)
    out = np.empty((channels, blocks, len(filters.matrix), LANES), np.float32)
    banks = filters.first, filters.ends, filters.weights
    _mel_energies(waveform, spec.hop_length, spec.frames, made, spec.mid, power, banks, out)
    return out


def log_energies(waveform: Samples, spec: LogMelSpec, made: Tables, filters: Bands) -> Values:
    """``ln(W |STFT(x)|^power + floor)`` of one clip, ``(channel, n_mels, frame)``, float32."""
    whole = spec.stft
    if not made.is_compiled:
        mel = mel_energies_numpy(stft(waveform, whole, made), filters, spec.power).astype(np.float32)
        return np.log(mel + np.float64(spec.floor)).astype(np.float32)
    out = np.empty((len(waveform) + whole.mid, len(filters.matrix), whole.frames), np.float32)
    banks = filters.first, filters.ends, filters.weights
    _log_energies(waveform, whole.hop_length, made, whole.mid, spec.power, banks, spec.floor, out)
    return out


def mel_energies_numpy(spectrum: npt.NDArray[np.complex128], filters: Bands, power: int) -> Float64:
    """The NumPy twin: a dense product with ``|X|^power``, ``(channel, bin, frame) -> (channel, n_mels, frame)``."""
    return np.asarray(filters.matrix @ np.abs(spectrum) ** power)


def in_order(blocks: Samples, frames: int) -> Values:
    """Blocks ``(channel, block, row, LANES)`` as ``(channel, row, frame)``, rounded to float32."""
    channels, _, rows, _ = blocks.shape
    return blocks.transpose(0, 2, 1, 3).reshape(channels, rows, -1)[..., :frames].astype(np.float32)


def in_blocks(rows: Float64) -> Float64:
    """Frames ``(channel, row, frame)`` as blocks ``(channel, block, row, LANES)``, the last filled up with zeros."""
    channels, height, frames = rows.shape
    filled = np.pad(rows, ((0, 0), (0, 0), (0, -frames % LANES)))
    return np.ascontiguousarray(filled.reshape(channels, height, -1, LANES).transpose(0, 2, 1, 3))


def mean_magnitude(waveform: Samples, spec: MeanSpectrumSpec, made: Tables) -> Float64:
    """``mean_t |STFT(x)|``, or of its logarithm, of one clip, ``(channel, samples) -> (channel, bin)``, float64."""
    whole = spec.stft
    if not made.is_compiled:
        return mean_magnitude_numpy(stft(waveform, whole, made), gains(whole), logarithmic=spec.logarithmic)
    out = np.zeros((len(waveform) + whole.mid, whole.bins))
    _mean_magnitude(
        waveform, whole.hop_length, whole.frames, made, whole.mid, gains(whole), LEAST, spec.logarithmic, out
    )
    return out


def mean_magnitude_numpy(spectrum: npt.NDArray[np.complex128], gain: Float64, *, logarithmic: bool = False) -> Float64:
    """The NumPy twin, on ``(channel, bin, frame)``."""
    magnitude = np.abs(spectrum) * gain[:, None]
    return np.log(np.maximum(magnitude, LEAST)).mean(axis=-1) if logarithmic else magnitude.mean(axis=-1)


def gains(spec: Stft) -> Float64:
    """The factor on each bin of a transform, ones where it has none."""
    return np.ones(spec.bins) if spec.gain is None else np.array(spec.gain)


def cepstrum(energies: Values, spec: MfccSpec) -> Values:
    """MFCCs ``(channel, n_mfcc, frame)`` of blocks of mel powers, which are overwritten."""
    level = decibels(energies, spec.decibels)
    coefficients = scipy.fft.dct(level, axis=-2, type=2, norm="ortho", overwrite_x=True)
    return in_order(coefficients[..., : spec.n_mfcc, :], spec.stft.frames)


def decibels(power: Samples, spec: Decibels) -> Samples:
    """Power to decibels in place; the peak is taken over one channel of one clip, all axes but the first."""
    np.maximum(power, spec.amin, out=power)
    np.log10(power, out=power)
    power *= 10.0
    if spec.top_db is not None:
        peak = power.max(axis=tuple(range(1, power.ndim)), keepdims=True)
        np.maximum(power, peak - spec.top_db, out=power)
    return power


@compiled
def _mel_energies(waveform, hop, frames, made, mid, power, banks, out):
    channels, blocks, _, _ = out.shape
    slab, work = scratch(waveform, len(made.window), hop)
    re, im, energies = spectra_of(channels, len(made.window) // 2 + 1, mid)
    for b in range(blocks):
        energies_of(waveform, b, hop, made, mid, power, slab, work, re, im, energies)
        for c in range(channels):
            add_up(energies[c], banks, out[c, b])
    out[:, -1, :, frames - (blocks - 1) * LANES :] = 0.0


@compiled
def _log_energies(waveform, hop, made, mid, power, banks, floor, out):
    channels, bands, frames = out.shape
    slab, work = scratch(waveform, len(made.window), hop)
    re, im, energies = spectra_of(channels, len(made.window) // 2 + 1, mid)
    sums = np.empty((bands, LANES), np.float32)
    level, exponents = np.empty(bands * LANES), np.empty(bands * LANES)
    for first in range(0, frames, LANES):
        energies_of(waveform, first // LANES, hop, made, mid, power, slab, work, re, im, energies)
        for c in range(channels):
            add_up(energies[c], banks, sums)
            logarithms(sums.reshape(-1), floor, level, exponents)
            for m in range(bands):
                row, logs = out[c, m, first : first + LANES], level[m * LANES : (m + 1) * LANES]
                for v in range(len(row)):
                    row[v] = logs[v]


@compiled
def logarithms(powers, floor, level, exponents):
    """``level = ln(powers + floor)`` in float64; what is no number or infinite stays so. ``exponents`` is scratch.

    A library's logarithm takes one float64 after the other where a processor has no AVX-512. With ``x = 2^k m`` and
    ``m`` between the roots of 1/2 and of 2, ``ln x = k ln 2 + 2 artanh s`` with ``s = (m - 1) / (m + 1)``, whose series
    is within 3e-16 after nine terms.
    """
    bits, exponent_bits = level.view(np.uint64), exponents.view(np.uint64)
    for i in range(len(powers)):
        level[i] = float(powers[i]) + floor
    for i in range(len(powers)):
        k = (bits[i] - ROOT_OF_HALF + ONE) >> MANTISSA
        exponent_bits[i] = k | TWO_TO_52
        bits[i] -= (k << MANTISSA) - ONE
    for i in range(len(powers)):
        s = (level[i] - 1.0) / (level[i] + 1.0)
        z = s * s
        high = ((z * (1 / 17) + 1 / 15) * z + 1 / 13) * z + 1 / 11
        series = (((high * z + 1 / 9) * z + 1 / 7) * z + 1 / 5) * z + 1 / 3
        y = (exponents[i] - (2.0**52 + 1023)) * LN2 + 2.0 * (s + s * z * series)
        level[i] = y if powers[i] < np.inf else powers[i]


@compiled
def spectra_of(channels, bins, mid):
    """Scratch: spectra ``(2, bin, lane)``, where mid asks for them, and energies ``(channel, bin, lane)``, float32.

    Energies have bins to spare that hold zeros.
    """
    rows = bins if mid else 0
    re, im = aligned(2 * rows, LANES).reshape((2, rows, LANES)), aligned(2 * rows, LANES).reshape((2, rows, LANES))
    energies = aligned(channels * (bins + AT_ONCE), LANES // 2)
    energies[:] = 0.0
    return re, im, energies.view(np.float32).reshape((channels, bins + AT_ONCE, LANES))


@compiled
def _energies_and_mid(left_re, right_re, left_im, right_im, left, right, mid):
    for i in range(len(left_re)):
        a, b, c, d = left_re[i], right_re[i], left_im[i], right_im[i]
        left[i], right[i] = a * a + c * c, b * b + d * d
        mid[i] = 0.25 * ((a + b) * (a + b) + (c + d) * (c + d))


@compiled
def _roots(energies):
    for i in range(len(energies)):
        energies[i] = np.sqrt(energies[i])


@compiled
def add_up(energies, banks, out):
    """Weighted sums ``(n_mels, lane)`` of the bins ``(bin, lane)`` of each band, all frames of a block at once."""
    lows, ends, weights = banks
    for m in range(len(lows)):
        low, total, j = lows[m] - ends[m], out[m], ends[m]
        w0, w1, w2, w3 = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
        for v in range(LANES):
            lower = w0 * energies[low + j, v] + w1 * energies[low + j + 1, v]
            total[v] = lower + (w2 * energies[low + j + 2, v] + w3 * energies[low + j + 3, v])
        for j in range(ends[m] + AT_ONCE, ends[m + 1], AT_ONCE):
            w0, w1, w2, w3 = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
            for v in range(LANES):
                lower = w0 * energies[low + j, v] + w1 * energies[low + j + 1, v]
                total[v] += lower + (w2 * energies[low + j + 2, v] + w3 * energies[low + j + 3, v])


@compiled
def energies_of(waveform, b, hop, made, mid, power, slab, work, re, im, energies):
    """``|X|^power`` of the frames of block ``b``, ``(channel, bin, lane)``."""
    first = b * LANES
    for c in range(len(waveform)):
        if mid:
            block(waveform[c], first, hop, made, slab, work, re[c], im[c])
        else:
            block_energies(waveform[c], first, hop, made, slab, work, energies[c])
    if mid:
        _energies_and_mid(
            re[0].reshape(-1), re[1].reshape(-1), im[0].reshape(-1), im[1].reshape(-1),
            energies[0].reshape(-1), energies[1].reshape(-1), energies[2].reshape(-1),
        )  # fmt: skip
    if power == 1:
        _roots(energies.reshape(-1))


@compiled
def _mean_magnitude(waveform, hop, frames, made, mid, gain, least, logarithmic, out):
    channels, bins = out.shape
    slab, work = scratch(waveform, len(made.window), hop)
    re, im, energies = spectra_of(channels, bins, mid)
    for b in range(-(-frames // LANES)):
        count = min(LANES, frames - b * LANES)
        energies_of(waveform, b, hop, made, mid, 1, slab, work, re, im, energies)
        for c in range(channels):
            for k in range(bins):
                for v in range(count):
                    value = gain[k] * energies[c, k, v]
                    out[c, k] += np.log(max(value, least)) if logarithmic else value
    out /= frames
