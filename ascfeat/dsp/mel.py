"""Mel filter banks and the analysis windows in front of them, in float64."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from ascfeat.dsp.specs import MelBank, Window

Float64 = npt.NDArray[np.float64]

SLANEY_LINEAR = 200.0 / 3  # Hz per mel below 1 kHz
SLANEY_KNEE_HZ = 1000.0
SLANEY_LOG_STEP = np.log(6.4) / 27.0  # ln(frequency ratio) per mel above 1 kHz


def window(name: Window, win_length: int, n_fft: int) -> Float64:
    """A periodic analysis window, zero-padded on both sides to the FFT length.

    ``hann: 0.5 - 0.5 cos(2 pi n / N)``; ``hamming: 0.54 - 0.46 cos(2 pi n / N)``, ``n = 0 … N - 1``.

    Parameters
    ----------
    name : {"hann", "hamming"}
        Shape of the window.
    win_length, n_fft : int
        Its length, and the length it is padded to, in samples.

    Returns
    -------
    array, shape ``(n_fft,)``
    """
    a = {"hann": 0.5, "hamming": 0.54}[name]
    shape = a - (1 - a) * np.cos(2 * np.pi * np.arange(win_length) / win_length)
    left = (n_fft - win_length) // 2
    return np.pad(shape, (left, n_fft - win_length - left))


def hz_to_mel(frequency: npt.ArrayLike, scale: Literal["slaney", "htk"]) -> Float64:
    """Frequencies in Hz on a mel scale: Slaney's Auditory Toolbox (linear below 1 kHz) or HTK's (O'Shaughnessy)."""
    f = np.asarray(frequency, dtype=np.float64)
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + f / 700.0))
    knee = SLANEY_KNEE_HZ / SLANEY_LINEAR
    upper = knee + np.log(np.maximum(f, SLANEY_KNEE_HZ) / SLANEY_KNEE_HZ) / SLANEY_LOG_STEP
    return np.where(f < SLANEY_KNEE_HZ, f / SLANEY_LINEAR, upper)


def mel_to_hz(mel: npt.ArrayLike, scale: Literal["slaney", "htk"]) -> Float64:
    """The inverse of :func:`hz_to_mel`."""
    m = np.asarray(mel, dtype=np.float64)
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (m / 2595.0) - 1.0))
    knee = SLANEY_KNEE_HZ / SLANEY_LINEAR
    upper = SLANEY_KNEE_HZ * np.exp(SLANEY_LOG_STEP * (np.maximum(m, knee) - knee))
    return np.where(m < knee, m * SLANEY_LINEAR, upper)


def band_edges(bank: MelBank) -> Float64:
    """Corner frequencies of the triangles: band ``i`` rises from edge ``i``, peaks at ``i + 1``, ends at ``i + 2``.

    Returns
    -------
    array, shape ``(n_mels + 2,)``, in Hz
    """
    low, high = hz_to_mel([bank.fmin, bank.fmax], bank.mel_scale)
    return mel_to_hz(np.linspace(low, high, bank.n_mels + 2), bank.mel_scale)


def filter_bank(bank: MelBank) -> Float64:
    """The triangular filters as a matrix.

    With edges ``e`` and bin frequencies ``f``: ``W[i, k] = max(0, min((f_k - e_i) / (e_{i+1} - e_i),
    (e_{i+2} - f_k) / (e_{i+2} - e_{i+1})))``; with Slaney's norm each row is divided by half its width.

    Returns
    -------
    array, shape ``(n_mels, n_fft // 2 + 1)``
    """
    edges = band_edges(bank)
    bins = np.arange(bank.n_fft // 2 + 1) * (bank.rate / bank.n_fft)
    widths = np.diff(edges)
    rising = (bins - edges[:-2, None]) / widths[:-1, None]
    falling = (edges[2:, None] - bins) / widths[1:, None]
    weights = np.maximum(0.0, np.minimum(rising, falling))
    return weights * (2.0 / (edges[2:] - edges[:-2]))[:, None] if bank.mel_norm == "slaney" else weights
