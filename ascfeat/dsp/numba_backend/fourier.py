"""Compiled Fourier transforms of real frames, many side by side, in float64.

A library's FFT takes one frame after the other and shuffles values within it. Here the same step of all of them is
one vector operation, so nothing is shuffled: several times as fast as MKL and pocketfft in float64, so that a float64
transform costs less than theirs in float32. Lengths that are no power of two are left to ``numpy.fft``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ascfeat.compiling import compiler
from ascfeat.dsp.mel import window
from ascfeat.dsp.specs import Stft

Float64 = npt.NDArray[np.float64]
Samples = npt.NDArray[Any]
"""float32 or float64."""
Complex128 = npt.NDArray[np.complex128]

LANES = 48
"""Frames transformed side by side: enough that finding the place of a row takes little beside the work on it. With
thirty-two, of which a block is a third smaller, log-mels take a twelfth longer; with sixteen, a quarter."""

compiled = compiler(Path(__file__).parent, fastmath={"contract", "nsz", "arcp"})
"""No reassociation: a sum has one order on every machine."""
LONGEST = 8192
"""Longest compiled transform, in samples."""
PART = 64
"""Values that the last passes of a transform combine: with all their lanes they stay in a near cache."""


class Tables(NamedTuple):
    """What a transform of one length needs: window, roots of unity, and nothing that depends on the data."""

    window: Float64
    roots: Complex128
    """``exp(-2 pi i k / M)``, ``k < M = n_fft / 2``."""
    half_roots: Complex128
    """``exp(-pi i k / M)``, ``k <= M / 2``: they take the spectrum of even and odd samples apart."""
    order: npt.NDArray[np.int64]
    """Where bin ``k < M`` of a compiled transform, which works in place, lies."""
    mirrored: npt.NDArray[np.int64]
    """The same of bin ``(M - k) % M``."""
    bins: npt.NDArray[np.int64]
    """Bins ``k <= M / 2``, those together that are finished together with their mirrors ``M - k``."""
    ends: npt.NDArray[np.int64]
    """Where those end in ``bins`` that are finished with part ``p`` and its mirror, from 0."""

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled transform takes this length."""
        n_fft = len(self.window)
        return n_fft <= LONGEST and n_fft & (n_fft - 1) == 0


def tables(spec: Stft) -> Tables:
    """Window, roots of unity and order of a transform."""
    half = spec.n_fft // 2
    power_of_two = half & (half - 1) == 0
    parts, low = max(1, half // PART), np.arange(half // 2 + 1)
    part = np.minimum(low % parts, -low % parts)  # a bin and its mirror are of two parts, known by the lower
    order = _order(half) if power_of_two else np.arange(half)
    return Tables(
        window=window(spec.window, spec.win_length, spec.n_fft),
        roots=np.exp(-2j * np.pi * np.arange(half) / half),
        half_roots=np.exp(-1j * np.pi * np.arange(half // 2 + 1) / half),
        order=order,
        mirrored=order[-np.arange(half)],
        bins=np.argsort(part, kind="stable"),
        ends=np.cumsum([0, *np.bincount(part)]),
    )


def _order(length: int) -> npt.NDArray[np.int64]:
    """Bins of a transform in place are left in the order of their digits reversed: first one to base 2, then to 4."""
    if length == 1:
        return np.arange(1)
    radix = 2 if length.bit_length() % 2 == 0 else 4
    inner, order = _order(length // radix), np.empty(length, np.int64)
    for r in range(radix):
        order[r::radix] = r * len(inner) + inner
    return order


def stft(waveform: Samples, spec: Stft, made: Tables) -> Complex128:
    """The centred transform of each channel.

    Parameters
    ----------
    waveform : array, shape ``(channel, samples)``
        float32 or float64.
    spec : Stft
        The mid channel, where asked for, is the mean of the two spectra.
    made : Tables
        From :func:`tables`.

    Returns
    -------
    array, shape ``(channel, bin, frame)``, complex128
    """
    out = np.empty((len(waveform) + spec.mid, spec.bins, spec.frames), np.complex128)
    for spectrum, channel in zip(out, waveform, strict=False):
        if made.is_compiled:
            _stft(channel, spec.hop_length, made, spectrum)
        else:
            spectrum[:] = stft_numpy(channel, spec.hop_length, made.window, spec.frames)
    if spec.mid:
        np.multiply(out[0] + out[1], 0.5, out=out[2])
    return out


def stft_numpy(waveform: Samples, hop_length: int, shape: Float64, frames: int) -> Complex128:
    """The NumPy twin of the compiled transform: ``(bin, frame)`` of one channel."""
    padded = np.pad(waveform, len(shape) // 2, mode="reflect")
    views = np.lib.stride_tricks.sliding_window_view(padded, len(shape))[: frames * hop_length : hop_length]
    out = np.empty((len(shape) // 2 + 1, frames), np.complex128)
    for t in range(0, frames, LANES):  # frames overlap: windowed all at once, they would take many times the waveform
        out[:, t : t + LANES] = np.fft.rfft(views[t : t + LANES] * shape, axis=-1).T
    return out


def overlap_add_numpy(spectrum: Complex128, hop_length: int, shape: Float64) -> Float64:
    """Sum of the windowed inverse transforms, ``y[t hop + n] += w[n] irfft(X[:, t])[n]``, padding included."""
    frames = np.fft.irfft(spectrum, n=len(shape), axis=0).T * shape
    out = np.zeros(len(shape) + hop_length * (len(frames) - 1))
    for t, frame in enumerate(frames):
        out[t * hop_length :][: len(shape)] += frame
    return out


@compiled
def scratch(waveform, n_fft, hop):
    """``slab`` and ``work`` of :func:`block` for such waveforms."""
    return np.empty((hop, LANES + -(-n_fft // hop) - 1), waveform.dtype), aligned(2, n_fft // 2 * LANES)


@compiled
def aligned(rows, columns):
    """An array whose first value begins a cache line: a vector that spans two lines takes twice as long."""
    values = np.empty(rows * columns + 7)
    start = -(values.ctypes.data // 8) % 8
    return values[start : start + rows * columns].reshape((rows, columns))


@compiled
def block(waveform, first, hop, made, slab, work, re, im):
    """Spectra of ``LANES`` frames from ``first`` on into ``re`` and ``im``, ``(bin, lane)``; zeros follow the waveform.

    ``slab``, ``(hop, LANES + ceil(n_fft / hop) - 1)``, and ``work``, ``(2, n_fft / 2 * LANES)``, are scratch.
    """
    half, zr, zi = len(made.roots), work[0], work[1]
    _load(waveform, first, hop, made.window, slab, work)
    _first_passes(zr, zi, made.roots)
    for part in range(len(made.ends) - 1):
        _finish(zr, zi, made, part)
        for k in made.bins[made.ends[part] : made.ends[part + 1]]:
            a, b, p, q, c, s = _pair(zr, zi, made, k)
            low_re, low_im, high_re, high_im = re[k], im[k], re[half - k], im[half - k]
            for v in range(LANES):
                low, high = _two_bins(a[v], b[v], p[v], q[v], c, s)
                low_re[v], low_im[v], high_re[v], high_im[v] = low.real, low.imag, high.real, high.imag


@compiled
def block_energies(waveform, first, hop, made, slab, work, energies):
    """``|X|^2`` of ``LANES`` frames, ``(bin, lane)``, float32, of the spectra that :func:`block` writes down."""
    half, zr, zi = len(made.roots), work[0], work[1]
    _load(waveform, first, hop, made.window, slab, work)
    _first_passes(zr, zi, made.roots)
    for part in range(len(made.ends) - 1):
        _finish(zr, zi, made, part)
        for k in made.bins[made.ends[part] : made.ends[part + 1]]:
            a, b, p, q, c, s = _pair(zr, zi, made, k)
            below, above = energies[k], energies[half - k]
            for v in range(LANES):
                low, high = _two_bins(a[v], b[v], p[v], q[v], c, s)
                below[v] = low.real * low.real + low.imag * low.imag
                above[v] = high.real * high.real + high.imag * high.imag


@compiled
def _pair(zr, zi, made, k):
    """The rows of bins ``k`` and ``M - k``, and the root that takes even and odd samples of these apart."""
    near, far = made.order[k] * LANES, made.mirrored[k] * LANES
    a, b, p, q = zr[near : near + LANES], zi[near : near + LANES], zr[far : far + LANES], zi[far : far + LANES]
    return a, b, p, q, made.half_roots[k].real, made.half_roots[k].imag


@compiled
def _two_bins(a, b, p, q, c, s):
    """Bins ``k`` and ``M - k``, from half the bins of even plus ``i`` times odd samples, ``a + ib`` and ``p + iq``."""
    even_re, even_im = a + p, b - q
    odd_re, odd_im = b + q, p - a
    turned_re, turned_im = odd_re * c - odd_im * s, odd_re * s + odd_im * c
    return complex(even_re + turned_re, even_im + turned_im), complex(even_re - turned_re, turned_im - even_im)


@compiled
def _load(waveform, first, hop, shape, slab, work):
    """Half of windowed samples of ``LANES`` frames, even ones to ``work[0]``, odd ones to ``work[1]``, a frame a lane.

    Frames overlap, so samples are brought side by side once: ``slab[r, t]`` is sample ``r`` of hop ``first + t``, and
    lane ``v`` takes ``slab[r, a + v]`` for its sample ``n = a hop + r``.
    """
    _bring_together(waveform, first, hop, len(shape), slab)
    r, a = 0, 0
    for n in range(len(shape)):
        w, lane, at = 0.5 * shape[n], slab[r, a:], n // 2 * LANES
        z = work[n % 2, at : at + LANES]
        for v in range(len(z)):  # a number that the compiler knows keeps it from using vectors
            z[v] = lane[v] * w
        r += 1
        if r == hop:
            r, a = 0, a + 1


@compiled
def _bring_together(waveform, first, hop, n_fft, slab):
    """``slab[r, t] = x[(first + t) hop + r - n_fft / 2]``, edges reflected, and zero where those have ended."""
    for t in range(slab.shape[1]):
        start = (first + t) * hop - n_fft // 2
        if start >= 0 and start + hop <= len(waveform):
            for r in range(hop):
                slab[r, t] = waveform[start + r]
        else:
            for r in range(hop):
                slab[r, t] = _reflected(waveform, start + r, n_fft // 2)


@compiled
def _reflected(waveform, i, beyond):
    """Sample ``i`` of a waveform whose edges are mirrored for so many samples, and followed by zeros."""
    last = len(waveform) - 1
    if i > last + beyond:
        return 0.0
    return float(waveform[last - abs(last - abs(i))])


def _by_four(distance: int) -> Callable[..., None]:
    """A pass of radix 4 in place, between values so far apart.

    Distances are constants, one compiled pass for each: the compiler then knows that what is written is not what is
    read next, which it would otherwise have to ask for every row. That doubles the speed.
    """
    d, d2, d3 = distance * LANES, 2 * distance * LANES, 3 * distance * LANES

    @compiled
    def run(zr, zi, roots):
        step = len(roots) // (4 * distance)
        for start in range(0, len(zr), 4 * d):
            for p in range(distance):
                w1, w2, at = roots[p * step], roots[2 * p * step], start + p * LANES
                w3 = w1 * w2
                a, b = zr[at : at + d3 + LANES], zi[at : at + d3 + LANES]
                for v in range(LANES):
                    a0, a1, a2, a3 = a[v], a[v + d], a[v + d2], a[v + d3]
                    b0, b1, b2, b3 = b[v], b[v + d], b[v + d2], b[v + d3]
                    sum_re, sum_im, dif_re, dif_im = a0 + a2, b0 + b2, a0 - a2, b0 - b2
                    odd_re, odd_im, odf_re, odf_im = a1 + a3, b1 + b3, a1 - a3, b1 - b3
                    a[v], b[v] = sum_re + odd_re, sum_im + odd_im
                    if distance == 1:  # all roots are one
                        a[v + d], b[v + d] = dif_re + odf_im, dif_im - odf_re
                        a[v + d2], b[v + d2] = sum_re - odd_re, sum_im - odd_im
                        a[v + d3], b[v + d3] = dif_re - odf_im, dif_im + odf_re
                    else:
                        tr, ti = dif_re + odf_im, dif_im - odf_re
                        a[v + d], b[v + d] = tr * w1.real - ti * w1.imag, tr * w1.imag + ti * w1.real
                        tr, ti = sum_re - odd_re, sum_im - odd_im
                        a[v + d2], b[v + d2] = tr * w2.real - ti * w2.imag, tr * w2.imag + ti * w2.real
                        tr, ti = dif_re - odf_im, dif_im + odf_re
                        a[v + d3], b[v + d3] = tr * w3.real - ti * w3.imag, tr * w3.imag + ti * w3.real

    return run  # type: ignore[no-any-return]


def _by_two(distance: int) -> Callable[..., None]:
    """The pass of radix 2 that lengths of an odd power of two begin with: the halves of the whole transform."""
    d = distance * LANES

    @compiled
    def run(zr, zi, roots):
        for p in range(distance):
            w, at = roots[p], p * LANES
            a, b = zr[at : at + d + LANES], zi[at : at + d + LANES]
            for v in range(LANES):
                tr, ti = a[v] - a[v + d], b[v] - b[v + d]
                a[v], b[v] = a[v] + a[v + d], b[v] + b[v + d]
                a[v + d], b[v + d] = tr * w.real - ti * w.imag, tr * w.imag + ti * w.real

    return run  # type: ignore[no-any-return]


_four1, _four4, _four16, _four64, _four256, _four1024 = (_by_four(4**i) for i in range(6))
_two4, _two16, _two64, _two256, _two1024 = (_by_two(4**i) for i in range(1, 6))


@compiled
def transform(zr, zi, roots):
    """The transform of complex values ``(value, lane)``, flat, in place; bin ``k`` is then at ``order[k]``."""
    _first_passes(zr, zi, roots)
    for first in range(0, len(roots), PART):
        _last_passes(zr, zi, first, roots)


@compiled
def _first_passes(zr, zi, roots):
    """Those that combine values of different parts."""
    n = len(roots)
    if n == 2048:
        _two1024(zr, zi, roots)
    elif n == 512:
        _two256(zr, zi, roots)
    elif n == 128:
        _two64(zr, zi, roots)
    elif n == 32:
        _two16(zr, zi, roots)
    elif n == 8:
        _two4(zr, zi, roots)
    if n >= 4096:
        _four1024(zr, zi, roots)
    if n >= 1024:
        _four256(zr, zi, roots)
    if n >= 256:
        _four64(zr, zi, roots)


@compiled
def _last_passes(zr, zi, first, roots):
    """Those within the part of the values from ``first`` on."""
    n = len(roots)
    part = slice(first * LANES, (first + min(n, PART)) * LANES)
    re, im = zr[part], zi[part]
    if n >= 64:
        _four16(re, im, roots)
    if n >= 16:
        _four4(re, im, roots)
    _four1(re, im, roots)


@compiled
def _finish(zr, zi, made, p):
    """Part ``p``, of the bins that leave that remainder divided by the number of parts, and that of their mirrors."""
    near, far = made.order[p] // PART * PART, made.mirrored[p] // PART * PART
    _last_passes(zr, zi, near, made.roots)
    if far != near:
        _last_passes(zr, zi, far, made.roots)


@compiled
def _stft(waveform, hop, made, out):
    bins, frames = out.shape
    slab, work = scratch(waveform, len(made.window), hop)
    re, im = np.empty((bins, LANES)), np.empty((bins, LANES))
    for first in range(0, frames, LANES):
        block(waveform, first, hop, made, slab, work, re, im)
        count = min(LANES, frames - first)
        for k in range(bins):
            for v in range(count):
                out[k, first + v] = complex(re[k, v], im[k, v])


@compiled
def add_frames(zr, zi, first, count, hop, made, out):
    """Add windowed frames, even samples in ``zr`` and odd ones in ``zi``, in the transform's order, to ``out``."""
    half, shape = len(made.order), made.window
    scale = 1.0 / half
    for v in range(count):
        start = (first + v) * hop
        for j in range(half):
            at = made.order[j] * LANES + v
            out[start + 2 * j] += zr[at] * shape[2 * j] * scale
            out[start + 2 * j + 1] += zi[at] * shape[2 * j + 1] * scale
