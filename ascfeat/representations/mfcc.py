"""Mel-frequency cepstral coefficients: the MFCC patches of huang2019."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ascfeat.dsp import backends
from ascfeat.dsp.specs import Decibels, MfccSpec
from ascfeat.representations import Transform
from ascfeat.representations.spectral import Gain, MelBands, channel_axis, refuse
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis, Layout


class Cepstrum(MelBands):
    """Parameters of MFCCs."""

    n_mfcc: Annotated[int, Field(ge=1, le=4096)]
    """Coefficients kept, from the zeroth."""
    amin: Annotated[float, Field(ge=1e-37, le=1)] = 1e-10
    """Least power whose decibels are taken."""
    top_db: Annotated[float, Field(gt=0)] | None = 80.0
    """Decibels kept under the loudest band of a channel's clip; all where null."""

    @model_validator(mode="after")
    def _coefficients_fit(self) -> Self:
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc {self.n_mfcc} is more than the {self.n_mels} of n_mels")
        return self

    def coefficient_axis(self) -> Axis:
        """Numbers of the coefficients, from 0."""
        return Axis(name="coefficient", size=self.n_mfcc)

    def mfcc_spec(self, audio: AudioFormat, gain: Gain = None) -> MfccSpec:
        """Every number that a backend needs."""
        decibels = Decibels(amin=self.amin, top_db=self.top_db)
        return MfccSpec(stft=self.stft(audio, gain), bank=self.bank(audio), decibels=decibels, n_mfcc=self.n_mfcc)


class Mfcc(Cepstrum):
    """``DCT(10 log10(max(W |STFT(x)|^2, amin)))``, an orthonormal DCT-II over mel bands (huang2019 Sec. 2.1).

    Decibels are kept from ``top_db`` under the loudest band of the clip's channel upwards, as in librosa.
    """

    backends: ClassVar[tuple[str, ...]] = ("numba", "torch", "nnaudio", "librosa")

    kind: Literal["mfcc"] = "mfcc"
    """Name of the representation."""

    def layout(self, audio: AudioFormat) -> Layout:
        """Axes ``(channel, coefficient, time)`` for waveforms of a format.

        Raises
        ------
        RecipeError
            As for log-mels.
        """
        refuse("This MFCC", audio, list(self.mel_problems(audio)))
        axes = (channel_axis(self.channels, audio), self.coefficient_axis(), self.time_axis(audio))
        return Layout(quantity="MFCC of mel power in dB", axes=axes)

    def build(self, audio: AudioFormat, *, device: str, backend: str, gain: Gain = None) -> Transform:
        """The callable ``(clip, channel, samples) -> (clip, channel, n_mfcc, frames)``."""
        self.layout(audio)  # backends trust the numbers that it checks
        return backends.load(backend).mfcc(self.mfcc_spec(audio, gain), device)
