"""Mean magnitude spectra: what device spectrum correction is computed from (nguyen2020 Sec. 2.2)."""

from __future__ import annotations

from typing import ClassVar, Literal

from ascfeat.dsp import backends
from ascfeat.dsp.specs import MeanSpectrumSpec
from ascfeat.representations import Transform
from ascfeat.representations.spectral import ShortTime, channel_axis, refuse
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis, Layout


class MeanSpectrum(ShortTime):
    """``M[k] = mean_t |STFT(x)[k, t]|``, one number a frequency bin and clip."""

    backends: ClassVar[tuple[str, ...]] = ("numba", "torch", "nnaudio", "librosa")

    kind: Literal["mean_spectrum"] = "mean_spectrum"
    """Name of the representation."""

    def layout(self, audio: AudioFormat) -> Layout:
        """Axes ``(channel, frequency)`` for waveforms of a format; frequencies are those of the FFT's bins.

        Raises
        ------
        RecipeError
            When the waveform is shorter than the window or the reflected edge.
        """
        refuse("This mean spectrum", audio, list(self.short_time_problems(audio)))
        bins = Axis(name="frequency", size=self.n_fft // 2 + 1, unit="Hz", step=audio.sample_rate / self.n_fft)
        return Layout(quantity="mean magnitude", axes=(channel_axis(self.channels, audio), bins))

    def build(self, audio: AudioFormat, *, device: str, backend: str) -> Transform:
        """The callable ``(clip, channel, samples) -> (clip, channel, n_fft // 2 + 1)``."""
        self.layout(audio)  # backends trust the numbers that it checks
        return backends.load(backend).mean_spectrum(MeanSpectrumSpec(self.stft(audio)), device)
