"""Devices and flags: exact float32 whatever the caller has set, and one thread a call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Values = npt.NDArray[np.float32]


def per_clip(function: Callable[[Tensor], Tensor], device: str) -> Callable[[Values], Values]:
    """A transform of batches from one of clips, ``(channel, samples) -> features``, both on a device.

    Clips go one by one: then no value depends on its batch, on any device.
    """

    def transform(waveforms: Values) -> Values:
        clips = torch.from_numpy(np.ascontiguousarray(waveforms))
        with exact_arithmetic():
            values = [function(clip.to(device)).float().cpu() for clip in clips]
        return torch.stack(values).numpy()

    return transform


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Full float32 in products and convolutions, and one thread per call; the caller's settings return.

    No TF32 (CUDA's default for convolutions), no bfloat16 splits, no autocast, no gradients, deterministic
    convolutions. One thread, because work is parallel over clips, and because a sum's order must not depend on the
    thread count.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _FLAGS, torch.inference_mode(), torch.autocast("cpu", enabled=False), _no_cuda_autocast():
            yield
    finally:
        torch.set_num_threads(threads)


class _ProcessFlags:
    """Settings that belong to the process, exact while any thread is inside, and the caller's when the last leaves."""

    def __init__(self) -> None:
        self._lock, self._inside, self._caller = threading.Lock(), 0, list[tuple[Any, str, Any]]()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caller = [(owner, name, getattr(owner, name)) for owner, name, _ in _exact_flags()]
                for owner, name, value in _exact_flags():
                    setattr(owner, name, value)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for owner, name, value in reversed(self._caller):
                    setattr(owner, name, value)


_FLAGS = _ProcessFlags()
"""One for the process, as the settings are."""


def _exact_flags() -> list[tuple[Any, str, Any]]:
    """Owner, name and exact value of every setting; torch 2.9 gave each kind of operation a precision of its own."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    ours: list[tuple[Any, str, Any]] = [(cudnn, "deterministic", True), (cudnn, "benchmark", False)]
    if hasattr(cudnn, "conv") and hasattr(cudnn.conv, "fp32_precision"):
        mkldnn: Any = torch.backends.mkldnn
        owners = (cudnn.conv, matmul, mkldnn.conv, mkldnn.matmul)
        return [*ours, *((owner, "fp32_precision", "ieee") for owner in owners)]
    return [*ours, (cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]


def _no_cuda_autocast() -> Any:
    """Autocast for CUDA switched off; torch warns of it where there is no CUDA, so there it is left alone."""
    return torch.autocast("cuda", enabled=False) if torch.cuda.is_available() else nullcontext()


def tf32() -> Literal["off", "on"]:
    """State of TensorFloat-32 inside our transforms, asked of torch."""
    with exact_arithmetic():
        exact = all(getattr(owner, name) == value for owner, name, value in _exact_flags())
    return "off" if exact else "on"
