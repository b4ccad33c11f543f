"""Log-mel spectrograms: the features of yang2018, ye2019 and nguyen2020."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ascfeat.dsp.mel import MelSpectrogram, band_edges, filter_bank
from ascfeat.representations import Transform
from ascschemas.base import Frozen
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis, Layout
from ascschemas.problems import Difference, RecipeError
from ascschemas.units import Hertz, Size


class LogMel(Frozen):
    """``ln(W |STFT(x)|^p + floor)``: a mel filter bank ``W`` over a magnitude (p = 1) or power (p = 2) spectrum.

    The transform is centred, its edges reflected: ``1 + samples // hop_length`` frames.
    """

    backends: ClassVar[tuple[str, ...]] = ("torch", "librosa")

    kind: Literal["log_mel"] = "log_mel"
    """Name of the representation."""
    n_fft: Annotated[int, Field(ge=16, le=1 << 17, multiple_of=2)]
    """Length of the FFT, in samples."""
    win_length: Size | None = None
    """Length of the window, in samples; that of the FFT where absent."""
    hop_length: Annotated[int, Field(ge=1, le=1 << 20)]
    """Samples from one frame to the next."""
    window: Literal["hann", "hamming"] = "hann"
    """Shape of the window, periodic."""
    spectrum: Literal["magnitude", "power"]
    """What the filters add up."""
    n_mels: Annotated[int, Field(ge=1, le=4096)]
    """Number of mel bands."""
    fmin: Hertz = 0.0
    """Lower edge of the lowest band, in Hz."""
    fmax: Hertz | None = None
    """Upper edge of the highest band, in Hz; half the sample rate where absent."""
    mel_scale: Literal["slaney", "htk"] = "slaney"
    """Mel scale on which the bands are evenly spaced."""
    mel_norm: Literal["slaney", "none"] = "slaney"
    """``slaney`` gives every triangle the same area, ``none`` a peak of one."""
    log: Literal["ln"] = "ln"
    """The logarithm."""
    floor: Annotated[float, Field(gt=0)]
    """Added before the logarithm."""
    frames: Literal["all", "whole_hops"] = "all"
    """``whole_hops`` keeps the first ``samples // hop_length`` frames of the centred transform (ye2019)."""

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.win_length is not None and self.win_length > self.n_fft:
            raise ValueError(f"win_length {self.win_length} is longer than n_fft {self.n_fft}")
        if self.fmax is not None and self.fmax <= self.fmin:
            raise ValueError(f"fmax {self.fmax:g} Hz is not above fmin {self.fmin:g} Hz")
        return self

    def layout(self, audio: AudioFormat) -> Layout:
        """Axes ``(channel, frequency, time)`` for waveforms of a format; frequencies are the bands' centres.

        Raises
        ------
        RecipeError
            When ``fmax`` is above half the sample rate, a band is narrower than the FFT's resolution and so empty,
            or the waveform is shorter than the reflected edge.
        """
        spec = self.spectrogram(audio)
        self._refuse(spec, audio)
        centres = band_edges(spec.n_mels, spec.fmin, spec.fmax, spec.mel_scale)[1:-1]
        return Layout(
            quantity=f"ln(mel {self.spectrum} + {self.floor:g})",
            axes=(
                Axis(name="channel", size=1, values=("mono",)),
                Axis(name="frequency", size=self.n_mels, unit="Hz", values=tuple(float(f) for f in centres)),
                Axis(name="time", size=spec.frames, unit="s", step=self.hop_length / audio.sample_rate),
            ),
        )

    def build(self, audio: AudioFormat, *, device: str, backend: str) -> Transform:
        """The callable ``(clip, 1, samples) -> (clip, 1, n_mels, frames)``."""
        spec = self.spectrogram(audio)
        if backend == "librosa":
            from ascfeat.dsp import librosa_backend  # two seconds to import, and only the reference needs it

            return librosa_backend.log_mel(spec)
        from ascfeat.dsp import torch_backend  # layouts are arithmetic and must not need torch

        return torch_backend.log_mel(spec, device)

    def spectrogram(self, audio: AudioFormat) -> MelSpectrogram:
        """The parameters with every default filled in for a sample rate and length."""
        return MelSpectrogram(
            sample_rate=audio.sample_rate,
            n_fft=self.n_fft,
            win_length=self.win_length or self.n_fft,
            hop_length=self.hop_length,
            window=self.window,
            power=1 if self.spectrum == "magnitude" else 2,
            n_mels=self.n_mels,
            fmin=self.fmin,
            fmax=audio.sample_rate / 2 if self.fmax is None else self.fmax,
            mel_scale=self.mel_scale,
            mel_norm=self.mel_norm,
            floor=self.floor,
            frames=audio.frames // self.hop_length + (self.frames == "all"),
        )

    def _refuse(self, spec: MelSpectrogram, audio: AudioFormat) -> None:
        problems = []
        if spec.fmax > audio.sample_rate / 2:
            problems.append(
                Difference(field="fmax", expected=f"at most {audio.sample_rate / 2:g} Hz", found=f"{spec.fmax:g} Hz")
            )
        elif empty := np.flatnonzero(~filter_bank(spec).any(axis=1)).tolist():
            problems.append(
                Difference(
                    field="n_mels",
                    expected="every band to hold an FFT bin",
                    found=f"band {empty[0]} of {spec.n_mels} empty, {len(empty)} in all",
                )
            )
        if audio.frames <= spec.n_fft // 2:
            problems.append(
                Difference(
                    field="n_fft", expected=f"under twice the waveform's {audio.frames} samples", found=str(spec.n_fft)
                )
            )
        if spec.frames < 1:
            problems.append(
                Difference(field="hop_length", expected=f"at most {audio.frames} samples", found=str(self.hop_length))
            )
        if problems:
            raise RecipeError(
                f"This log-mel cannot be computed from waveforms of {audio}.",
                differences=problems,
                todo="Change these parameters, or the sample rate and length that `decode` asks for.",
            )
