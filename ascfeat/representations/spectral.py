"""Parameters that STFT-based representations share, and the rules that they must keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ascfeat.dsp.mel import band_edges, filter_bank
from ascfeat.dsp.specs import MelBank, Stft
from ascschemas.base import Frozen
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis
from ascschemas.problems import Difference, RecipeError
from ascschemas.units import Hertz, Size

Channels = Literal["as_decoded", "left_right_mid"]
FftLength = Annotated[int, Field(ge=16, le=1 << 17, multiple_of=2)]
HopLength = Annotated[int, Field(ge=1, le=1 << 20)]
Gain = tuple[float, ...] | None
"""A device's factor on each bin of its spectra; None where they stay as they are."""


class ShortTime(Frozen):
    """Parameters of a centred short-time Fourier transform whose edges are reflected."""

    kind: str
    """Name of the representation."""
    n_fft: FftLength
    """Length of the FFT, in samples."""
    win_length: Annotated[int, Field(ge=2, le=1 << 17)] | None = None
    """Length of the window, in samples; that of the FFT where absent."""
    hop_length: HopLength
    """Samples from one frame to the next."""
    window: Literal["hann", "hamming"] = "hann"
    """Shape of the window, periodic."""
    frames: Literal["all", "whole_hops"] = "all"
    """``whole_hops`` keeps the first ``samples // hop_length`` frames of the centred transform (ye2019)."""
    channels: Channels = "as_decoded"
    """``left_right_mid`` adds the mean of two channels as a third (huang2019); one channel stays one."""

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.win_length is not None and self.win_length > self.n_fft:
            raise ValueError(f"win_length {self.win_length} is longer than n_fft {self.n_fft}")
        return self

    @property
    def corrected_n_fft(self) -> int:
        """Length of the FFT whose bins a device's coefficients multiply."""
        return self.n_fft

    def stft(self, audio: AudioFormat, gain: Gain = None) -> Stft:
        """The transform with every default filled in."""
        return Stft(
            n_fft=self.n_fft,
            win_length=self.win_length or self.n_fft,
            hop_length=self.hop_length,
            window=self.window,
            frames=audio.frames // self.hop_length + (self.frames == "all"),
            mid=adds_mid(self.channels, audio),
            gain=gain,
        )

    def time_axis(self, audio: AudioFormat) -> Axis:
        """Time of each frame's centre, in seconds."""
        return Axis(name="time", size=self.stft(audio).frames, unit="s", step=self.hop_length / audio.sample_rate)

    def short_time_problems(self, audio: AudioFormat) -> Iterator[Difference]:
        """What keeps the transform from being computed from such waveforms."""
        yield from channel_problems(self.channels, audio)
        yield from window_problems(self.win_length or self.n_fft, self.n_fft, audio)
        if audio.frames // self.hop_length + (self.frames == "all") < 1:
            yield Difference(field="hop_length", expected=f"at most {audio.frames} samples", found=str(self.hop_length))


class MelBands(ShortTime):
    """Parameters of a mel filter bank over a short-time spectrum."""

    n_mels: Annotated[int, Field(ge=1, le=4096)]
    """Number of mel bands."""
    fmin: Hertz = 0.0
    """Lower edge of the lowest band, in Hz."""
    fmax: Hertz | None = None
    """Upper edge of the highest band, in Hz; half the rate where absent."""
    mel_scale: Literal["slaney", "htk"] = "slaney"
    """Mel scale on which the bands are evenly spaced."""
    mel_norm: Literal["slaney", "none"] = "slaney"
    """``slaney`` gives every triangle the same area, ``none`` a peak of one."""
    filter_rate: Size | None = None
    """Sample rate in Hz that filters are designed for; the waveform's where absent (huang2019: 44100 over 48 kHz)."""

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        if self.fmax is not None and self.fmax <= self.fmin:
            raise ValueError(f"fmax {self.fmax:g} Hz is not above fmin {self.fmin:g} Hz")
        if self.filter_rate is not None and (self.fmax or 0) > self.filter_rate / 2:
            raise ValueError(f"fmax {self.fmax:g} Hz is above half of filter_rate, {self.filter_rate / 2:g} Hz")
        return self

    def bank(self, audio: AudioFormat) -> MelBank:
        """The filters with every default filled in."""
        rate = self.filter_rate or audio.sample_rate
        return MelBank(
            rate=rate,
            n_fft=self.n_fft,
            n_mels=self.n_mels,
            fmin=self.fmin,
            fmax=rate / 2 if self.fmax is None else self.fmax,
            mel_scale=self.mel_scale,
            mel_norm=self.mel_norm,
        )

    def band_axis(self, audio: AudioFormat) -> Axis:
        """The axis of the bands, at their centres."""
        return Axis(name="frequency", size=self.n_mels, unit="Hz", values=self.band_centres(audio))

    def band_centres(self, audio: AudioFormat) -> tuple[float, ...]:
        """Centre of each band in the waveform's own Hz, whatever rate the filters were designed for."""
        bank = self.bank(audio)
        centres = band_edges(bank)[1:-1] * (audio.sample_rate / bank.rate)
        return tuple(float(f) for f in centres)

    def mel_problems(self, audio: AudioFormat) -> Iterator[Difference]:
        """What keeps the bands from being computed from such waveforms."""
        yield from self.short_time_problems(audio)
        bank = self.bank(audio)
        if bank.fmax > bank.rate / 2:
            yield Difference(field="fmax", expected=f"at most {bank.rate / 2:g} Hz", found=f"{bank.fmax:g} Hz")
        elif bank.fmin >= bank.fmax:
            yield Difference(field="fmin", expected=f"under {bank.fmax:g} Hz", found=f"{bank.fmin:g} Hz")
        elif empty := np.flatnonzero(~filter_bank(bank).any(axis=1)).tolist():
            yield Difference(
                field="n_mels",
                expected=f"every band to hold an FFT bin, {bank.rate / bank.n_fft:.4g} Hz apart",
                found=f"band {empty[0]} of {bank.n_mels} empty, {len(empty)} in all",
            )


def adds_mid(channels: Channels, audio: AudioFormat) -> bool:
    """Whether a third channel, the mean of two, is computed."""
    return channels == "left_right_mid" and audio.channels == 2


def channel_axis(channels: Channels, audio: AudioFormat) -> Axis:
    """Names of the channels: ``mono``; ``left, right``; ``left, right, mid``; else their numbers."""
    named: dict[int, tuple[str, ...]] = {1: ("mono",), 2: ("left", "right")}
    names = named.get(audio.channels) or tuple(str(i + 1) for i in range(audio.channels))
    if adds_mid(channels, audio):
        names = (*names, "mid")
    return Axis(name="channel", size=len(names), values=names)


def channel_problems(channels: Channels, audio: AudioFormat) -> Iterator[Difference]:
    """Left, right and mid need two channels, or one."""
    if channels == "left_right_mid" and audio.channels > 2:
        yield Difference(field="channels", expected="left_right_mid of 1 or 2 channels", found=str(audio.channels))


def window_problems(win_length: int, n_fft: int, audio: AudioFormat) -> Iterator[Difference]:
    """A window must fit into the waveform, and so must the reflected edges."""
    if win_length > audio.frames:
        field = "win_length" if win_length < n_fft else "n_fft"
        yield Difference(field=field, expected=f"at most the waveform's {audio.frames} samples", found=str(win_length))
    elif n_fft // 2 >= audio.frames:
        yield Difference(field="n_fft", expected=f"under twice the waveform's {audio.frames} samples", found=str(n_fft))


def refuse(what: str, audio: AudioFormat, problems: Sequence[Difference]) -> None:
    """Raise what was found, if anything.

    Raises
    ------
    RecipeError
        With every problem.
    """
    if problems:
        raise RecipeError(
            f"{what} cannot be computed from waveforms of {audio}.",
            differences=problems,
            todo="Change these parameters, or the sample rate, channels and length that `decode` asks for.",
        )
