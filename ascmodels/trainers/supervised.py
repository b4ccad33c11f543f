"""The trainer ``supervised``: a written-out torch loop from batches to weights, repeatable and resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ascmodels.checkpoint import RunFolder
from ascmodels.descent import Descent, Precision, autocast_for, grad_scaler, slow_here
from ascmodels.devices import repeatable
from ascmodels.normalise import Model
from ascmodels.objectives import objective
from ascmodels.optimisers import Schedule, optimiser, schedule
from ascmodels.randomness import torch_seeded
from ascmodels.selection import after, monitored, schedule_monitor, stale
from ascmodels.trainers.base import Scorer, Task, Trainer, finish, publish
from ascmodels.trainers.failure import is_out_of_memory, not_finite, out_of_memory, store_gone
from ascmodels.trainers.networks import (
    Sums,
    marks,
    model_of,
    moment,
    order_of,
    prepared,
    record,
    require_parts,
    scored,
    scorer_of,
)
from ascmodels.weights import load_state, load_weights, save_state, save_weights
from ascschemas.problems import StoreError
from ascschemas.run import Finished, Progress
from ascschemas.training import TrainingRecipe
from ascschemas.units import Size


class Supervised(Trainer):
    """Gradient descent on labelled clips.

    Started by ``torchrun``, all processes share each batch, and the steps are those of one process up to the rounding
    of sums. Every random draw comes from ``(seed, epoch)`` or ``(seed, epoch, batch)``, so a resumed run needs no
    generator state and ends, on a CPU with the same number of threads, with the same bits as an uninterrupted one.
    """

    starts_from_weights = True
    takes_tags = True

    channels_last: bool = True
    """Keep maps as ``(B, F, T, C)`` in memory, which convolutions on CPUs and tensor cores are faster with."""
    precision: Precision = "float32"
    """What convolutions and products are computed in: ``float32``, ``float64``, ``bf16`` or, on a GPU, ``fp16``."""
    accumulate: Size = 1
    """Parts that a batch is computed in, to need less memory; each has its own batch statistics."""
    compile: bool = False
    """Compile the network first (``torch.compile``)."""

    def require(self, recipe: TrainingRecipe, device: torch.device) -> None:
        """Refuse more parts than a batch has examples, and a precision that the device has no arithmetic for."""
        require_parts(recipe, self.accumulate)
        autocast_for(self.precision, device)

    def fit(self, task: Task) -> Finished:
        """Train to the last epoch, or until early stopping."""
        with repeatable():
            parts, progress = self._start(task)
            for epoch in range(progress.epoch + 1, task.epochs + 1):
                if stale(progress, task.recipe):
                    break
                try:
                    progress = self._epoch(task, parts, progress, epoch)
                except (StoreError, OSError) as error:
                    raise store_gone(task, progress, error) from error
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    raise out_of_memory(task, progress) from None
        return finish(task, progress)

    def scorer(self, folder: RunFolder, epoch: int, device: torch.device) -> Scorer:
        """The network of an epoch behind a heated-up softmax, at the temperature it was trained with."""
        return scorer_of(folder, epoch, device, channels_last=self.channels_last)

    def judged(self, task: Task, parts: Parts, progress: Progress, epoch: int) -> tuple[Sums, Callable[[Path], None]]:
        """What an epoch has learnt: sums over the watched side, and what writes it down with the state of training."""
        return _score(task, parts), parts.save

    def _epoch(self, task: Task, parts: Parts, progress: Progress, epoch: int) -> Progress:
        """Train one epoch, score the watched side, publish the checkpoint."""
        start = time.perf_counter()
        lr = float(parts.descent.optimiser.param_groups[0]["lr"])
        sums = _train(task, parts, progress, epoch)
        trained = time.perf_counter() - start
        watched, save = self.judged(task, parts, progress, epoch)
        row = record(task, epoch, sums, watched, lr=lr, start=start, seconds=trained)
        if row.watched_loss is not None and not math.isfinite(row.watched_loss):
            raise not_finite(task, progress, f"epoch {epoch}, while scoring the watched side", row.watched_loss)
        parts.schedule.after_epoch(monitored(row, schedule_monitor(task.recipe)))
        progress = after(progress, row, task.recipe)
        publish(task, progress, save)
        task.watch.epoch(row, selected=progress.selected == epoch)
        return progress

    def _start(self, task: Task) -> tuple[Parts, Progress]:
        if words := slow_here(self.precision, task.device):
            task.watch.note(words)
        classes = len(task.data.classes)
        model = model_of(
            task.recipe,
            task.inputs,
            classes,
            task.statistics,
            channels_last=self.channels_last,
            weights=task.weights,
        )
        model.to(task.device, torch.float64 if self.precision == "float64" else torch.float32)
        optim = optimiser(task.recipe.optimiser, model.network)
        rate = schedule(task.recipe, optim)
        parts, progress = Parts(model, self._descent(task, model.network, optim), rate), task.folder.progress()
        if progress.epoch:
            parts.load(task.folder, progress.epoch)
        return parts, progress

    def _descent(self, task: Task, network: nn.Module, optim: torch.optim.Optimizer) -> Descent:
        forward = task.team.together(network)
        return Descent(
            network=network,
            forward=torch.compile(forward) if self.compile else forward,
            loss=objective(task.recipe.objective, task.data.classes, task.device),
            optimiser=optim,
            autocast=autocast_for(self.precision, task.device),
            scaler=grad_scaler(self.precision, task.device),
            parts=self.accumulate,
            team=task.team,
        )


@dataclass(frozen=True)
class Parts:
    """What changes while training."""

    model: Model
    """The network, behind its normalisation."""
    descent: Descent
    """What makes a step of it."""
    schedule: Schedule
    """How the learning rate goes."""

    def save(self, folder: Path) -> None:
        """Write weights and state."""
        save_weights(folder, self.model)
        optim, scaler = self.descent.optimiser.state_dict(), self.descent.scaler.state_dict()
        save_state(folder, {"optimiser": optim, "schedule": self.schedule.state_dict(), "scaler": scaler})

    def load(self, folder: RunFolder, epoch: int) -> None:
        """Go on from an epoch's."""
        state = load_state(folder.checkpoint(epoch))
        load_weights(folder.checkpoint(epoch), self.model)
        self.descent.optimiser.load_state_dict(state["optimiser"])
        self.descent.scaler.load_state_dict(state["scaler"])
        self.schedule.load_state_dict(state["schedule"])


def _train(task: Task, parts: Parts, progress: Progress, epoch: int) -> Sums:
    recipe, sums, start, order = task.recipe, Sums(), time.perf_counter(), order_of(task, epoch)
    parts.model.train()
    with torch_seeded(recipe.seed, "layers", epoch, device=task.device):
        for number, batch in enumerate(task.feed.batches(order, recipe.batch_size), start=1):
            x, y = prepared(task, parts.model, batch, epoch, number)
            loss, logits = parts.descent.step(x, y)
            parts.schedule.after_step()
            clips, loss, *found = task.team.total(len(logits), loss, *marks(recipe, logits, task.team.share(y)))
            if not math.isfinite(loss):
                raise not_finite(task, progress, f"epoch {epoch}, batch {number} of {task.batches(epoch)}", loss, batch)
            sums = sums.plus(clips, loss, *found)
            task.watch.batch(moment(task, sums, epoch, number, time.perf_counter() - start))
    return sums


def _score(task: Task, parts: Parts) -> Sums:
    """Sums over the watched side, without augmentation; of no clips where nothing is watched."""
    clips, sums = task.sides.watched(task.recipe), Sums()
    parts.model.eval()
    with torch.inference_mode():
        for batch in task.feed.in_order(clips, task.recipe.batch_size):
            sums = sums.plus(*scored(task, parts.model, parts.descent.evaluate, parts.descent.loss, batch))
    return Sums().plus(*task.team.total(sums.clips, sums.loss, sums.correct, sums.labels))
