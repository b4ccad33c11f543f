"""The direct constant-Q transform by FFT, in float64: long filters on the whole clip, short ones on blocks of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from ascfeat.dsp.backends import Transform, Values
from ascfeat.dsp.cqt import Blocks, Complex128, Float64, Plan, Whole, plan, require_direct
from ascfeat.dsp.numba_backend.features import decibels
from ascfeat.dsp.numba_backend.fourier import compiled
from ascfeat.dsp.specs import CqtSpec


def cqt(spec: CqtSpec, device: str) -> Transform:
    """``dB |sum_n x[n] conj(w_k[n - t hop])|``, ``(clip, channel, samples) -> (clip, channel, n_bins, frames)``."""
    require_direct(spec, "numba")
    parts = plan(spec)

    def transform(waveforms: Values) -> Values:
        return np.stack([levels(responses(clip, parts, spec), spec) for clip in waveforms])

    return transform


def responses(clip: Values, parts: Plan, spec: CqtSpec) -> Complex128:
    """Complex outputs ``(channel, bin, frame)`` of one clip; the mid channel is the mean of the two others'."""
    channels = len(clip)
    out = np.empty((channels + spec.mid, spec.n_bins, spec.frames), dtype=np.complex128)
    for part in parts:
        out[:channels, part.bins] = (
            apply_whole(clip, part, spec.frames) if isinstance(part, Whole) else apply_blocks(clip, part, spec.frames)
        )
    if spec.mid:
        np.multiply(out[0] + out[1], 0.5, out=out[2])
    return out


def apply_whole(clip: Values, part: Whole, frames: int) -> Complex128:
    """Long filters' outputs ``(channel, filter, frame)``, channels in pairs: two real signals are one complex one."""
    pairs = [_pair(clip[i : i + 2], part, frames) for i in range(0, len(clip), 2)]
    return np.concatenate(pairs)


def _pair(pair: Values, part: Whole, frames: int) -> Complex128:
    low, high = part.first.min(), (part.first + np.diff(part.offsets)).max()
    transformed = scipy.fft.fft(circular(pair, part, frames), overwrite_x=True)
    planes = np.empty((2 * len(pair), high - low, part.periods))
    separate(transformed, part.phase[0], part.phase[1], low, planes)
    folded = np.zeros((2 * len(pair), len(part.bins), part.periods))
    fold(planes, part.kernels, part.first - low, part.offsets, folded)
    spectra = folded[0::2] + 1j * folded[1::2]
    outputs: Complex128 = scipy.fft.ifft(spectra, norm="forward", overwrite_x=True)[..., :frames]
    return outputs


def circular(pair: Values, part: Whole, frames: int) -> Complex128:
    """One or two signals as one complex one, reflected at the edges; what lies before its start is at the end."""
    before, after = part.reach
    length, stop = part.hop * part.periods, (frames - 1) * part.hop + after
    padded = np.pad(pair, ((0, 0), part.reach), mode="reflect")
    z = np.zeros(length, dtype=np.complex128)
    for signal, out in zip(padded, (z.real, z.imag), strict=False):
        out[:stop] = signal[before : before + stop]
        out[length - before :] = signal[:before]
    return z


def apply_blocks(clip: Values, part: Blocks, frames: int) -> Complex128:
    """Short filters' outputs ``(channel, filter, frame)``: spectra of blocks times kernels, summed where they alias."""
    filters, blocks = len(part.bins), -(-frames // part.count)
    spectra = scipy.fft.rfft(overlapping(clip, part, blocks), axis=0, overwrite_x=True)
    spectra *= part.phase[:, None]
    products = np.zeros((*part.kernels.shape[:2], 2 * spectra.shape[1]))
    filtered(spectra.view(np.float64), part.kernels, products)
    signed = products.view(np.complex128)
    folded = signed[:, :filters]
    folded += np.conj(signed[-np.arange(part.periods), filters:])  # a real signal's other half
    values = scipy.fft.ifft(folded, axis=0, norm="forward")[part.first : part.first + part.count]
    shaped = values.reshape(part.count, filters, len(clip), blocks).transpose(2, 1, 3, 0)
    return shaped.reshape(len(clip), filters, -1)[..., :frames]


def overlapping(clip: Values, part: Blocks, blocks: int) -> Float64:
    """Blocks ``(sample, channel * block)`` of the reflected clip, the frames of each following those of the last."""
    length, step = part.hop * part.periods, part.hop * part.count
    reflected = np.pad(clip, ((0, 0), part.reach), mode="reflect")
    padded = np.zeros((len(clip), length + (blocks - 1) * step))
    inner = padded[:, part.first * part.hop - part.reach[0] :]
    used = min(inner.shape[-1], reflected.shape[-1])
    inner[:, :used] = reflected[:, :used]
    windows = np.lib.stride_tricks.sliding_window_view(padded, length, axis=-1)[:, ::step]
    return np.ascontiguousarray(windows.reshape(-1, length).T)


def levels(outputs: Complex128, spec: CqtSpec) -> Values:
    """Magnitudes or their decibels, ``(channel, bin, frame)``, rounded once."""
    power = outputs.real**2 + outputs.imag**2
    values = np.sqrt(power) if spec.decibels is None else decibels(power, spec.decibels)
    return values.astype(np.float32)


@compiled
def separate(z: Any, by_segment: Any, by_place: Any, low: int, planes: Any) -> None:  # pragma: no cover
    """:func:`separate_in_numpy`, compiled."""
    length, periods = len(z), planes.shape[2]
    two = len(planes) == 4
    for q in range(planes.shape[1]):
        base = (q + low - len(by_segment) // 2) * periods
        for p in range(periods):
            a, b = z[(base + p) % length], z[(-base - p) % length]
            turn = 0.5 * by_segment[q + low] * by_place[p]
            left = turn * complex(a.real + b.real, a.imag - b.imag)
            planes[0, q, p], planes[1, q, p] = left.real, left.imag
            if two:
                right = turn * complex(a.imag + b.imag, b.real - a.real)
                planes[2, q, p], planes[3, q, p] = right.real, right.imag


def separate_in_numpy(z: Complex128, by_segment: Complex128, by_place: Complex128, low: int, planes: Float64) -> None:
    """Spectra of two real signals out of that of one complex one, turned by a phase, parts side by side.

    ``X(f) = (Z(f) + conj Z(-f)) / 2`` and ``Y(f) = (Z(f) - conj Z(-f)) / 2i``.

    Parameters
    ----------
    z : array, shape ``(hop * periods,)``
        Spectrum of ``x + i y``.
    by_segment, by_place : array, shapes ``(hop,)`` and ``(periods,)``
        Factors of the phase.
    low : int
        The first segment that is wanted; segment ``hop // 2`` begins at frequency 0.
    planes : array, shape ``(2 or 4, segment, periods)``
        Filled with the real and imaginary parts of ``X``, and of ``Y``.
    """
    segments, periods = planes.shape[1:]
    f = (low - len(by_segment) // 2) * periods + np.arange(segments * periods)
    a, b = z[f % len(z)], np.conj(z[-f % len(z)])
    turn = np.outer(by_segment[low : low + segments], by_place)
    for i, spectrum in enumerate(((a + b) / 2, (a - b) / 2j)[: len(planes) // 2]):
        turned = spectrum.reshape(segments, periods) * turn
        planes[2 * i], planes[2 * i + 1] = turned.real, turned.imag


@compiled
def fold(planes: Any, kernels: Any, first: Any, offsets: Any, out: Any) -> None:  # pragma: no cover
    """:func:`fold_in_numpy`, compiled; four segments at once, so that sums are loaded and stored a quarter as often."""
    for k in range(len(first)):
        kernel = kernels[offsets[k] : offsets[k + 1]]
        fours = len(kernel) - len(kernel) % 4
        for q in range(0, fours, 4):
            for c in range(len(planes)):
                v, sums = planes[c, first[k] + q :], out[c, k]
                for p in range(len(sums)):
                    sums[p] += (kernel[q, p] * v[0, p] + kernel[q + 1, p] * v[1, p]) + (
                        kernel[q + 2, p] * v[2, p] + kernel[q + 3, p] * v[3, p]
                    )
        for q in range(fours, len(kernel)):
            for c in range(len(planes)):
                v, sums = planes[c, first[k] + q :], out[c, k]
                for p in range(len(sums)):
                    sums[p] += kernel[q, p] * v[0, p]


def fold_in_numpy(
    planes: Float64,
    kernels: Float64,
    first: npt.NDArray[np.intp],
    offsets: npt.NDArray[np.intp],
    out: Float64,
) -> None:
    """Spectra times real kernels, their segments added up: ``out[c, k, p] += sum_q kernel_k[q, p] plane_c[q, p]``.

    Parameters
    ----------
    planes : array, shape ``(part, segment, periods)``
        Spectra, real and imaginary parts side by side.
    kernels : array, shape ``(segments of all filters, periods)``
        Kernels, one filter after the other.
    first, offsets : array, shapes ``(filter,)`` and ``(filter + 1,)``
        First segment of ``planes`` that a filter occupies; where its segments begin in ``kernels``, and the end.
    out : array, shape ``(part, filter, periods)``
        What is added to.
    """
    for k, low in enumerate(first):
        kernel = kernels[offsets[k] : offsets[k + 1]]
        out[:, k] += np.einsum("qp,cqp->cp", kernel, planes[:, low : low + len(kernel)])


@compiled
def filtered(spectra: Any, kernels: Any, out: Any) -> None:  # pragma: no cover
    """:func:`filtered_in_numpy`, compiled; eight segments at once, so that sums are stored rarely."""
    periods, filters, _ = kernels.shape
    for r in range(periods):
        segments = 1 + (len(spectra) - 1 - r) // periods
        eights = segments - segments % 8
        for s in range(0, eights, 8):
            row = r + s * periods
            x0, x1, x2, x3 = (
                spectra[row],
                spectra[row + periods],
                spectra[row + 2 * periods],
                spectra[row + 3 * periods],
            )
            row += 4 * periods
            x4, x5, x6, x7 = (
                spectra[row],
                spectra[row + periods],
                spectra[row + 2 * periods],
                spectra[row + 3 * periods],
            )
            for k in range(filters):
                w, sums = kernels[r, k, s : s + 8], out[r, k]
                w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
                for c in range(len(sums)):
                    low = w0 * x0[c] + w1 * x1[c] + w2 * x2[c] + w3 * x3[c]
                    sums[c] += low + (w4 * x4[c] + w5 * x5[c] + w6 * x6[c] + w7 * x7[c])
        for s in range(eights, segments):
            x = spectra[r + s * periods]
            for k in range(filters):
                w, sums = kernels[r, k, s], out[r, k]
                for c in range(len(sums)):
                    sums[c] += w * x[c]


def filtered_in_numpy(spectra: Float64, kernels: Float64, out: Float64) -> None:
    """Spectra times real kernels, added up over the frequencies of one residue.

    ``out[r, k, c] += sum_s kernels[r, k, s] spectra[r + periods s, c]``.

    Parameters
    ----------
    spectra : array, shape ``(frequency, column)``
        Half spectra, real and imaginary parts as columns.
    kernels : array, shape ``(periods, filter, segment)``
        Kernels by residue of the frequency.
    out : array, shape ``(periods, filter, column)``
        What is added to.
    """
    for r, kernel in enumerate(kernels):
        values = spectra[r :: len(kernels)]
        out[r] += kernel[:, : len(values)] @ values
