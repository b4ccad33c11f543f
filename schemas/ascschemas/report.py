"""An evaluation report: scores with their intervals, published numbers beside ours, and what the run was made of."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ascschemas.base import Frozen, Parameters
from ascschemas.run import Initial
from ascschemas.training import Claim
from ascschemas.units import Count, Digest, Fraction, Name, Size


class Score(Frozen):
    """How many of some clips were classified rightly; of tags, how precisely they were ranked (lwlrap)."""

    name: str
    """Which clips: a class, a device, a city, or ``overall``."""
    correct: Count | Annotated[float, Field(ge=0)]
    """Clips classified rightly; of tags, the sum of the precisions at their ranks."""
    total: Size
    """Clips scored; of tags, labels: a clip has as many as tags."""
    accuracy: Fraction
    """``correct / total``: accuracy or, of tags, lwlrap, as the report's ``metric`` says."""
    low: Fraction
    """Lower end of the 95 % interval: Wilson's; of tags, that of a ratio of sums over clips."""
    high: Fraction
    """Upper end of the 95 % interval."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if abs(self.accuracy - self.correct / self.total) > 1e-12:
            raise ValueError(f"{self.name}: accuracy {self.accuracy} is not {self.correct} / {self.total}")
        return self


class Confusion(Frozen):
    """How often each class was taken for each."""

    classes: tuple[str, ...]
    """Labels in alphabetical order."""
    counts: tuple[tuple[Count, ...], ...]
    """``counts[i][j]``: clips of class i that were classified as j."""

    @model_validator(mode="after")
    def _square(self) -> Self:
        if {len(row) for row in self.counts} != {len(self.classes)} or len(self.counts) != len(self.classes):
            raise ValueError(f"a confusion matrix of {len(self.classes)} classes is square")
        return self


class Accuracies(Frozen):
    """Everything measured of some classified clips."""

    overall: Score
    """All scored clips pooled."""
    classes: tuple[Score, ...]
    """Per true class."""
    devices: tuple[Score, ...] = ()
    """Per recording device; none where the dataset does not say."""
    cities: tuple[Score, ...] = ()
    """Per city; none where the dataset does not say."""
    class_mean: Fraction
    """Mean of the classes' accuracies."""
    device_mean: Fraction | None = None
    """Mean of the accuracies of the headline's devices, where all of them were scored."""
    confusion: Confusion | None
    """True class by predicted class; none of tags."""


class Scores(Accuracies):
    """Everything measured with one epoch's weights."""

    epoch: Size
    """The epoch, counted from 1."""


class BesideClaim(Frozen):
    """A published number with ours beside it."""

    claim: Claim
    """What was published."""
    ours: Fraction | None
    """What this run reaches in the same place; none where the data have no such group."""
    comparable: bool
    """Whether both were measured on the same data and split."""
    remark: str = ""
    """Why they cannot be compared, in words."""


class Provenance(Frozen):
    """What the numbers come from."""

    recipe: Name
    """Name of the training recipe."""
    fingerprint: Digest
    """Fingerprint of the training recipe as it ran."""
    changed: dict[str, str]
    """Values given on the command line, by dotted path."""
    family: str
    """Model family."""
    parameters: Count
    """Trainable parameters."""
    trainer: Parameters
    """The trainer with its options, such as precision and memory order."""
    dataset: Name
    """Name of the dataset."""
    dataset_kind: str
    """Its loader in ``ascfeat.datasets``."""
    split: Name
    """Name of the split."""
    corrections: dict[str, dict[str, str]] = Field(default={})
    """For each feature recipe whose spectra were corrected by device, what tells that correction from another."""
    stores: dict[str, Digest]
    """Digest of each feature store's seal, by feature recipe."""
    initial: Initial | None = None
    """What the network started from; none where all its weights were drawn."""
    software: dict[str, str]
    """Versions of the software that evaluated."""


class Report(Frozen):
    """The result of ``ascmodels evaluate``."""

    format_version: Literal[1] = 1
    """Version of the report format."""
    provenance: Provenance
    """What the numbers come from."""
    selection: str
    """How the reported epoch was chosen, in words."""
    metric: Literal["accuracy", "lwlrap"] = "accuracy"
    """What the scores are: accuracy, or label-weighted label-ranking average precision of tags."""
    headline: str
    """What the headline number is, in words."""
    headline_accuracy: Fraction
    """The headline number."""
    selected: Scores
    """With the weights of the chosen epoch."""
    last: Scores
    """With the weights of the last epoch."""
    unscored: tuple[str, ...]
    """Clips of the test side that hold no values and were left out."""
    claims: tuple[BesideClaim, ...]
    """The published numbers, ours beside them."""
