"""MFCCs of the harmonic and percussive components in torch operations, separated in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import fold

from ascfeat.dsp.backends import Transform
from ascfeat.dsp.mel import window
from ascfeat.dsp.specs import HpssMfccSpec, Stft
from ascfeat.dsp.torch_backend.arithmetic import per_clip
from ascfeat.dsp.torch_backend.features import Front, cepstrum, corrected, energy
from ascfeat.dsp.torch_backend.fourier import fft_stft

WINDOWS_AT_ONCE = 1 << 21
"""Values that the windows of a running median hold at once: 16 MB of float64."""


def hpss_mfcc(spec: HpssMfccSpec, device: str, front: Front = fft_stft) -> Transform:
    """MFCCs of both components, ``(clip, channel, samples) -> (clip, channel, 2, n_mfcc, frames)``."""
    spectrum, inverse = corrected(front, spec.separation, device), inverse_stft(spec.separation, device)
    again, coefficients = front(replace(spec.mfcc.stft, mid=False), device), cepstrum(spec.mfcc, device)

    def one(waveform: Tensor) -> Tensor:
        parts = components(spectrum(waveform), spec.kernel, spec.power)
        audio = inverse(parts, waveform.shape[-1])
        values = coefficients(energy(again(audio.flatten(0, 1)), 2))
        return values.reshape(*audio.shape[:2], *values.shape[1:])

    return per_clip(one, device)


def components(spectrum: Tensor, kernel: int, power: float) -> Tensor:
    """Harmonic and percussive spectra ``(channel, 2, bin, frame)`` of ``(channel, bin, frame)``, complex128.

    ``X M_h`` and ``X M_p``, with ``M_h = H^power / (H^power + P^power)`` from the running medians ``H`` over frames
    and ``P`` over bins of ``|X|``, ``M_p`` likewise, and both 1 / 2 where ``H`` and ``P`` are zero.
    """
    magnitude = spectrum.abs().double()
    steady = running_median(magnitude, kernel)
    broad = running_median(magnitude.mT.contiguous(), kernel).mT
    pair = torch.stack([steady, broad], dim=1)
    larger = pair.amax(dim=1, keepdim=True)
    silent = larger < torch.finfo(torch.float64).tiny
    shares = (pair / larger.masked_fill(silent, 1.0)).masked_fill(silent, 1.0) ** power
    return spectrum[:, None] * (shares / shares.sum(dim=1, keepdim=True))


def running_median(values: Tensor, kernel: int) -> Tensor:
    """Median along the last axis, edges reflected half a sample outside; exact, some rows at a time."""
    size = values.shape[-1]
    index = torch.arange(-(kernel // 2), size + kernel // 2, device=values.device) % (2 * size)
    rows = values.flatten(0, -2)
    count = max(1, WINDOWS_AT_ONCE // (size * kernel))
    edged = torch.minimum(index, 2 * size - 1 - index)
    found = [part[:, edged].unfold(-1, kernel, 1).median(dim=-1).values for part in torch.split(rows, count)]
    return torch.cat(found).reshape(values.shape)


def inverse_stft(spec: Stft, device: str) -> Callable[[Tensor, int], Tensor]:
    """A callable ``(channel, component, bin, frame), samples -> (channel, component, samples)``, float64.

    Windowed inverse transforms added up and divided by the sum of the squared windows. ``torch.istft`` does the same,
    but refuses windows of half an FFT length apart, whose sum is tiny under the last sample.
    """
    shape = torch.as_tensor(window(spec.window, spec.win_length, spec.n_fft), device=device)[:, None]
    length = spec.n_fft + spec.hop_length * (spec.frames - 1)

    def add(frames: Tensor) -> Tensor:
        """``(row, n_fft, frame)`` to ``(row, samples)``, padding included."""
        return fold(frames, (1, length), (1, spec.n_fft), stride=(1, spec.hop_length))[:, 0, 0]

    total = add((shape.square()).expand(1, -1, spec.frames))

    def transform(spectrum: Tensor, samples: int) -> Tensor:
        frames = torch.fft.irfft(spectrum.to(torch.complex128), n=spec.n_fft, dim=-2) * shape
        audio = (add(frames.flatten(0, 1)) / total)[:, spec.n_fft // 2 :][:, :samples]
        return audio.reshape(*spectrum.shape[:2], -1)

    return transform
