"""Log-mel spectrograms: the features of yang2018, ye2019 and nguyen2020."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ascfeat.dsp import backends
from ascfeat.dsp.specs import LogMelSpec
from ascfeat.representations import Transform
from ascfeat.representations.spectral import Gain, MelBands, channel_axis, refuse
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Layout, LogScale


class LogMel(MelBands):
    """``ln(W |STFT(x)|^p + floor)``: a mel filter bank ``W`` over a magnitude (p = 1) or power (p = 2) spectrum.

    The transform is centred, its edges reflected: ``1 + samples // hop_length`` frames.
    """

    backends: ClassVar[tuple[str, ...]] = ("numba", "torch", "nnaudio", "librosa")

    kind: Literal["log_mel"] = "log_mel"
    """Name of the representation."""
    spectrum: Literal["magnitude", "power"]
    """What the filters add up."""
    log: Literal["ln"] = "ln"
    """The logarithm."""
    floor: Annotated[float, Field(ge=1e-300)]
    """Added before the logarithm; float64 holds nothing less with all its digits."""

    def layout(self, audio: AudioFormat) -> Layout:
        """Axes ``(channel, frequency, time)`` for waveforms of a format; frequencies are the bands' centres.

        Raises
        ------
        RecipeError
            When ``fmax`` is above half the sample rate, a band is narrower than the FFT's resolution and so empty,
            or the waveform is shorter than the window or the reflected edge.
        """
        refuse("This log-mel", audio, list(self.mel_problems(audio)))
        neper = (20 if self.spectrum == "magnitude" else 10) / math.log(10)
        return Layout(
            quantity=f"ln(mel {self.spectrum} + {self.floor:g})",
            log=LogScale(decibels=neper, lowest=math.log(self.floor)),
            axes=(channel_axis(self.channels, audio), self.band_axis(audio), self.time_axis(audio)),
        )

    def build(self, audio: AudioFormat, *, device: str, backend: str, gain: Gain = None) -> Transform:
        """The callable ``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""
        self.layout(audio)  # backends trust the numbers that it checks
        return backends.load(backend).log_mel(self.spec(audio, gain), device)

    def spec(self, audio: AudioFormat, gain: Gain = None) -> LogMelSpec:
        """Every number that a backend needs."""
        power: Literal[1, 2] = 1 if self.spectrum == "magnitude" else 2
        return LogMelSpec(stft=self.stft(audio, gain), bank=self.bank(audio), power=power, floor=self.floor)
