"""A feature recipe: how audio is decoded, which representation is computed, how it is stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from ascschemas.base import Frozen, Parameters, fingerprint
from ascschemas.correction import Correction
from ascschemas.units import Fraction, Name, Seconds, Size

Precision = Literal["auto", "float32", "float16", "0.05dB"]
"""Number format of stored values."""


class Decode(Frozen):
    """Slot 1: from a recording to the waveform ``(channel, samples)`` that the representation sees."""

    sample_rate: Literal["native"] | Annotated[int, Field(ge=1000, le=768_000)] = "native"
    """Rate in Hz that recordings are brought to; ``native`` keeps the dataset's own."""
    channels: Literal["mono_mean", "native"] = "mono_mean"
    """``mono_mean`` averages the channels, ``native`` keeps the dataset's own."""
    seconds: Literal["native"] | Annotated[Seconds, Field(le=86_400)] = "native"
    """Length that every recording must have; ``native`` takes the dataset's own."""
    resampler: Literal["soxr_vhq", "soxr_hq"] = "soxr_vhq"
    """Resampler used where the dataset's rate is another than ``sample_rate``."""
    remove_dc: bool = False
    """Subtract each recording's mean (in float64) before anything else is computed."""
    other_rate: Literal["exclude", "resample"] = "exclude"
    """What becomes of a recording whose rate is not the dataset's."""
    other_channels: Literal["exclude", "accept"] = "exclude"
    """What becomes of a recording whose channel count is not the dataset's."""
    other_length: Literal["exclude", "fit", "repeat"] = "exclude"
    """What becomes of a recording that is not as long as the others; ``fit`` cuts its end or pads it with zeros,
    ``repeat`` cuts its end or begins it again until the length is filled."""
    length_tolerance: Fraction = 0.02
    """Share of the length by which a recording may be off and still be fitted: lossy codecs miss by some blocks."""


class Storage(Frozen):
    """Slot 3: how the values lie on disk; it changes no value and is not part of the fingerprint."""

    clips_per_shard: Literal["auto"] | Annotated[int, Field(ge=1, le=1 << 20)] = "auto"
    """Clips in one shard, the unit of work; ``auto`` is the largest power of two at or under 32 MiB, at most 1024."""
    precision: Precision = "auto"
    """Number format of the stored values: ``auto`` is exact, as the integers that recordings hold where features are
    their samples, else in float32; ``float32``; or, of logarithms, ``float16`` (at most 0.034 dB off) or ``0.05dB``
    (integer steps, at most 0.025 dB off)."""
    compress: bool = False
    """Whether chunks are compressed without loss (lz4 after shuffling bits): smaller, and slower to read."""


class Patches(Frozen):
    """A view of the stored features: pieces of equal width along time, cut when they are read."""

    width: Size
    """Frames of one patch."""
    hop: Size
    """Frames from one patch to the next."""
    resize: Size | None = None
    """Rows that the frequency axis is resized to, linearly; as many as are stored where absent."""
    last: Literal["drop", "align"] = "drop"
    """What becomes of frames that fill no whole patch: dropped, or kept by a patch that ends with the last frame."""

    def starts(self, frames: int) -> tuple[int, ...]:
        """First frame of each patch: ``0, hop, 2 hop, …`` as long as ``width`` frames follow.

        Examples
        --------
        >>> len(Patches(width=128, hop=32).starts(469))
        11
        """
        whole = tuple(range(0, frames - self.width + 1, self.hop))
        rest = whole and self.last == "align" and whole[-1] + self.width < frames
        return (*whole, frames - self.width) if rest else whole


class FeatureRecipe(Frozen):
    """Three named slots that say what a feature store holds."""

    name: Name
    """Name of the recipe and of the stores made by it."""
    description: str = ""
    """One line for people."""
    source: str = ""
    """Paper and section that the numbers come from."""
    decode: Decode = Decode()
    """How recordings become waveforms."""
    representation: Parameters
    """Which representation, and its parameters."""
    patches: Patches | None = None
    """How readers cut the stored features; it changes no stored value and is not part of the fingerprint."""
    storage: Storage = Storage()
    """How values lie on disk."""
    correction: Correction | None = None
    """What each device's spectra are multiplied by first, where they are; ``ascfeat correct`` makes it."""

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``correction`` where there is none: descriptions of older stores stay what they are, to the byte."""
        held: dict[str, Any] = handler(self)
        if held.get("correction", ...) is None:
            del held["correction"]
        return held

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what changes stored values, never of names, patches or storage.

        That is ``decode``, ``representation`` and, where there is one, the digest of ``correction``.
        """
        decided: dict[str, Any] = {"decode": self.decode, "representation": self.representation}
        if self.correction is not None:
            decided["correction"] = self.correction.digest
        return fingerprint(decided)

    def corrected(self, correction: Correction, name: str) -> FeatureRecipe:
        """This recipe with every device's spectra corrected; it is called ``<name of this>+<name>``."""
        return self.model_copy(update={"name": f"{self.name}+{name}", "correction": correction})
