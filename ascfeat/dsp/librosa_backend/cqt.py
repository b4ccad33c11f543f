"""The constant-Q transform by librosa: its filters applied sample by sample, or its recursion over octaves."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import librosa
import numpy as np
import numpy.typing as npt

from ascfeat.dsp.backends import Transform
from ascfeat.dsp.librosa_backend.features import Float64, per_clip, with_mid
from ascfeat.dsp.specs import CqtSpec

Complex128 = npt.NDArray[np.complex128]

SAMPLES_AT_ONCE = 1 << 22
"""Samples of overlapping frames that are laid out side by side: 32 MiB."""


def cqt(spec: CqtSpec, device: str) -> Transform:
    """``dB |X|``, ``(clip, channel, samples) -> (clip, channel, n_bins, frames)``, by the algorithm that is asked for.

    ``direct`` is the reference of every other backend: products in the time domain, nothing left out.
    ``recursive`` is ``librosa.cqt`` as it stands: octave by octave over a signal that is halved each time.
    """
    response = direct(spec) if spec.algorithm == "direct" else recursive(spec)
    return per_clip(lambda x: levels(np.abs(response(with_mid(x) if spec.mid else x)), spec))


def direct(spec: CqtSpec) -> Callable[[Float64], Complex128]:
    """``X[k, t] = sum_n x[n] conj(w_k[n - t hop])``: ``(channel, samples) -> (channel, n_bins, frames)``."""
    centres = librosa.cqt_frequencies(spec.n_bins, fmin=spec.fmin, bins_per_octave=spec.bins_per_octave)
    ratio = 2.0 ** (2 / spec.bins_per_octave)  # of a bin's neighbours; librosa estimates it from two bins or more
    filters, lengths = librosa.filters.wavelet(
        freqs=centres,
        sr=spec.rate,
        filter_scale=spec.filter_scale,
        alpha=(ratio - 1) / (ratio + 1),
        norm=1,
        dtype=np.complex128,
    )
    edge = filters.shape[1] // 2  # librosa centres filters in a power of two
    rows = np.conj(filters) * np.sqrt(lengths)[:, None]
    octaves = [rows[k : k + spec.bins_per_octave] for k in range(0, spec.n_bins, spec.bins_per_octave)]

    def response(waveform: Float64) -> Complex128:
        padded = np.pad(waveform, ((0, 0), (edge, edge)), mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * edge, axis=-1)[:, :: spec.hop_length]
        return np.stack([np.concatenate([products(f[: spec.frames], o) for o in octaves]) for f in frames])

    return response


def products(frames: Float64, filters: Complex128) -> Complex128:
    """Inner products ``(filter, frame)`` of frames ``(frame, sample)`` with filters, where these are not all zero."""
    used = np.flatnonzero(filters.any(axis=0))
    span = slice(used[0], used[-1] + 1)
    parts = np.concatenate([filters[:, span].real, filters[:, span].imag])
    step = 1 + SAMPLES_AT_ONCE // len(used)  # frames overlap: a product of matrices copies them
    values = np.concatenate([frames[t : t + step, span] @ parts.T for t in range(0, len(frames), step)])
    return np.asarray(values[:, : len(filters)].T + 1j * values[:, len(filters) :].T)


class _Quiet:
    """One of librosa's warnings left out while any thread is inside; filters of warnings belong to the process."""

    def __init__(self) -> None:
        self._lock, self._inside, self._caught = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", message="n_fft=.* is too large")  # filters are padded to powers of 2
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._caught.__exit__(None, None, None)


_QUIET = _Quiet()


def recursive(spec: CqtSpec) -> Callable[[Float64], Complex128]:
    """``librosa.cqt``: ``(channel, samples) -> (channel, n_bins, frames)``."""

    def response(waveform: Float64) -> Complex128:
        with _QUIET:
            outputs = librosa.cqt(
                waveform,
                sr=spec.rate,
                hop_length=spec.hop_length,
                fmin=spec.fmin,
                n_bins=spec.n_bins,
                bins_per_octave=spec.bins_per_octave,
                filter_scale=spec.filter_scale,
                pad_mode="reflect",
            )
        return np.asarray(outputs[..., : spec.frames])

    return response


def levels(magnitude: Float64, spec: CqtSpec) -> Float64:
    """Magnitudes ``(channel, bin, frame)``, or ``librosa.amplitude_to_db`` of each channel by itself."""
    if spec.decibels is None:
        return magnitude
    least, kept = spec.decibels.amin**0.5, spec.decibels.top_db
    return np.stack([librosa.amplitude_to_db(m, ref=1.0, amin=least, top_db=kept) for m in magnitude])
