"""The nnAudio backend, and ascfeat's door to nnAudio: transforms as convolutions, on CUDA and CPU."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ascfeat.dsp.backends import Transform
from ascfeat.dsp.cqt import dense, require_direct, wavelets
from ascfeat.dsp.mel import window
from ascfeat.dsp.specs import CqtSpec, HpssMfccSpec, LogMelSpec, MeanSpectrumSpec, MelSpec, MfccSpec, Stft
from ascfeat.dsp.torch_backend import features, hpss
from ascfeat.dsp.torch_backend.arithmetic import per_clip
from ascfeat.dsp.torch_backend.cqt import levels
from ascfeat.dsp.torch_backend.fourier import with_mid
from ascschemas.problems import RecipeError


@contextmanager
def silence() -> Iterator[None]:
    """Keep nnAudio from printing and warning of what nobody can act on; never in threads: it acts on the process."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


with silence():  # nnAudio warns of its own escape sequences
    from nnAudio.features import STFT, CQT1992v2


LONGEST = 8192
"""Longest STFT that is convolved, in samples: its weights take a gigabyte."""


def log_mel(spec: LogMelSpec, device: str) -> Transform:
    """``ln(W |STFT(x)|^power + floor)``, ``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""
    return features.log_mel(spec, device, conv_stft)


def mel(spec: MelSpec, device: str) -> Transform:
    """``W |STFT(x)|^power``, ``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""
    return features.mel(spec, device, conv_stft)


def mfcc(spec: MfccSpec, device: str) -> Transform:
    """``DCT(dB(W |STFT(x)|^2))``, ``(clip, channel, samples) -> (clip, channel, n_mfcc, frames)``."""
    return features.mfcc(spec, device, conv_stft)


def hpss_mfcc(spec: HpssMfccSpec, device: str) -> Transform:
    """MFCCs of both components, ``(clip, channel, samples) -> (clip, channel, 2, n_mfcc, frames)``.

    The way back to audio is torch's: nnAudio's own inverse is a dense float32 product with ``n_fft`` squared weights.
    """
    return hpss.hpss_mfcc(spec, device, conv_stft)


def mean_spectrum(spec: MeanSpectrumSpec, device: str) -> Transform:
    """``mean_t |STFT(x)|``, or of its logarithm, ``(clip, channel, samples) -> (clip, channel, bins)``."""
    return features.mean_spectrum(spec, device, conv_stft)


def cqt(spec: CqtSpec, device: str) -> Transform:
    """``dB |sum_n x[n] conj(w_k[n - t hop])|``, ``(clip, channel, samples) -> (clip, channel, n_bins, frames)``."""
    require_direct(spec, "nnaudio")
    response = conv_cqt(spec, device)
    return per_clip(lambda x: levels(response(x), spec), device)


def conv_cqt(spec: CqtSpec, device: str) -> Callable[[Tensor], Tensor]:
    """A callable ``(channel, samples) -> (channel, n_bins, frames)``, complex: convolutions with our own filters.

    nnAudio's own differ in length and in normalisation from librosa's; in float64, because bins that lie 80 dB below
    the loudest are kept.
    """
    with silence():
        layer = CQT1992v2(
            sr=spec.rate,
            hop_length=spec.hop_length,
            fmin=spec.fmin,
            n_bins=spec.n_bins,
            bins_per_octave=spec.bins_per_octave,
            filter_scale=spec.filter_scale,
            center=True,
            pad_mode="reflect",
            output_format="Complex",
            trainable=False,
            verbose=False,
        )
    kernels = torch.from_numpy(dense(wavelets(spec)))[:, None]
    layer.cqt_kernels_real, layer.cqt_kernels_imag = kernels.real.contiguous(), kernels.imag.contiguous()
    layer.lenghts = torch.ones(spec.n_bins, dtype=torch.float64)  # nnAudio's spelling; the filters bring their scale
    layer.kernel_width = kernels.shape[-1]
    layer.to(device)

    def transform(waveform: Tensor) -> Tensor:
        outputs = torch.view_as_complex(layer(waveform.double()[:, None]).contiguous())
        _as_expected("a transform", tuple(outputs.shape), (len(waveform), spec.n_bins, spec.frames))
        return outputs

    return transform


def conv_stft(spec: Stft, device: str) -> Callable[[Tensor], Tensor]:
    """A callable ``(channel, samples) -> (channel, bin, frame)``, complex128: convolutions with windowed waves.

    In float64 and with kernels of our own in the place of nnAudio's float32 ones, which are off by 1e-5 to 1e-3 in
    bands that lie 40 to 80 dB below their neighbours.
    """
    if spec.n_fft > LONGEST:
        raise RecipeError(
            f"nnAudio convolves with n_fft squared weights: {spec.n_fft**2 * 8 / 1e9:.0f} GB for n_fft {spec.n_fft}.",
            todo=f"Use --backend torch, or an n_fft of at most {LONGEST}.",
        )
    with silence():
        layer = STFT(
            n_fft=spec.n_fft,
            win_length=spec.win_length,
            hop_length=spec.hop_length,
            window=spec.window,
            freq_scale="no",
            center=True,
            pad_mode="reflect",
            output_format="Complex",
            trainable=False,
            verbose=False,
        )
    turns = np.outer(np.arange(spec.bins), np.arange(spec.n_fft)) % spec.n_fft  # exact, where the product is large
    angle = 2 * np.pi / spec.n_fft * turns
    shape = window(spec.window, spec.win_length, spec.n_fft)
    for name, wave in (("wcos", np.cos(angle)), ("wsin", np.sin(angle))):
        expected = tuple(getattr(layer, name).shape)
        kernel = torch.from_numpy(wave * shape)[:, None]
        _as_expected("kernels", tuple(kernel.shape), expected)
        setattr(layer, name, kernel)
    layer = layer.to(device)

    def transform(waveform: Tensor) -> Tensor:
        parts = layer(waveform.double())  # (channel, bin, frame, 2)
        spectrum = torch.view_as_complex(parts[:, :, : spec.frames].contiguous())
        _as_expected("a spectrum", tuple(spectrum.shape), (len(waveform), spec.bins, spec.frames))
        return with_mid(spectrum) if spec.mid else spectrum

    return transform


def _as_expected(what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise RuntimeError(f"nnAudio has {what} of shape {found} where {expected} was expected")
