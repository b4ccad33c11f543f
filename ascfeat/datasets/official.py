"""Facts about the published sets: names, formats and counts of clips, read from ``official.toml``."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from pydantic import Field

from ascschemas.base import Frozen
from ascschemas.dataset import AudioFormat
from ascschemas.units import Count, Seconds, Size


class Sides(NamedTuple):
    """Clips on each side of the official split."""

    train: Count
    test: Count
    unused: Count


class PublishedFormat(Frozen):
    """What every recording of a published set is."""

    sample_rate: Size
    """Samples per second, in Hz."""
    channels: Size
    """Number of channels."""
    seconds: Seconds
    """Length of a recording."""

    @property
    def audio(self) -> AudioFormat:
        """The same, with the length in samples."""
        frames = round(self.seconds * self.sample_rate)
        return AudioFormat(sample_rate=self.sample_rate, channels=self.channels, frames=frames)


class OfficialSet(Frozen):
    """One version of a published set."""

    kind: str
    """Name of its loader."""
    folder: str
    """Name of the folder that its archives unpack to."""
    version: str = ""
    """Version, where there are several."""
    zenodo: int | None = None
    """Number of its Zenodo record."""
    format: PublishedFormat
    """Format of the recordings."""
    devices: dict[str, Sides]
    """Clips of each device on each side of fold 1."""
    classes: dict[str, dict[str, Sides]] = Field(default_factory=dict)
    """The same by device and class, where it is known."""
    removed: frozenset[str] = frozenset()
    """Clips of an earlier version that this one no longer has."""

    @property
    def clips(self) -> int:
        """Number of clips."""
        return sum(sum(sides) for sides in self.devices.values())

    def __str__(self) -> str:
        return f"{self.folder} {self.version}".strip()


@cache
def official_sets() -> tuple[OfficialSet, ...]:
    """Every published set and version that the facts file knows."""
    text = files("ascfeat.datasets").joinpath("official.toml").read_text(encoding="utf-8")
    return tuple(OfficialSet.model_validate(entry) for entry in tomllib.loads(text)["set"])


def versions(kind: str) -> tuple[OfficialSet, ...]:
    """The versions of the published set of that kind; empty where the kind is none."""
    return tuple(entry for entry in official_sets() if entry.kind == kind)


def nearest_version(kind: str, clips: int) -> OfficialSet | None:
    """The version whose number of clips is nearest, or None where the kind is no published set."""
    return min(versions(kind), key=lambda entry: abs(entry.clips - clips), default=None)
