"""Several runs that decide together: a published ensemble, and the report of a vote."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ascschemas.base import Frozen
from ascschemas.report import Accuracies, BesideClaim, Provenance, Score
from ascschemas.training import Claim
from ascschemas.units import Fraction, Name, Size

Vote = Literal["majority", "mean"]


class Ensemble(Frozen):
    """What a paper says of several of its models together."""

    name: Name
    """Name of the ensemble."""
    title: str
    """The paper, in words."""
    members: Annotated[tuple[Name, ...], Field(min_length=2)]
    """The training recipes of its models."""
    vote: Vote
    """How they decide."""
    claims: tuple[Claim, ...]
    """The published numbers."""


class Voter(Frozen):
    """One run of an ensemble, and what it reaches alone."""

    run: str
    """Its folder."""
    provenance: Provenance
    """What it comes from."""
    epoch: Size
    """The epoch whose weights vote: the selected one."""
    overall: Score
    """All clips of its test side."""
    class_mean: Fraction
    """Mean of its accuracies of classes."""


class Alone(Frozen):
    """One model of an ensemble without the others, over the same clips: a run, or one run of each fold."""

    recipe: Name
    """Name of its training recipe."""
    overall: Score
    """All scored clips pooled."""
    class_mean: Fraction
    """Mean of the classes' accuracies."""


class EnsembleReport(Frozen):
    """The result of ``ascmodels ensemble``."""

    format_version: Literal[1] = 1
    """Version of the report format."""
    vote: Vote
    """``majority``: each run's decision counts one, ties go to the larger sum of probabilities; ``mean``: of those."""
    dataset: Name
    """Name of the dataset."""
    dataset_kind: str
    """Its loader in ``ascfeat.datasets``."""
    split: Name
    """The split; ``location5`` where the runs of five folds are pooled."""
    headline: str
    """What the headline number is, in words."""
    headline_accuracy: Fraction
    """The headline number."""
    scores: Accuracies
    """Of the runs together."""
    models: tuple[Alone, ...]
    """Each model alone."""
    voters: tuple[Voter, ...]
    """Each run, with its own test side."""
    unscored: tuple[str, ...]
    """Clips of the test side that hold no values and were left out."""
    published: str = ""
    """The published ensemble whose recipes these are; empty where there is none."""
    claims: tuple[BesideClaim, ...] = ()
    """Its numbers, ours beside them."""
