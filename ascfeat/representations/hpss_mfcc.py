"""MFCCs of harmonic and percussive components: the HPSS-MFCC patches of huang2019."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ascfeat.dsp import backends
from ascfeat.dsp.specs import HpssMfccSpec, Stft
from ascfeat.representations import Transform
from ascfeat.representations.mfcc import Cepstrum
from ascfeat.representations.spectral import FftLength, Gain, HopLength, adds_mid, channel_axis, refuse
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis, Layout
from ascschemas.problems import Difference

MOST_REFLECTIONS = 4
"""``scipy.ndimage.median_filter``, which the reference uses, reads foreign memory when an edge is reflected oftener."""


class HpssMfcc(Cepstrum):
    """MFCCs of a recording's harmonic and percussive components, each brought back to audio (huang2019 Sec. 2.1).

    Components are told apart by running medians of a magnitude spectrum, along time for what is harmonic and along
    frequency for what is percussive (FitzGerald 2010), with soft masks ``H^p / (H^p + P^p)``, as in librosa. The
    separation's window is Hann's, as long as its FFT, and its frames are all that the waveform has.
    """

    backends: ClassVar[tuple[str, ...]] = ("numba", "torch", "nnaudio", "librosa")

    kind: Literal["hpss_mfcc"] = "hpss_mfcc"
    """Name of the representation."""
    separation_n_fft: FftLength = 2048
    """Length of the separation's FFT and window, in samples."""
    separation_hop_length: HopLength = 512
    """Samples from one frame of the separation to the next; at most half its FFT."""
    kernel_size: Annotated[int, Field(ge=1, le=1023)] = 31
    """Odd length of the running medians, in frames and in bins."""
    mask_power: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    """Exponent ``p`` of the soft masks."""

    @model_validator(mode="after")
    def _separation_fits(self) -> Self:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size} is even: a running median needs a middle")
        if self.separation_hop_length > self.separation_n_fft // 2:
            raise ValueError(
                f"separation_hop_length {self.separation_hop_length} is more than half of separation_n_fft "
                f"{self.separation_n_fft}: the way back to audio would have gaps"
            )
        return self

    def layout(self, audio: AudioFormat) -> Layout:
        """Axes ``(channel, component, coefficient, time)`` for waveforms of a format.

        Raises
        ------
        RecipeError
            As for log-mels; also when the waveform is shorter than the separation's window, or the running medians
            are much longer than its spectrum.
        """
        refuse("This HPSS-MFCC", audio, [*self.mel_problems(audio), *self.separation_problems(audio)])
        component = Axis(name="component", size=2, values=("harmonic", "percussive"))
        axes = (channel_axis(self.channels, audio), component, self.coefficient_axis(), self.time_axis(audio))
        return Layout(quantity="MFCC of mel power in dB", axes=axes)

    @property
    def corrected_n_fft(self) -> int:
        """Length of the separation's FFT: recordings are corrected before their components are told apart."""
        return self.separation_n_fft

    def build(self, audio: AudioFormat, *, device: str, backend: str, gain: Gain = None) -> Transform:
        """The callable ``(clip, channel, samples) -> (clip, channel, 2, n_mfcc, frames)``."""
        self.layout(audio)  # backends trust the numbers that it checks
        return backends.load(backend).hpss_mfcc(self.hpss_mfcc_spec(audio, gain), device)

    def hpss_mfcc_spec(self, audio: AudioFormat, gain: Gain = None) -> HpssMfccSpec:
        """Every number that a backend needs."""
        return HpssMfccSpec(
            separation=self.separation(audio, gain),
            kernel=self.kernel_size,
            power=self.mask_power,
            mfcc=self.mfcc_spec(audio),
        )

    def separation(self, audio: AudioFormat, gain: Gain = None) -> Stft:
        """The transform in which the components are told apart."""
        return Stft(
            n_fft=self.separation_n_fft,
            win_length=self.separation_n_fft,
            hop_length=self.separation_hop_length,
            window="hann",
            frames=1 + audio.frames // self.separation_hop_length,
            mid=adds_mid(self.channels, audio),
            gain=gain,
        )

    def separation_problems(self, audio: AudioFormat) -> Iterator[Difference]:
        """What keeps the components of such waveforms from being told apart."""
        stft = self.separation(audio)
        if stft.n_fft > audio.frames:
            expected = f"at most the waveform's {audio.frames} samples"
            yield Difference(field="separation_n_fft", expected=expected, found=str(stft.n_fft))
        least = min(stft.frames, stft.bins)
        if self.kernel_size // 2 >= MOST_REFLECTIONS * least:
            expected = f"less than {2 * MOST_REFLECTIONS * least}, for {stft.frames} frames and {stft.bins} bins"
            yield Difference(field="kernel_size", expected=expected, found=str(self.kernel_size))
