"""Constant-Q transforms: the CQT patches of huang2019."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from ascfeat.dsp import backends
from ascfeat.dsp.cqt import frequencies, lengths, upper_edge
from ascfeat.dsp.specs import CqtSpec, Decibels
from ascfeat.representations import Transform
from ascfeat.representations.spectral import Channels, HopLength, adds_mid, channel_axis, channel_problems, refuse
from ascschemas.base import Frozen
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis, Layout, LogScale
from ascschemas.problems import Difference
from ascschemas.units import Hertz, Size

SHORTEST = 2
"""Samples of the shortest filter: a Hann window of one sample is zero."""


class Cqt(Frozen):
    """``|X[k, t]| = |sum_n x[n] conj(w_k[n - t hop])|``: filters of constant quality, evenly spaced in pitch.

    Frames are centred, ``1 + samples // hop_length`` of them, edges reflected. Lengths and scale of the filters are
    those of ``librosa.cqt(scale=True)`` from 0.10 on; decibels are those of ``librosa.amplitude_to_db``.
    """

    backends: ClassVar[tuple[str, ...]] = ("numba", "torch", "nnaudio", "librosa")

    kind: Literal["cqt"] = "cqt"
    """Name of the representation."""
    hop_length: HopLength
    """Samples from one frame to the next."""
    n_bins: Annotated[int, Field(ge=1, le=4096)]
    """Number of filters."""
    bins_per_octave: Annotated[int, Field(ge=1, le=384)] = 12
    """Filters in an octave."""
    fmin: Annotated[Hertz, Field(gt=0)]
    """Centre of the lowest filter, in Hz at ``filter_rate``."""
    filter_scale: Annotated[float, Field(gt=0, le=64)] = 1.0
    """Factor on the length of the filters; a larger one tells pitches better apart, and times worse."""
    filter_rate: Size | None = None
    """Sample rate in Hz that filters are designed for; the waveform's where absent (huang2019: 44100 over 48 kHz)."""
    output: Literal["decibels", "magnitude"] = "decibels"
    """``decibels`` of the squared magnitude, or the ``magnitude`` itself."""
    amin: Annotated[float, Field(gt=0, le=1)] = 1e-10
    """Least squared magnitude whose decibels are taken."""
    top_db: Annotated[float, Field(gt=0)] | None = 80.0
    """Decibels kept under the loudest value of a channel's clip; all where null."""
    channels: Channels = "as_decoded"
    """``left_right_mid`` adds the mean of two channels as a third (huang2019); one channel stays one."""
    algorithm: Literal["direct", "recursive"] = "direct"
    """``direct`` is the sum above; ``recursive`` is ``librosa.cqt``, which halves the rate octave by octave."""

    def layout(self, audio: AudioFormat) -> Layout:
        """Axes ``(channel, frequency, time)`` for waveforms of a format; frequencies in the waveform's own Hz.

        Raises
        ------
        RecipeError
            When the highest filter reaches above half of the rate it is designed for, the longest one is longer than
            the waveform, or ``left_right_mid`` is asked of more than two channels.
        """
        refuse("This constant-Q transform", audio, list(self.problems(audio)))
        spec = self.spec(audio)
        centres = frequencies(spec) * (audio.sample_rate / spec.rate)
        step = self.hop_length / audio.sample_rate
        return Layout(
            quantity=self._quantity(),
            log=LogScale(decibels=1, lowest=10 * math.log10(self.amin)) if self.output == "decibels" else None,
            axes=(
                channel_axis(self.channels, audio),
                Axis(name="frequency", size=self.n_bins, unit="Hz", values=tuple(float(f) for f in centres)),
                Axis(name="time", size=spec.frames, unit="s", step=step),
            ),
        )

    def _quantity(self) -> str:
        """What the values are; librosa's own transform says so wherever a store is shown."""
        unit = " in dB" if self.output == "decibels" else ""
        return f"constant-Q magnitude{unit}{', recursive' if self.algorithm == 'recursive' else ''}"

    def problems(self, audio: AudioFormat) -> Iterator[Difference]:
        """What keeps the transform from being computed from such waveforms."""
        yield from channel_problems(self.channels, audio)
        spec = self.spec(audio)
        if (edge := upper_edge(spec)) > spec.rate / 2:
            expected = f"the highest filter to end under {spec.rate / 2:g} Hz, half of the filters' rate"
            yield Difference(field="n_bins", expected=expected, found=f"{edge:.6g} Hz")
        if (shortest := lengths(spec)[-1]) < SHORTEST:
            expected = f"filters of {SHORTEST} samples or more"
            yield Difference(field="filter_scale", expected=expected, found=f"{shortest:.3g} samples")
        if (longest := lengths(spec)[0]) > audio.frames:
            expected = f"filters of at most the waveform's {audio.frames} samples"
            yield Difference(field="fmin", expected=expected, found=f"{longest:.1f} samples")

    def build(self, audio: AudioFormat, *, device: str, backend: str) -> Transform:
        """The callable ``(clip, channel, samples) -> (clip, channel, n_bins, frames)``.

        Raises
        ------
        RecipeError
            When the recursive algorithm is asked of another backend than librosa's.
        """
        self.layout(audio)  # backends trust the numbers that it checks
        return backends.load(backend).cqt(self.spec(audio), device)

    @property
    def computable_by(self) -> tuple[str, ...]:
        """Backends that compute this algorithm, fastest first."""
        return ("librosa",) if self.algorithm == "recursive" else self.backends

    def computed_by(self, backend: str) -> Self:
        """What a backend computes under these parameters: librosa's own transform is its recursion.

        So a store made with the librosa backend says so, and has a fingerprint of its own.
        """
        return self.model_copy(update={"algorithm": "recursive"}) if backend == "librosa" else self

    def spec(self, audio: AudioFormat) -> CqtSpec:
        """Every number that a backend needs."""
        return CqtSpec(
            rate=self.filter_rate or audio.sample_rate,
            hop_length=self.hop_length,
            frames=1 + audio.frames // self.hop_length,
            n_bins=self.n_bins,
            bins_per_octave=self.bins_per_octave,
            fmin=self.fmin,
            filter_scale=self.filter_scale,
            decibels=Decibels(amin=self.amin, top_db=self.top_db) if self.output == "decibels" else None,
            mid=adds_mid(self.channels, audio),
            algorithm=self.algorithm,
        )
