"""What a trainer promises: from a task to a run, and from a run to something that scores features."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
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
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """What the network starts from, by the keys of its state dict; what is not there is drawn."""
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
    def epochs(self) -> int:
        """Epochs until training ends, the last of which may be a short one."""
        by_steps = math.ceil(self.recipe.iterations / self.batches()) if self.recipe.iterations else None
        return min(limit for limit in (self.recipe.epochs, by_steps) if limit is not None)

    def examples_of(self, epoch: int = 1) -> int:
        """Examples of an epoch, counted from 1: of all training clips, or what is left of the iterations."""
        whole = len(self.sides.train) * self.examples
        if self.recipe.iterations is None:
            return whole
        size = self.recipe.batch_size
        left = self.recipe.iterations - (epoch - 1) * math.ceil(whole / size)
        return min(whole, max(0, left) * size)

    def batches(self, epoch: int = 1) -> int:
        """Batches of an epoch, counted from 1."""
        return math.ceil(self.examples_of(epoch) / self.recipe.batch_size)


class Trainer(Frozen, ABC):
    """A way to train: a frozen, closed pydantic model whose fields are its options.

    Register the class in the entry-point table ``ascmodels.trainers``; ``ascmodels.testing.trainers`` holds the tests
    that it must pass.
    """

    reads_once: ClassVar[bool] = False
    """Whether features are asked for once or never: then ``auto`` does not bring them into memory first."""
    starts_from_weights: ClassVar[bool] = False
    """Whether it starts its network from ``task.weights``: where it does not, ``--init`` is refused."""
    takes_tags: ClassVar[bool] = False
    """Whether it trains clips with several tags: where it does not, the binary cross-entropy is refused."""

    def require(self, recipe: TrainingRecipe, device: torch.device) -> None:
        """Refuse what cannot be trained whatever the features are; and import what fitting needs.

        It is asked before anything is read or written; by default nothing is refused.

        Raises
        ------
        RecipeError, RunError
            When recipe, device and trainer do not go together, or a package is not installed.
        """

    @abstractmethod
    def fit(self, task: Task) -> Finished:
        """Train from where the run folder stands to the end, publishing a checkpoint after each epoch.

        Raises
        ------
        RunError
            When training cannot go on; the last good checkpoint is kept.
        """

    def words(self, folder: RunFolder, epoch: int) -> str:
        """What a report says of how an epoch classifies, as a sentence; nothing where the recipe says it all."""
        return ""

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
        stopped="epochs" if progress.epoch >= task.epochs else "early_stopping",
    )
    return task.folder.finish(done) if task.team.leads else done
