"""Waveforms as features: the samples as they are, for networks that learn their own filters (jung2020)."""

from __future__ import annotations

from typing import ClassVar, Literal

from ascfeat.dsp.backends import NONE
from ascfeat.representations import Transform
from ascfeat.representations.spectral import channel_axis
from ascschemas.base import Frozen
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis, Layout


class Waveform(Frozen):
    """``x``: every sample of every decoded channel, full scale at 1; 16 and 24 bit are exact in float32."""

    backends: ClassVar[tuple[str, ...]] = (NONE,)
    keeps_samples: ClassVar[bool] = True
    """Features are samples: where nothing changes them before, a store keeps them as the integers that they are."""

    kind: Literal["waveform"] = "waveform"
    """Name of the representation."""

    def layout(self, audio: AudioFormat) -> Layout:
        """Axes ``(channel, time)`` for waveforms of a format."""
        time = Axis(name="time", size=audio.frames, unit="s", step=1 / audio.sample_rate)
        return Layout(quantity="amplitude, full scale 1", axes=(channel_axis("as_decoded", audio), time))

    def build(self, audio: AudioFormat, *, device: str, backend: str) -> Transform:
        """The callable ``(clip, channel, samples) -> (clip, channel, samples)`` that gives what it is given."""
        return lambda waveforms: waveforms
