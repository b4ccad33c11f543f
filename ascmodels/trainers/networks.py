"""What trainers of networks share: the model of a recipe, its scorer, a batch ready for a step, and running sums."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ascmodels import recipes
from ascmodels.augment import augment
from ascmodels.checkpoint import RunFolder
from ascmodels.data import Batch
from ascmodels.devices import repeatable
from ascmodels.normalise import Bands, Model, Normaliser, identity
from ascmodels.objectives import probabilities
from ascmodels.order import Order, shuffled
from ascmodels.randomness import generator, torch_seeded
from ascmodels.sampling import sampled
from ascmodels.trainers.base import Scorer, Task
from ascmodels.watching import Moment
from ascmodels.weights import load_weights
from ascschemas.layout import Layout
from ascschemas.run import EpochRecord
from ascschemas.training import TrainingRecipe


@dataclass(frozen=True)
class Sums:
    """Sums over the clips of an epoch so far."""

    clips: int = 0
    loss: float = 0.0
    correct: int = 0

    def plus(self, clips: float, loss: float, correct: float) -> Sums:
        """With some clips more: how many, the sum of their losses, how many of them are right."""
        return Sums(self.clips + int(clips), self.loss + loss, self.correct + int(correct))

    @property
    def means(self) -> tuple[float, float]:
        """Loss and accuracy."""
        return self.loss / self.clips, self.correct / self.clips


def model_of(
    recipe: TrainingRecipe,
    layout: Layout,
    n_classes: int,
    statistics: tuple[Bands, Bands] | None = None,
    *,
    channels_last: bool,
) -> Model:
    """A model with the run's own first weights; ``statistics`` come from its checkpoint where they are left out."""
    with torch_seeded(recipe.seed, "weights", device=torch.device("cpu")):
        network = recipes.family(recipe).build(layout, n_classes)
    model = Model(Normaliser(*(statistics or identity(layout)), timed=layout.timed), network)
    return _channels_last(model) if channels_last else model


def scorer_of(folder: RunFolder, epoch: int, device: torch.device, *, channels_last: bool) -> Scorer:
    """The network of an epoch behind a heated-up softmax, at the temperature it was trained with."""
    layout, n_classes = folder.data.header.layout, len(folder.data.classes)
    model = model_of(folder.recipe, layout, n_classes, channels_last=channels_last).eval()
    load_weights(folder.checkpoint(epoch), model)
    model.to(device)

    def score(features: Tensor) -> Tensor:
        with torch.inference_mode(), repeatable():
            return probabilities(model(features.to(device)), folder.recipe.objective.temperature).cpu()

    return score


def order_of(task: Task, epoch: int) -> Order:
    """The clips of an epoch as the recipe's sampler takes them, in its order."""
    recipe, source = task.recipe, task.feed.source
    draw = generator(recipe.seed, "order", epoch)
    return shuffled(source, sampled(source, task.sides.train, recipe.sampler, draw), recipe.window_mib, draw)


def prepared(task: Task, model: Model, batch: Batch, epoch: int, number: int) -> tuple[Tensor, Tensor]:
    """Network input and labels of a training batch: normalised, then augmented by draws of its own."""
    draw = generator(task.recipe.seed, "augmentation", epoch, number)
    with torch.no_grad():
        x = model.normaliser(batch.features)
        return augment(x, labels(batch.targets, len(task.data.classes)), task.recipe.augmentation, draw)


def labels(targets: Tensor, n_classes: int) -> Tensor:
    """One-hot labels, ``(B, K)``, float32."""
    return one_hot(targets, n_classes).float()


def right(logits: Tensor, wanted: Tensor) -> int:
    """Clips whose largest output is their largest label."""
    return int((logits.argmax(1) == wanted.argmax(1)).sum())


def record(epoch: int, trained: Sums, watched: Sums, *, lr: float, start: float, seconds: float) -> EpochRecord:
    """What is written down of an epoch that began at ``start`` (``time.perf_counter``) and trained for ``seconds``."""
    loss, accuracy = trained.means
    watched_loss, watched_accuracy = watched.means if watched.clips else (None, None)
    return EpochRecord(
        epoch=epoch,
        loss=loss,
        accuracy=accuracy,
        watched_loss=watched_loss,
        watched_accuracy=watched_accuracy,
        lr=lr,
        seconds=time.perf_counter() - start,
        clips_per_second=trained.clips / seconds,
    )


def moment(task: Task, sums: Sums, epoch: int, batch: int, seconds: float) -> Moment:
    """Where training is after a batch of an epoch that has taken so many seconds."""
    loss, accuracy = sums.means
    batches = math.ceil(len(task.sides.train) / task.recipe.batch_size)
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


def _channels_last(model: Model) -> Model:
    laid: Model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid
