"""Mel spectrograms as energies, without a logarithm: the features that Akiyama and Sato's tagger is trained on."""

from __future__ import annotations

from typing import ClassVar, Literal

from ascfeat.dsp import backends
from ascfeat.dsp.specs import MelSpec
from ascfeat.representations import Transform
from ascfeat.representations.spectral import Gain, MelBands, channel_axis, refuse
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Layout


class Mel(MelBands):
    """``W |STFT(x)|^p``: a mel filter bank ``W`` over a magnitude (p = 1) or power (p = 2) spectrum.

    Energies add where sounds do, so mixtures of clips are made of them and not of their logarithms. The transform is
    centred, its edges reflected: ``1 + samples // hop_length`` frames.
    """

    backends: ClassVar[tuple[str, ...]] = ("numba", "torch", "nnaudio", "librosa")

    kind: Literal["mel"] = "mel"
    """Name of the representation."""
    spectrum: Literal["magnitude", "power"]
    """What the filters add up."""

    def layout(self, audio: AudioFormat) -> Layout:
        """Axes ``(channel, frequency, time)`` for waveforms of a format; frequencies are the bands' centres.

        Raises
        ------
        RecipeError
            When ``fmax`` is above half the sample rate, a band is narrower than the FFT's resolution and so empty,
            or the waveform is shorter than the window or the reflected edge.
        """
        refuse("This mel spectrogram", audio, list(self.mel_problems(audio)))
        return Layout(
            quantity=f"mel {self.spectrum}",
            axes=(channel_axis(self.channels, audio), self.band_axis(audio), self.time_axis(audio)),
        )

    def build(self, audio: AudioFormat, *, device: str, backend: str, gain: Gain = None) -> Transform:
        """The callable ``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""
        self.layout(audio)  # backends trust the numbers that it checks
        power: Literal[1, 2] = 1 if self.spectrum == "magnitude" else 2
        spec = MelSpec(stft=self.stft(audio, gain), bank=self.bank(audio), power=power)
        return backends.load(backend).mel(spec, device)
