"""Backends by name: what each runs on, and what each must provide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from ascfeat.dsp.specs import CqtSpec, HpssMfccSpec, LogMelSpec, MeanSpectrumSpec, MelSpec, MfccSpec

Values = npt.NDArray[np.float32]
Transform = Callable[[Values], Values]
"""Waveforms ``(clip, channel, samples)`` to features ``(clip, *layout.shape)``, both float32; safe from threads."""

NONE = "none"
"""Backend of representations that compute nothing: waveforms, and tags that are made elsewhere."""
DEVICES = {
    "numba": ("cpu",),
    "torch": ("cpu", "cuda"),
    "nnaudio": ("cpu", "cuda"),
    "librosa": ("cpu",),
    NONE: ("cpu", "cuda"),
}
"""Kinds of device that a backend computes on."""


class Backend(Protocol):
    """One function a representation: a specification made into a callable on waveforms."""

    def log_mel(self, spec: LogMelSpec, device: str) -> Transform:
        """``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""

    def mel(self, spec: MelSpec, device: str) -> Transform:
        """``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""

    def mfcc(self, spec: MfccSpec, device: str) -> Transform:
        """``(clip, channel, samples) -> (clip, channel, n_mfcc, frames)``."""

    def hpss_mfcc(self, spec: HpssMfccSpec, device: str) -> Transform:
        """``(clip, channel, samples) -> (clip, channel, component, n_mfcc, frames)``."""

    def mean_spectrum(self, spec: MeanSpectrumSpec, device: str) -> Transform:
        """``(clip, channel, samples) -> (clip, channel, bins)``."""

    def cqt(self, spec: CqtSpec, device: str) -> Transform:
        """``(clip, channel, samples) -> (clip, channel, n_bins, frames)``."""


def load(name: str) -> Backend:
    """The backend of that name; its library is imported now, which takes seconds for some."""
    return cast(Backend, import_module(f"ascfeat.dsp.{name}_backend"))


def fastest(available: Sequence[str], device: str) -> str:
    """The first of some backends, given fastest first, that computes on a device."""
    return next(name for name in available if device.split(":")[0] in DEVICES[name])
