"""What Lightning iterates over: the parts of an epoch's batches, and the watched side; nothing is copied."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from ascmodels.augment import Features
from ascmodels.data import Batch
from ascmodels.normalise import Model
from ascmodels.trainers.base import Task
from ascmodels.trainers.failure import store_gone
from ascmodels.trainers.networks import order_of, prepared
from ascschemas.problems import StoreError
from ascschemas.run import Progress


@dataclass(frozen=True)
class Part:
    """Some clips of a training batch, as the network sees them."""

    x: Features
    """Network input of this process's clips, ``(b, ...)``; none where there are fewer clips than processes."""
    y: Tensor
    """Labels, ``(b, K)``."""
    batch: Batch
    """The whole batch, of all parts and processes."""
    number: int
    """Number of the batch in its epoch, counted from 1."""
    last: bool
    """Whether the batch ends with it."""


class Parts:
    """The parts of the batches of the coming epoch, as an iterable that knows its length.

    Parameters
    ----------
    task : Task
        What to train.
    model : Model
        Whose normalisation features go through.
    most : int
        Parts that a batch is computed in.
    progress : callable
        How far the run has come; asked when an epoch's first part is.
    """

    def __init__(self, task: Task, model: Model, most: int, progress: Callable[[], Progress]) -> None:
        self.task, self.model, self.progress = task, model, progress
        self.most = min(most, math.ceil(task.recipe.batch_size / task.team.size))
        self._open: Generator[Part, None, None] | None = None

    def __iter__(self) -> Iterator[Part]:
        self._open = self._parts()
        return self._open

    def __len__(self) -> int:
        examples = self.task.examples_of(self.progress().epoch + 1)
        whole, rest = divmod(examples, self.task.recipe.batch_size)
        return whole * self.most + (self._of(rest) if rest else 0)

    def close(self) -> None:
        """Let go of the features of an epoch that was not finished."""
        if self._open is not None:
            self._open.close()

    def _parts(self) -> Generator[Part, None, None]:
        task, progress = self.task, self.progress()
        epoch = progress.epoch + 1
        try:
            batches = task.feed.batches(order_of(task, epoch), task.recipe.batch_size)
            with closing(batches):  # type: ignore[type-var]  # a generator
                for number, batch in enumerate(batches, start=1):
                    yield from self._cut(*prepared(task, self.model, batch, epoch, number), batch, number)
        except (StoreError, OSError) as error:
            raise store_gone(task, progress, error) from error

    def _cut(self, x: Features, y: Tensor, batch: Batch, number: int) -> Iterator[Part]:
        share, count = self.task.team.share, self._of(len(y))
        pieces = zip(*(torch.tensor_split(share(rows), count) for rows in (y, *x)), strict=True)
        for i, (wanted, *some) in enumerate(pieces, start=1):
            yield Part(tuple(some), wanted, batch, number, last=i == count)

    def _of(self, clips: int) -> int:
        """Parts of a batch: no more than the process with most clips has clips."""
        return min(self.most, math.ceil(clips / self.task.team.size))


class Watched:
    """The batches of the watched side, as an iterable that knows its length.

    Parameters
    ----------
    task : Task
        What to train.
    progress : callable
        How far the run has come.
    """

    def __init__(self, task: Task, progress: Callable[[], Progress]) -> None:
        self.task, self.progress, self.clips = task, progress, task.sides.watched(task.recipe)

    def __iter__(self) -> Iterator[Batch]:
        try:
            yield from self.task.feed.in_order(self.clips, self.task.recipe.batch_size)
        except (StoreError, OSError) as error:
            raise store_gone(self.task, self.progress(), error) from error

    def __len__(self) -> int:
        return math.ceil(len(self.clips) / self.task.recipe.batch_size)
