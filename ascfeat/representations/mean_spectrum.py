"""Mean magnitude spectra: what device spectrum correction is computed from (nguyen2020 Sec. 2.2)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from ascfeat.dsp import backends
from ascfeat.dsp.specs import MeanSpectrumSpec
from ascfeat.representations import Transform
from ascfeat.representations.spectral import Gain, ShortTime, channel_axis, refuse
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis, Layout


class MeanSpectrum(ShortTime):
    """``M[k] = mean_t |STFT(x)[k, t]|``, one number a frequency bin and clip.

    Of ``average: geometric``, ``mean_t ln(max(|STFT(x)[k, t]|, 1e-10))``.
    """

    backends: ClassVar[tuple[str, ...]] = ("numba", "torch", "nnaudio", "librosa")

    kind: Literal["mean_spectrum"] = "mean_spectrum"
    """Name of the representation."""
    average: Literal["arithmetic", "geometric"] = "arithmetic"
    """What is averaged over time: magnitudes, or their natural logarithms (Kosmider, Interspeech 2020)."""

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``average`` where it is arithmetic: recipes of older stores stay what they are."""
        held: dict[str, Any] = handler(self)
        return {k: v for k, v in held.items() if (k, v) != ("average", "arithmetic")}

    def layout(self, audio: AudioFormat) -> Layout:
        """Axes ``(channel, frequency)`` for waveforms of a format; frequencies are those of the FFT's bins.

        Raises
        ------
        RecipeError
            When the waveform is shorter than the window or the reflected edge.
        """
        refuse("This mean spectrum", audio, list(self.short_time_problems(audio)))
        bins = Axis(name="frequency", size=self.n_fft // 2 + 1, unit="Hz", step=audio.sample_rate / self.n_fft)
        quantity = "mean magnitude" if self.average == "arithmetic" else "mean ln(magnitude)"
        return Layout(quantity=quantity, axes=(channel_axis(self.channels, audio), bins))

    def build(self, audio: AudioFormat, *, device: str, backend: str, gain: Gain = None) -> Transform:
        """The callable ``(clip, channel, samples) -> (clip, channel, n_fft // 2 + 1)``."""
        self.layout(audio)  # backends trust the numbers that it checks
        spec = MeanSpectrumSpec(self.stft(audio, gain), logarithmic=self.average == "geometric")
        return backends.load(backend).mean_spectrum(spec, device)
