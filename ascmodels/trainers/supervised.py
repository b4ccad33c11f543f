"""The trainer ``supervised``: a written-out torch loop from batches to weights, repeatable and resumable."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ascmodels import recipes
from ascmodels.augment import augment
from ascmodels.checkpoint import RunFolder
from ascmodels.data import Batch
from ascmodels.descent import Descent, Precision, autocast_for, grad_scaler
from ascmodels.devices import repeatable
from ascmodels.normalise import Bands, Model, Normaliser, identity
from ascmodels.objectives import objective, probabilities
from ascmodels.optimisers import Schedule, optimiser, schedule
from ascmodels.order import shuffled
from ascmodels.randomness import generator, torch_seeded
from ascmodels.selection import after, monitored, stale
from ascmodels.trainers.base import Scorer, Task, Trainer, finish, publish
from ascmodels.trainers.failure import is_out_of_memory, not_finite, out_of_memory, store_gone
from ascmodels.watching import Moment
from ascmodels.weights import load_state, load_weights, save_state, save_weights
from ascschemas.layout import Layout
from ascschemas.problems import StoreError
from ascschemas.run import EpochRecord, Finished, Progress
from ascschemas.training import TrainingRecipe
from ascschemas.units import Size


class Supervised(Trainer):
    """Gradient descent on labelled clips.

    Started by ``torchrun``, all processes share each batch, and the steps are those of one process up to the rounding
    of sums. Every random draw comes from ``(seed, epoch)`` or ``(seed, epoch, batch)``, so a resumed run needs no
    generator state and ends, on a CPU with the same number of threads, with the same bits as an uninterrupted one.
    """

    channels_last: bool = True
    """Keep maps as ``(B, F, T, C)`` in memory, which convolutions on CPUs and tensor cores are faster with."""
    precision: Precision = "float32"
    """What convolutions and products are computed in: ``float32``, ``bf16`` or, on a GPU, ``fp16``."""
    accumulate: Size = 1
    """Parts that a batch is computed in, to need less memory; each has its own batch statistics."""
    compile: bool = False
    """Compile the network first (``torch.compile``)."""

    def fit(self, task: Task) -> Finished:
        """Train to the last epoch, or until early stopping."""
        with repeatable():
            parts, progress = self._start(task)
            for epoch in range(progress.epoch + 1, task.recipe.epochs + 1):
                if stale(progress, task.recipe):
                    break
                try:
                    progress = _epoch(task, parts, progress, epoch)
                except (StoreError, OSError) as error:
                    raise store_gone(task, progress, error) from error
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    raise out_of_memory(task, progress) from None
        return finish(task, progress)

    def scorer(self, folder: RunFolder, epoch: int, device: torch.device) -> Scorer:
        """The network of an epoch behind a heated-up softmax, at the temperature it was trained with."""
        model = self._model(folder.recipe, folder.data.header.layout, len(folder.data.classes)).eval()
        load_weights(folder.checkpoint(epoch), model)
        model.to(device)

        def score(features: Tensor) -> Tensor:
            with torch.inference_mode(), repeatable():
                return probabilities(model(features.to(device)), folder.recipe.objective.temperature).cpu()

        return score

    def _start(self, task: Task) -> tuple[_Parts, Progress]:
        model = self._model(task.recipe, task.layout, len(task.data.classes), task.statistics).to(task.device)
        optim = optimiser(task.recipe.optimiser, model.network)
        rate = schedule(task.recipe.schedule, optim, task.recipe.selection)
        parts, progress = _Parts(model, self._descent(task, model.network, optim), rate), task.folder.progress()
        if progress.epoch:
            parts.load(task.folder, progress.epoch)
            task.watch.note(f"Going on after epoch {progress.epoch} of {task.recipe.epochs}.")
        return parts, progress

    def _descent(self, task: Task, network: nn.Module, optim: torch.optim.Optimizer) -> Descent:
        forward = task.team.together(network)
        return Descent(
            network=network,
            forward=torch.compile(forward) if self.compile else forward,
            loss=objective(task.recipe.objective, len(task.data.classes), task.device),
            optimiser=optim,
            autocast=autocast_for(self.precision, task.device),
            scaler=grad_scaler(self.precision, task.device),
            parts=self.accumulate,
            team=task.team,
        )

    def _model(
        self, recipe: TrainingRecipe, layout: Layout, n_classes: int, statistics: tuple[Bands, Bands] | None = None
    ) -> Model:
        """A model with the run's own first weights; ``statistics`` come from its checkpoint where they are left out."""
        with torch_seeded(recipe.seed, "weights", device=torch.device("cpu")):
            network = recipes.family(recipe).build(layout, n_classes)
        model = Model(Normaliser(*(statistics or identity(layout)), timed=layout.timed), network)
        return _channels_last(model) if self.channels_last else model


@dataclass(frozen=True)
class _Parts:
    """What changes while training."""

    model: Model
    descent: Descent
    schedule: Schedule

    def save(self, folder: Path) -> None:
        save_weights(folder, self.model)
        optim, scaler = self.descent.optimiser.state_dict(), self.descent.scaler.state_dict()
        save_state(folder, {"optimiser": optim, "schedule": self.schedule.state_dict(), "scaler": scaler})

    def load(self, folder: RunFolder, epoch: int) -> None:
        state = load_state(folder.checkpoint(epoch))
        load_weights(folder.checkpoint(epoch), self.model)
        self.descent.optimiser.load_state_dict(state["optimiser"])
        self.descent.scaler.load_state_dict(state["scaler"])
        self.schedule.load_state_dict(state["schedule"])


@dataclass(frozen=True)
class _Sums:
    """Sums over the clips of an epoch so far."""

    clips: int = 0
    loss: float = 0.0
    correct: int = 0

    def plus(self, clips: float, loss: float, correct: float) -> _Sums:
        return _Sums(self.clips + int(clips), self.loss + loss, self.correct + int(correct))

    @property
    def means(self) -> tuple[float, float]:
        """Loss and accuracy."""
        return self.loss / self.clips, self.correct / self.clips


def _epoch(task: Task, parts: _Parts, progress: Progress, epoch: int) -> Progress:
    """Train one epoch, score the watched side, publish the checkpoint."""
    start = time.perf_counter()
    lr = float(parts.descent.optimiser.param_groups[0]["lr"])
    sums = _train(task, parts, progress, epoch)
    trained = time.perf_counter() - start
    watched = _score(task, parts)
    if watched and not math.isfinite(watched[0]):
        raise not_finite(task, progress, f"epoch {epoch}, while scoring the watched side", watched[0])
    loss, accuracy = sums.means
    row = EpochRecord(
        epoch=epoch,
        loss=loss,
        accuracy=accuracy,
        watched_loss=watched[0] if watched else None,
        watched_accuracy=watched[1] if watched else None,
        lr=lr,
        seconds=time.perf_counter() - start,
        clips_per_second=sums.clips / trained,
    )
    parts.schedule.after_epoch(monitored(row, task.recipe))
    progress = after(progress, row, task.recipe)
    publish(task, progress, parts.save)
    task.watch.epoch(row, selected=progress.selected == epoch)
    return progress


def _train(task: Task, parts: _Parts, progress: Progress, epoch: int) -> _Sums:
    recipe, sums, start = task.recipe, _Sums(), time.perf_counter()
    draw = generator(recipe.seed, "order", epoch)
    order = shuffled(task.feed.source, task.sides.train, recipe.window_mib, draw)
    batches = math.ceil(len(order) / recipe.batch_size)
    parts.model.train()
    with torch_seeded(recipe.seed, "layers", epoch, device=task.device):
        for number, batch in enumerate(task.feed.batches(order, recipe.batch_size), start=1):
            clips, loss, correct = task.team.total(*_step(task, parts, batch, (epoch, number)))
            if not math.isfinite(loss):
                raise not_finite(task, progress, f"epoch {epoch}, batch {number} of {batches}", loss, batch)
            sums = sums.plus(clips, loss, correct)
            task.watch.batch(_moment(task, sums, epoch, number, batches, time.perf_counter() - start))
    return sums


def _step(task: Task, parts: _Parts, batch: Batch, counters: tuple[int, int]) -> tuple[float, float, float]:
    """One gradient step: normalise, augment, descend; clips, summed loss and right answers of this process."""
    draw = generator(task.recipe.seed, "augmentation", *counters)
    with torch.no_grad():
        x = parts.model.normaliser(batch.features)
        y = _labels(batch.targets, len(task.data.classes))
        x, y = augment(x, y, task.recipe.augmentation, draw)
    loss, logits = parts.descent.step(x, y)
    return len(logits), loss, _right(logits, task.team.share(y))


def _score(task: Task, parts: _Parts) -> tuple[float, float] | None:
    """Loss and accuracy on the watched side, without augmentation; None where nothing is watched."""
    clips, sums = task.sides.watched(task.recipe), _Sums()
    parts.model.eval()
    with torch.inference_mode():
        for batch in task.feed.in_order(clips, task.recipe.batch_size):
            x, targets = task.team.share(batch.features), task.team.share(batch.targets)
            if len(x):
                logits = parts.descent.evaluate(parts.model.normaliser(x))
                labels = _labels(targets, len(task.data.classes))
                sums = sums.plus(len(x), float(parts.descent.loss(logits, labels)) * len(x), _right(logits, labels))
    sums = _Sums().plus(*task.team.total(sums.clips, sums.loss, sums.correct))
    return sums.means if sums.clips else None


def _right(logits: Tensor, labels: Tensor) -> int:
    """Clips whose largest output is their largest label."""
    return int((logits.argmax(1) == labels.argmax(1)).sum())


def _channels_last(model: Model) -> Model:
    laid: Model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid


def _labels(targets: Tensor, n_classes: int) -> Tensor:
    """One-hot labels, ``(B, K)``, float32."""
    return one_hot(targets, n_classes).float()


def _moment(task: Task, sums: _Sums, epoch: int, batch: int, batches: int, seconds: float) -> Moment:
    loss, accuracy = sums.means
    to_go = batches - batch + (task.recipe.epochs - epoch) * batches
    return Moment(
        epoch=epoch,
        epochs=task.recipe.epochs,
        batch=batch,
        batches=batches,
        loss=loss,
        accuracy=accuracy,
        clips_per_second=sums.clips / seconds,
        seconds_left=seconds / batch * to_go,
    )
