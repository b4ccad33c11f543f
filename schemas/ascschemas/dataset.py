"""What a dataset is: labelled clips, official splits, and the audio format its recordings share."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from ascschemas.base import Frozen, fingerprint
from ascschemas.units import Name, Size

Side = Literal["train", "test", "unused"]
"""Where a split puts a clip."""


UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
"""What no clip's name may hold: control characters, backslashes, and bytes that are not UTF-8."""


def _inside(path: str) -> str:
    """Accept only a relative POSIX path that stays inside the dataset folder."""
    parts = {*path.split("/")} - {"", "."}
    if not parts or path.startswith("/") or ".." in parts or UNPRINTABLE.search(path) or len(path) > 1000:
        raise ValueError(f"{path!r} is not a relative path inside the dataset folder")
    return path


ClipId = Annotated[str, AfterValidator(_inside)]
"""A clip's name: the path of its recording relative to the dataset folder, with forward slashes."""


def tags_of(label: str) -> tuple[str, ...]:
    """The distinct tags of a label that lists several, separated by commas, in its order.

    Only who trains a tagger reads labels so; to everybody else a label is one class, whatever its name holds.

    Examples
    --------
    >>> tags_of("Accordion, Acoustic_guitar"), tags_of("bus"), tags_of("")
    (('Accordion', 'Acoustic_guitar'), ('bus',), ())
    """
    return tuple(dict.fromkeys(tag.strip() for tag in label.split(",") if tag.strip()))


class AudioFormat(Frozen):
    """The format that the recordings of a dataset share."""

    sample_rate: Size
    """Samples per second of each channel, in Hz."""
    channels: Size
    """Number of channels."""
    frames: Size
    """Samples per channel of one recording."""

    @property
    def seconds(self) -> float:
        """Length of one recording in seconds."""
        return self.frames / self.sample_rate

    def __str__(self) -> str:
        return f"{self.sample_rate} Hz, {self.channels} channel{'s' * (self.channels > 1)}, {self.seconds:g} s"


class Clip(Frozen):
    """One labelled recording."""

    id: ClipId
    """Path of the recording relative to the dataset folder; unique in the dataset."""
    label: str = ""
    """Scene class, or several tags separated by commas; empty where the labels are withheld (evaluation sets)."""
    device: str = ""
    """Recording device; empty where the dataset does not say."""
    city: str = ""
    """City of the recording; empty where the dataset does not say."""
    location: str = ""
    """Grouping key of a place or source (``lisbon-1000``): clips that share it must not be on both sides of a split."""
    segment: str = ""
    """What parallel recordings of one moment share: the file's stem without its device."""


class Split(Frozen):
    """A named division of the clips; what is on neither side is unused."""

    name: Name
    """Name of the split, such as ``fold1``."""
    train: tuple[str, ...]
    """Clip ids of the training side."""
    test: tuple[str, ...]
    """Clip ids of the test side."""
    origin: str = "official"
    """Who made it: ``official``, or the rule by which ascfeat made it."""


class Manifest(Frozen):
    """Everything that a dataset's own metadata says, before any audio is read."""

    dataset: Name
    """Name of the dataset: its folder's."""
    kind: str
    """Which loader read it, by its name in ``ascfeat.datasets``."""
    clips: tuple[Clip, ...]
    """Every listed clip, in the order of the dataset's own list."""
    splits: tuple[Split, ...] = ()
    """The splits that the dataset ships, or that its loader made."""
    notes: tuple[str, ...] = ()
    """What the loader had to assume, in words."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The distinct labels in alphabetical order."""
        return tuple(sorted({c.label for c in self.clips if c.label}))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over clips and splits; the dataset's name, kind and notes do not enter."""
        return fingerprint({"clips": self.clips, "splits": self.splits})

    def split(self, name: str) -> Split | None:
        """The split of that name, or None."""
        return next((s for s in self.splits if s.name == name), None)

    def sides(self, split: Split) -> tuple[Side, ...]:
        """The side of each clip in a split, in clip order."""
        train, test = set(split.train), set(split.test)
        return tuple("train" if c.id in train else "test" if c.id in test else "unused" for c in self.clips)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = Counter(c.id for c in self.clips)
        twice = sorted(i for i, n in ids.items() if n > 1)
        if twice:
            raise ValueError(f"{len(twice)} clip ids are listed twice, first {twice[0]!r}")
        for split in self.splits:
            strangers = [i for i in (*split.train, *split.test) if i not in ids]
            if strangers:
                raise ValueError(f"split {split.name} lists {len(strangers)} unknown clips, first {strangers[0]!r}")
        return self
