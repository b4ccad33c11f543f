"""Layers that families share, where torch's own are slow or missing."""

from __future__ import annotations

import torch
from torch import Tensor


def global_average(x: Tensor) -> Tensor:
    """Mean over frequency and time: ``(B, C, F, T)`` to ``(B, C)``.

    The gradient of ``mean`` is one number a map, seen through strides of zero. torch's batch norm goes through such a
    gradient of a ``channels_last`` map twenty times slower than through a written-out one, a quarter of a step of the
    five-conv network on a CPU; so it is written out.
    """
    if x.requires_grad:
        laid = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=laid))  # type: ignore[no-untyped-call]
    return x.mean(dim=(2, 3))
