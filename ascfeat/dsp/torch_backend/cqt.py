"""The direct constant-Q transform in torch operations, in float64, on CUDA and CPU: the plan of the numba backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ascfeat.dsp.backends import Transform
from ascfeat.dsp.cqt import Blocks, Whole, plan, require_direct
from ascfeat.dsp.specs import CqtSpec
from ascfeat.dsp.torch_backend.arithmetic import per_clip
from ascfeat.dsp.torch_backend.features import decibels
from ascfeat.dsp.torch_backend.fourier import with_mid

Part = Callable[[Tensor], Tensor]
"""Waveforms ``(channel, samples)`` in float64 to complex ``(channel, filter, frame)``."""


def cqt(spec: CqtSpec, device: str) -> Transform:
    """``dB |sum_n x[n] conj(w_k[n - t hop])|``, ``(clip, channel, samples) -> (clip, channel, n_bins, frames)``."""
    require_direct(spec, "torch")
    parts = plan(spec)
    applied = [whole(p, spec.frames, device) if isinstance(p, Whole) else blocks(p, spec.frames, device) for p in parts]
    order = torch.as_tensor(np.argsort(np.concatenate([p.bins for p in parts])), device=device)

    def transform(waveform: Tensor) -> Tensor:
        x = waveform.double()
        return levels(torch.cat([part(x) for part in applied], dim=1)[:, order], spec)

    return per_clip(transform, device)


def levels(outputs: Tensor, spec: CqtSpec) -> Tensor:
    """Magnitudes or their decibels, ``(channel, bin, frame)``, of complex outputs and of the mean of the first two."""
    if spec.mid:
        outputs = with_mid(outputs)
    power = torch.view_as_real(outputs).square().sum(dim=-1)
    return power.sqrt() if spec.decibels is None else decibels(power, spec.decibels)


def whole(part: Whole, frames: int, device: str) -> Part:
    """Long filters: the spectrum of the whole clip times each kernel, folded onto the frames' frequencies."""
    counts = np.diff(part.offsets)
    low, high = int(part.first.min()), int((part.first + counts).max())
    length, (before, after), stop = part.hop * part.periods, part.reach, (frames - 1) * part.hop + part.reach[1]
    places = (low - part.hop // 2) * part.periods + np.arange((high - low) * part.periods)
    index = torch.as_tensor(places % length, device=device)
    turn = torch.as_tensor(np.outer(part.phase[0][low:high], part.phase[1]), device=device)
    kernels = torch.split(torch.as_tensor(part.kernels, device=device), counts.tolist())
    firsts = (part.first - low).tolist()

    def transform(x: Tensor) -> Tensor:
        padded = pad(x, (before, after), mode="reflect")
        between = x.new_zeros(len(x), length - stop - before)
        circular = torch.cat([padded[:, before : before + stop], between, padded[:, :before]], dim=1)
        spectrum = torch.fft.fft(circular)[:, index].reshape(len(x), *turn.shape) * turn
        folded = [(spectrum[:, q : q + len(k)] * k).sum(dim=1) for q, k in zip(firsts, kernels, strict=True)]
        outputs: Tensor = torch.fft.ifft(torch.stack(folded, dim=1), norm="forward")[..., :frames]
        return outputs

    return transform


def blocks(part: Blocks, frames: int, device: str) -> Part:
    """Short filters: spectra of overlapping blocks, a product of matrices for each residue of the frequency."""
    length, step, count = part.hop * part.periods, part.hop * part.count, -(-frames // part.count)
    before = part.first * part.hop - part.reach[0]
    kernels = torch.as_tensor(part.kernels, device=device)
    turn = torch.as_tensor(part.phase, device=device)
    filters, opposite = len(part.bins), torch.as_tensor(-np.arange(part.periods) % part.periods, device=device)

    def transform(x: Tensor) -> Tensor:
        reflected = pad(x, part.reach, mode="reflect")
        after = length + (count - 1) * step - before - reflected.shape[-1]  # negative where nothing needs the end
        windows = pad(reflected, (before, after)).unfold(-1, length, step)
        spectra = pad(torch.fft.rfft(windows) * turn, (0, kernels.shape[-1] * part.periods - len(turn)))
        columns = spectra.reshape(len(x) * count, -1, part.periods).permute(2, 1, 0)  # (residue, segment, column)
        products = kernels @ torch.view_as_real(columns.contiguous()).flatten(-2)
        signed = torch.view_as_complex(products.reshape(*products.shape[:2], -1, 2))
        folded = signed[:, :filters] + signed[opposite, filters:].conj()
        values = torch.fft.ifft(folded, dim=0, norm="forward")[part.first : part.first + part.count]
        ordered: Tensor = values.reshape(part.count, filters, len(x), count).permute(2, 1, 3, 0)
        return ordered.reshape(len(x), filters, -1)[..., :frames]

    return transform
