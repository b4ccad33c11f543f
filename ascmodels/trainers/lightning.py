"""The trainer ``lightning``: the recipes of ``supervised`` through Lightning's Trainer, its loggers and callbacks."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from ascmodels.checkpoint import RunFolder
from ascmodels.descent import Precision, autocast_for, slow_here
from ascmodels.devices import repeatable
from ascmodels.trainers.base import Scorer, Task, Trainer, finish
from ascmodels.trainers.networks import require_parts, scorer_of
from ascschemas.problems import RunError
from ascschemas.run import Finished
from ascschemas.training import TrainingRecipe
from ascschemas.units import Size


class Lightning(Trainer):
    """Gradient descent on labelled clips by ``lightning.pytorch.Trainer``.

    Draws, order, steps and selection are those of ``supervised``, and so are, but for rounding, the weights. What a
    run needs is kept in our checkpoints; Lightning's own are off. Its logs go to ``lightning/`` in the run folder.
    Started by ``torchrun``, all processes share each batch as they do with ``supervised``.
    """

    starts_from_weights = True
    takes_tags = True

    channels_last: bool = True
    """Keep maps as ``(B, F, T, C)`` in memory, which convolutions on CPUs and tensor cores are faster with."""
    precision: Precision = "float32"
    """``float32``, ``bf16`` or, on a GPU, ``fp16``; the last two are Lightning's ``-mixed``."""
    accumulate: Size = 1
    """Parts that a batch is computed in, to need less memory; each has its own batch statistics."""

    def arguments(self, task: Task) -> dict[str, Any]:
        """Arguments for Lightning's Trainer beside those that the recipe decides; a subclass adds what it likes.

        Objects are not options: a run folder could not keep them. So callbacks and loggers are given here, by a
        subclass that has an entry point of its own.

        Returns
        -------
        dict
            Such as ``logger`` (by default a table), ``callbacks``, ``profiler`` or ``gradient_clip_val``.
        """
        return {"logger": _loop().loggers(task.folder.path)}

    def require(self, recipe: TrainingRecipe, device: torch.device) -> None:
        """Refuse what ``supervised`` refuses, and where Lightning is not installed."""
        require_parts(recipe, self.accumulate)
        autocast_for(self.precision, device)
        _loop()

    def fit(self, task: Task) -> Finished:
        """Train to the last epoch, until early stopping, or until a callback stops it."""
        if words := slow_here(self.precision, task.device):
            task.watch.note(words)
        with repeatable():
            return finish(task, _loop().fit(self, task))

    def scorer(self, folder: RunFolder, epoch: int, device: torch.device) -> Scorer:
        """The network of an epoch behind a heated-up softmax; Lightning is not needed."""
        return scorer_of(folder, epoch, device, channels_last=self.channels_last)


def _loop() -> ModuleType:
    """The module that needs Lightning.

    Raises
    ------
    RunError
        When Lightning is not installed.
    """
    try:
        from ascmodels.trainers import lightning_loop
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lightning":
            raise
        raise RunError(
            "The trainer lightning needs the package lightning, which is not installed.",
            todo='Install it with `pip install -c constraints.txt ".[lightning]"`, or take --trainer supervised.',
        ) from None
    return lightning_loop
