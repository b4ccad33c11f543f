"""Features of a short-time Fourier transform in torch operations, in float64, whichever transform stands before."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ascfeat.dsp.backends import Transform
from ascfeat.dsp.cepstrum import dct_matrix
from ascfeat.dsp.mel import filter_bank
from ascfeat.dsp.specs import LEAST, Decibels, LogMelSpec, MeanSpectrumSpec, MelSpec, MfccSpec, Stft
from ascfeat.dsp.torch_backend.arithmetic import per_clip
from ascfeat.dsp.torch_backend.fourier import fft_stft

Spectrum = Callable[[Tensor], Tensor]
"""``(channel, samples)`` float32 -> complex ``(channel, bin, frame)``, the mid channel included."""
Front = Callable[[Stft, str], Spectrum]
"""Makes a spectrum for a specification on a device."""


def log_mel(spec: LogMelSpec, device: str, front: Front = fft_stft) -> Transform:
    """``ln(W |STFT(x)|^power + floor)``, ``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""
    spectrum = corrected(front, spec.stft, device)
    bank = torch.as_tensor(filter_bank(spec.bank), device=device)
    return per_clip(lambda x: torch.log(bank @ energy(spectrum(x), spec.power) + spec.floor), device)


def mel(spec: MelSpec, device: str, front: Front = fft_stft) -> Transform:
    """``W |STFT(x)|^power``, ``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""
    spectrum = corrected(front, spec.stft, device)
    bank = torch.as_tensor(filter_bank(spec.bank), device=device)
    return per_clip(lambda x: bank @ energy(spectrum(x), spec.power), device)


def mfcc(spec: MfccSpec, device: str, front: Front = fft_stft) -> Transform:
    """``DCT(dB(W |STFT(x)|^2))``, ``(clip, channel, samples) -> (clip, channel, n_mfcc, frames)``."""
    spectrum, coefficients = corrected(front, spec.stft, device), cepstrum(spec, device)
    return per_clip(lambda x: coefficients(energy(spectrum(x), 2)), device)


def mean_spectrum(spec: MeanSpectrumSpec, device: str, front: Front = fft_stft) -> Transform:
    """``mean_t |STFT(x)|``, or of its logarithm, ``(clip, channel, samples) -> (clip, channel, bins)``."""
    spectrum = corrected(front, spec.stft, device)
    if spec.logarithmic:
        return per_clip(lambda x: spectrum(x).abs().clamp(min=LEAST).log().mean(dim=-1), device)
    return per_clip(lambda x: spectrum(x).abs().mean(dim=-1), device)


def corrected(front: Front, spec: Stft, device: str) -> Spectrum:
    """A spectrum whose frequencies are multiplied by the gains of its specification, where there are any."""
    spectrum = front(spec, device)
    if spec.gain is None:
        return spectrum
    gain = torch.tensor(spec.gain, dtype=torch.float64, device=device)[:, None]
    return lambda x: spectrum(x) * gain


def cepstrum(spec: MfccSpec, device: str) -> Callable[[Tensor], Tensor]:
    """Power spectra ``(channel, …, bin, frame)`` to MFCCs ``(channel, …, n_mfcc, frame)``."""
    bank = torch.as_tensor(filter_bank(spec.bank), device=device)
    dct = torch.as_tensor(dct_matrix(spec.n_mfcc, spec.bank.n_mels), device=device)
    return lambda power: dct @ decibels(bank @ power, spec.decibels)


def energy(spectrum: Tensor, power: int) -> Tensor:
    """``|X|^power``."""
    magnitude = spectrum.abs()
    return magnitude.square() if power == 2 else magnitude


def decibels(power: Tensor, spec: Decibels) -> Tensor:
    """Power to decibels; the peak is taken over the last two axes, which are one channel of one clip."""
    level = 10.0 * torch.log10(power.clamp(min=spec.amin))
    if spec.top_db is None:
        return level
    return torch.maximum(level, level.amax(dim=(-2, -1), keepdim=True) - spec.top_db)
