"""What a trainer promises: from a task to a run, and from a run to something that scores features."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ascmodels.checkpoint import RunFolder
from ascmodels.data import Feed
from ascmodels.inputs import Input, examples
from ascmodels.normalise import Bands
from ascmodels.sides import Sides
from ascmodels.team import ALONE, Team
from ascmodels.watching import Watcher
from ascschemas.base import Frozen
from ascschemas.problems import RunError
from ascschemas.run import Finished, Progress, RunData
from ascschemas.training import TrainingRecipe

Scorer = Callable[[Sequence[Tensor]], Tensor]
"""Whole clips as each store holds them, ``(B, *layout.shape)`` -> class probabilities ``(B, K)`` on the CPU, float32,
rows that sum to 1."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything that training needs; nothing of it is global."""

    recipe: TrainingRecipe
    """What to do, every default written out."""
    inputs: tuple[Input, ...]
    """What is seen of a clip of each store."""
    data: RunData
    """Which stores, split and classes."""
    sides: Sides
    """The clips."""
    feed: Feed
    """Where batches come from."""
    statistics: tuple[tuple[Bands, Bands], ...]
    """Of each store, mean and deviation per band over the training side."""
    device: torch.device
    """Where to compute."""
    folder: RunFolder
    """Where checkpoints go, open for writing."""
    team: Team = ALONE
    """The processes that train together; the one that leads writes."""
    watch: Watcher = field(default_factory=Watcher)
    """Who is told."""

    @property
    def examples(self) -> int:
        """Examples that a clip gives: its patches, or one."""
        return examples(self.inputs)

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return math.ceil(len(self.sides.train) * self.examples / self.recipe.batch_size)


class Trainer(Frozen, ABC):
    """A way to train: a frozen, closed pydantic model whose fields are its options.

    Register the class in the entry-point table ``ascmodels.trainers``; ``ascmodels.testing.trainers`` holds the tests
    that it must pass.
    """

    reads_once: ClassVar[bool] = False
    """Whether features are asked for once or never: then ``auto`` does not bring them into memory first."""

    @abstractmethod
    def fit(self, task: Task) -> Finished:
        """Train from where the run folder stands to the end, publishing a checkpoint after each epoch.

        Raises
        ------
        RunError
            When training cannot go on; the last good checkpoint is kept.
        """

    @abstractmethod
    def scorer(self, folder: RunFolder, epoch: int, device: torch.device) -> Scorer:
        """What a published epoch of a run has learnt; it needs the run folder and nothing else."""


def publish(task: Task, progress: Progress, write: Callable[[Path], None]) -> None:
    """Publish a checkpoint, by the process that leads, as ``RunFolder.publish``; the others go on once it is there.

    Raises
    ------
    RunError
        When the disk refuses, in every process.
    """
    problem = None
    if task.team.leads:
        try:
            task.folder.publish(progress, write)
        except RunError as error:
            problem = error
    if task.team.said(problem is not None):
        raise problem or RunError("The process that leads could not write its checkpoint.", todo="See what it says.")


def finish(task: Task, progress: Progress) -> Finished:
    """The end of a run, written down by the process that leads."""
    done = Finished(
        last=progress.epoch,
        selected=progress.selected,
        stopped="epochs" if progress.epoch == task.recipe.epochs else "early_stopping",
    )
    return task.folder.finish(done) if task.team.leads else done
