"""The short-time Fourier transform and its inverse by FFT, in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ascfeat.dsp.mel import window
from ascfeat.dsp.specs import Stft


def fft_stft(spec: Stft, device: str) -> Callable[[Tensor], Tensor]:
    """A callable ``(channel, samples) -> (channel, bin, frame)``, complex128, centred, its edges reflected.

    In float64, because a float32 transform is off by 1e-5 and more in bands that lie 60 dB below their neighbours.
    """
    shape = torch.as_tensor(window(spec.window, spec.win_length, spec.n_fft), device=device)

    def transform(waveform: Tensor) -> Tensor:
        spectrum = torch.stft(
            waveform.double(), spec.n_fft, spec.hop_length, window=shape, center=True, pad_mode="reflect",
            return_complex=True,
        )[..., : spec.frames]  # fmt: skip
        return with_mid(spectrum) if spec.mid else spectrum

    return transform


def with_mid(spectrum: Tensor) -> Tensor:
    """A third channel after two: their mean. The transform is linear, so it needs none of its own."""
    return torch.cat([spectrum, spectrum.mean(dim=0, keepdim=True)])
