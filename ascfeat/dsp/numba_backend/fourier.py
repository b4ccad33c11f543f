"""Compiled Fourier transforms of real frames, sixteen side by side, in float64.

A library's FFT takes one frame after the other and shuffles values within it. Here the same step of sixteen frames is
one vector operation, so nothing is shuffled: twice as fast as MKL and pocketfft in float64, as
``tests/benchmarks/dsp.py`` shows, and a float64 transform then costs no more than theirs in float32.
Lengths that are no power of two are left to ``numpy.fft``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from ascfeat.dsp.mel import window
from ascfeat.dsp.specs import Stft

Float64 = npt.NDArray[np.float64]
Samples = npt.NDArray[Any]
"""float32 or float64."""
Complex128 = npt.NDArray[np.complex128]

LANES = 16
"""Frames transformed side by side: two vectors of eight float64, and few enough that a block stays in the cache."""
TILE = 8
"""Pairs of samples brought from a frame to its lane at once: whole cache lines."""

compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
"""Compiled at the first call and kept on disk. No reassociation: a sum has one order on every machine."""


@dataclass(frozen=True)
class Tables:
    """What a transform of one length needs: window, roots of unity, and nothing that depends on the data."""

    window: Float64
    roots: Complex128
    """``exp(-2 pi i k / M)``, ``k < M = n_fft / 2``."""
    half_roots: Complex128
    """``exp(-pi i k / M)``, ``k <= M / 2``: they take the spectrum of even and odd samples apart."""

    @property
    def is_power_of_two(self) -> bool:
        """Whether the compiled transform takes this length."""
        n_fft = len(self.window)
        return n_fft & (n_fft - 1) == 0


def tables(spec: Stft) -> Tables:
    """Window and roots of unity of a transform."""
    half = spec.n_fft // 2
    return Tables(
        window=window(spec.window, spec.win_length, spec.n_fft),
        roots=np.exp(-2j * np.pi * np.arange(half) / half),
        half_roots=np.exp(-1j * np.pi * np.arange(half // 2 + 1) / half),
    )


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
        if made.is_power_of_two:
            _stft(channel, spec.hop_length, made.window, made.roots, made.half_roots, spectrum)
        else:
            spectrum[:] = stft_numpy(channel, spec.hop_length, made.window, spec.frames)
    if spec.mid:
        np.multiply(out[0] + out[1], 0.5, out=out[2])
    return out


def stft_numpy(waveform: Samples, hop_length: int, shape: Float64, frames: int) -> Complex128:
    """The NumPy twin of the compiled transform: ``(bin, frame)`` of one channel."""
    padded = np.pad(waveform, len(shape) // 2, mode="reflect")
    views = np.lib.stride_tricks.sliding_window_view(padded, len(shape))[: frames * hop_length : hop_length]
    return np.asarray(np.fft.rfft(views * shape, axis=-1).T)


def overlap_add(spectrum: Complex128, spec: Stft, made: Tables) -> Float64:
    """Sum of the windowed inverse transforms, ``y[t hop + n] += w[n] irfft(X[:, t])[n]``, padding included.

    Parameters
    ----------
    spectrum : array, shape ``(bin, frame)``
        Frames of one channel.
    spec : Stft
        Its transform.
    made : Tables
        From :func:`tables`.

    Returns
    -------
    array, shape ``(n_fft + hop_length (frame - 1),)``, float64
    """
    if not made.is_power_of_two:
        return overlap_add_numpy(spectrum, spec.hop_length, made.window)
    out = np.zeros(spec.n_fft + spec.hop_length * (spectrum.shape[1] - 1))
    _overlap_add(spectrum, spec.hop_length, made.window, made.roots, made.half_roots, out)
    return out


def overlap_add_numpy(spectrum: Complex128, hop_length: int, shape: Float64) -> Float64:
    """The NumPy twin of the compiled inverse."""
    frames = np.fft.irfft(spectrum, n=len(shape), axis=0).T * shape
    out = np.zeros(len(shape) + hop_length * (len(frames) - 1))
    for t, frame in enumerate(frames):
        out[t * hop_length :][: len(shape)] += frame
    return out


@compiled
def scratch(waveform, n_fft, hop):
    """``slab`` and ``work`` of :func:`block` for such waveforms."""
    return np.empty((hop, LANES + -(-n_fft // hop) - 1), waveform.dtype), aligned(4, n_fft // 2 * LANES)


@compiled
def aligned(rows, columns):
    """An array whose first value begins a cache line: a vector that spans two lines takes twice as long."""
    values = np.empty(rows * columns + 7)
    start = -(values.ctypes.data // 8) % 8
    return values[start : start + rows * columns].reshape((rows, columns))


@compiled
def block(waveform, first, hop, shape, roots, half_roots, slab, work, re, im):
    """Spectra of sixteen frames from ``first`` on into ``re`` and ``im``, ``(bin, lane)``; zeros follow the waveform.

    ``slab``, ``(hop, LANES + ceil(n_fft / hop) - 1)``, and ``work``, ``(4, n_fft / 2 * LANES)``, are scratch.
    """
    half = len(shape) // 2
    _load(waveform, first, hop, shape, slab, work)
    at = transform(work, half, roots)
    zr, zi = work[at], work[at + 1]
    for k in range(half // 2 + 1):
        near, far = k * LANES, (half - k) % half * LANES
        c, s = half_roots[k].real, half_roots[k].imag
        a, b, p, q = zr[near : near + LANES], zi[near : near + LANES], zr[far : far + LANES], zi[far : far + LANES]
        low_re, low_im, high_re, high_im = re[k], im[k], re[half - k], im[half - k]
        for v in range(LANES):
            low, high = _two_bins(a[v], b[v], p[v], q[v], c, s)
            low_re[v], low_im[v], high_re[v], high_im[v] = low.real, low.imag, high.real, high.imag


@compiled
def block_energies(waveform, first, hop, shape, roots, half_roots, slab, work, energies):
    """``|X|^2`` of sixteen frames, ``(bin, lane)``, float32, of the spectra that :func:`block` writes down."""
    half = len(shape) // 2
    _load(waveform, first, hop, shape, slab, work)
    at = transform(work, half, roots)
    zr, zi = work[at], work[at + 1]
    for k in range(half // 2 + 1):
        near, far = k * LANES, (half - k) % half * LANES
        c, s = half_roots[k].real, half_roots[k].imag
        a, b, p, q = zr[near : near + LANES], zi[near : near + LANES], zr[far : far + LANES], zi[far : far + LANES]
        below, above = energies[k], energies[half - k]
        for v in range(LANES):
            low, high = _two_bins(a[v], b[v], p[v], q[v], c, s)
            below[v] = low.real * low.real + low.imag * low.imag
            above[v] = high.real * high.real + high.imag * high.imag


@compiled
def _two_bins(a, b, p, q, c, s):
    """Bins ``k`` and ``M - k``, from ``a + ib`` and ``p + iq``: the same bins of even plus ``i`` times odd samples."""
    even_re, even_im = 0.5 * (a + p), 0.5 * (b - q)
    odd_re, odd_im = 0.5 * (b + q), 0.5 * (p - a)
    turned_re, turned_im = odd_re * c - odd_im * s, odd_re * s + odd_im * c
    return complex(even_re + turned_re, even_im + turned_im), complex(even_re - turned_re, turned_im - even_im)


@compiled
def _load(waveform, first, hop, shape, slab, work):
    """Windowed samples of sixteen frames, even ones to ``work[0]`` and odd ones to ``work[1]``, each frame in its lane.

    Frames overlap, so samples are brought side by side once: ``slab[r, t]`` is sample ``r`` of hop ``first + t``, and
    lane ``v`` takes ``slab[r, a + v]`` for its sample ``n = a hop + r``.
    """
    _bring_together(waveform, first, hop, len(shape), slab)
    quarter, r, a = len(shape) // 8, 0, 0
    for i in range(4):
        for p in range(quarter):  # value j = i quarter + p of the transform's input, as `place` has it
            at, n = (4 * p + i) * LANES, 2 * (i * quarter + p)
            for part in range(2):
                w, lane, z = shape[n + part], slab[r, a:], work[part, at : at + LANES]
                for v in range(LANES):
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


@compiled
def place(j, half):
    """Where value ``j`` of a transform's input lies: the four that its first pass combines are neighbours."""
    return (j % (half // 4) * 4 + j // (half // 4)) * LANES


@compiled
def transform(work, half, roots):
    """Stockham's radix-4 passes over ``work[0], work[1]``; returns the row at which the result lies, 0 or 2."""
    _first_pass(work[0], work[1], roots, half // 4)
    n, stride, at = half // 4, 4, 0
    while n >= 4:
        _pass4(work[at], work[at + 1], work[2 - at], work[3 - at], roots, n // 4, stride)
        n //= 4
        stride *= 4
        at = 2 - at
    if n == 2:
        _pass2(work[at], work[at + 1], work[2 - at], work[3 - at], stride * LANES)
        at = 2 - at
    return at


@compiled
def _first_pass(zr, zi, roots, m):
    """The pass of stride one, in place; known distances let the compiler do it without asking what overlaps."""
    for p in range(m):
        w1, w2 = roots[p], roots[2 * p]
        w3 = w1 * w2
        a, b = zr[4 * p * LANES : 4 * (p + 1) * LANES], zi[4 * p * LANES : 4 * (p + 1) * LANES]
        for v in range(LANES):
            a0, a1, a2, a3 = a[v], a[v + LANES], a[v + 2 * LANES], a[v + 3 * LANES]
            b0, b1, b2, b3 = b[v], b[v + LANES], b[v + 2 * LANES], b[v + 3 * LANES]
            sum_re, sum_im, dif_re, dif_im = a0 + a2, b0 + b2, a0 - a2, b0 - b2
            odd_re, odd_im, odf_re, odf_im = a1 + a3, b1 + b3, a1 - a3, b1 - b3
            a[v], b[v] = sum_re + odd_re, sum_im + odd_im
            tr, ti = dif_re + odf_im, dif_im - odf_re
            a[v + LANES], b[v + LANES] = tr * w1.real - ti * w1.imag, tr * w1.imag + ti * w1.real
            tr, ti = sum_re - odd_re, sum_im - odd_im
            a[v + 2 * LANES], b[v + 2 * LANES] = tr * w2.real - ti * w2.imag, tr * w2.imag + ti * w2.real
            tr, ti = dif_re - odf_im, dif_im + odf_re
            a[v + 3 * LANES], b[v + 3 * LANES] = tr * w3.real - ti * w3.imag, tr * w3.imag + ti * w3.real


@compiled
def _pass4(xr, xi, yr, yi, roots, m, stride):
    length = stride * LANES
    span = m * length
    for p in range(m):
        w1, w2 = roots[p * stride], roots[2 * p * stride]
        w3 = w1 * w2
        i, o = p * length, 4 * p * length
        a0, a1, a2, a3 = xr[i:], xr[i + span :], xr[i + 2 * span :], xr[i + 3 * span :]
        b0, b1, b2, b3 = xi[i:], xi[i + span :], xi[i + 2 * span :], xi[i + 3 * span :]
        c0, c1, c2, c3 = yr[o:], yr[o + length :], yr[o + 2 * length :], yr[o + 3 * length :]
        d0, d1, d2, d3 = yi[o:], yi[o + length :], yi[o + 2 * length :], yi[o + 3 * length :]
        for q in range(length):
            sum_re, sum_im, dif_re, dif_im = a0[q] + a2[q], b0[q] + b2[q], a0[q] - a2[q], b0[q] - b2[q]
            odd_re, odd_im, odf_re, odf_im = a1[q] + a3[q], b1[q] + b3[q], a1[q] - a3[q], b1[q] - b3[q]
            c0[q], d0[q] = sum_re + odd_re, sum_im + odd_im
            tr, ti = dif_re + odf_im, dif_im - odf_re
            c1[q], d1[q] = tr * w1.real - ti * w1.imag, tr * w1.imag + ti * w1.real
            tr, ti = sum_re - odd_re, sum_im - odd_im
            c2[q], d2[q] = tr * w2.real - ti * w2.imag, tr * w2.imag + ti * w2.real
            tr, ti = dif_re - odf_im, dif_im + odf_re
            c3[q], d3[q] = tr * w3.real - ti * w3.imag, tr * w3.imag + ti * w3.real


@compiled
def _pass2(xr, xi, yr, yi, length):
    for q in range(length):
        ar, ai, br, bi = xr[q], xi[q], xr[q + length], xi[q + length]
        yr[q], yi[q], yr[q + length], yi[q + length] = ar + br, ai + bi, ar - br, ai - bi


@compiled
def _stft(waveform, hop, shape, roots, half_roots, out):
    bins, frames = out.shape
    slab, work = scratch(waveform, len(shape), hop)
    re, im = np.empty((bins, LANES)), np.empty((bins, LANES))
    for first in range(0, frames, LANES):
        block(waveform, first, hop, shape, roots, half_roots, slab, work, re, im)
        count = min(LANES, frames - first)
        for k in range(bins):
            for v in range(count):
                out[k, first + v] = complex(re[k, v], im[k, v])


@compiled
def _overlap_add(spectrum, hop, shape, roots, half_roots, out):
    """Inverse transforms sixteen side by side: the forward one with real and imaginary parts exchanged."""
    frames, half = spectrum.shape[1], len(shape) // 2
    work = np.empty((4, half * LANES))
    for first in range(0, frames, LANES):
        count = min(LANES, frames - first)
        _pack(spectrum, first, count, half_roots, work[0], work[1])
        at = transform(work, half, roots)
        add_frames(work[at + 1], work[at], first, count, hop, shape, out)


@compiled
def _pack(spectrum, first, count, half_roots, zi, zr):
    """Half spectra to those of even samples plus ``i`` times odd ones; ``zi`` and ``zr`` are exchanged on purpose."""
    half = spectrum.shape[0] - 1
    for k in range(half // 2 + 1):
        mirror = half - k
        near, far = place(k, half), place(mirror % half, half)
        root = half_roots[k].conjugate()
        for v in range(LANES):
            t = first + min(v, count - 1)
            low, high = spectrum[k, t], spectrum[mirror, t].conjugate()
            if k == 0:
                low, high = complex(low.real, 0.0), complex(high.real, 0.0)
            even, odd = 0.5 * (low + high), 0.5 * (low - high) * root
            zr[near + v], zi[near + v] = even.real - odd.imag, even.imag + odd.real
            if k and mirror != k:
                zr[far + v], zi[far + v] = even.real + odd.imag, odd.real - even.imag


@compiled
def add_frames(zr, zi, first, count, hop, shape, out):
    """Add windowed frames, even samples in ``zr`` and odd ones in ``zi``, to the waveform ``out``."""
    half = len(shape) // 2
    tile, scale = min(TILE, half), 1.0 / half
    for v in range(count):
        start = (first + v) * hop
        for j0 in range(0, half, tile):
            for j in range(j0, j0 + tile):
                out[start + 2 * j] += zr[j * LANES + v] * shape[2 * j] * scale
                out[start + 2 * j + 1] += zi[j * LANES + v] * shape[2 * j + 1] * scale
