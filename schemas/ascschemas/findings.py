"""What the dataset doctor found: every problem of a dataset by recording and by split, and its counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import model_validator

from ascschemas.base import Frozen
from ascschemas.dataset import AudioFormat
from ascschemas.problems import Difference
from ascschemas.units import Count, Name

Severity = Literal["unusable", "leak", "warning", "note"]
"""``unusable``: extraction would exclude the recording. ``leak``: a split's test side is known to its train side.
``warning``: worth a look. ``note``: worth knowing."""

FindingKind = Literal[
    "missing",
    "empty",
    "unreadable",
    "truncated",
    "nan",
    "wrong-rate",
    "wrong-channels",
    "wrong-length",
    "leak-clip",
    "leak-location",
    "leak-segment",
    "silent",
    "clipped",
    "duplicate",
    "extra",
    "unlabelled",
    "official-format",
    "official-counts",
    "length-fitted",
]
"""What can be wrong with a recording, a split or a dataset."""

SEVERITIES: Final[Mapping[FindingKind, Severity]] = {
    "missing": "unusable",
    "empty": "unusable",
    "unreadable": "unusable",
    "truncated": "unusable",
    "nan": "unusable",
    "wrong-rate": "unusable",
    "wrong-channels": "unusable",
    "wrong-length": "unusable",
    "leak-clip": "leak",
    "leak-location": "leak",
    "leak-segment": "leak",
    "silent": "warning",
    "clipped": "warning",
    "duplicate": "warning",
    "extra": "warning",
    "unlabelled": "warning",
    "official-format": "warning",
    "official-counts": "warning",
    "length-fitted": "note",
}
"""How much each kind of finding matters, worst first."""


class Finding(Frozen):
    """One thing that is wrong, and which clips it concerns."""

    kind: FindingKind
    """What is wrong, in a word."""
    severity: Severity
    """How much it matters."""
    clips: tuple[str, ...] = ()
    """The clips concerned; of a leak, those on the train side and then those on the test side."""
    split: str = ""
    """The split concerned; empty where the finding is not about a split."""
    detail: str
    """What is wrong in a sentence, with both values."""


class SideCount(Frozen):
    """How many clips a split puts on each side."""

    split: Name
    """Name of the split."""
    train: Count
    """Clips of the training side."""
    test: Count
    """Clips of the test side."""
    unused: Count
    """Clips on neither side."""


class GroupCount(Frozen):
    """How many clips one class has of one device in one city."""

    label: str
    """Scene class; empty where the label is withheld."""
    device: str
    """Recording device; empty where the dataset does not say."""
    city: str
    """City; empty where the dataset does not say."""
    clips: Count
    """Clips of that class, device and city."""
    sides: tuple[SideCount, ...] = ()
    """The same clips by side, for each split."""


class CheckReport(Frozen):
    """Everything that the doctor found in one dataset."""

    dataset: Name
    """Name of the dataset."""
    kind: str
    """Loader that read it."""
    fit: bool
    """Whether it is fit to extract and train: no unusable recording and no leak."""
    clips: Count
    """Listed clips."""
    usable: Count
    """Clips that extraction would keep."""
    audio: AudioFormat | None
    """Format that most recordings share; None where nothing could be decoded."""
    splits: tuple[SideCount, ...]
    """Clips on each side of every split."""
    origins: dict[str, str]
    """Who made each split."""
    counts: tuple[GroupCount, ...]
    """Clips by class, device, city and side."""
    official: str = ""
    """The official set that the counts were compared with; empty where there is none."""
    count_differences: tuple[Difference, ...] = ()
    """Where the counts are not the official ones."""
    findings: tuple[Finding, ...]
    """What is wrong, worst first."""
    notes: tuple[str, ...] = ()
    """What the loader had to assume."""

    @model_validator(mode="after")
    def _verdict(self) -> Self:
        if self.fit != (not any(f.severity in ("unusable", "leak") for f in self.findings)):
            raise ValueError("`fit` contradicts the findings")
        return self
