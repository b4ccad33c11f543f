"""What trainers of networks share: the model of a recipe, its scorer, a batch ready for a step, and running sums."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ascmodels import recipes
from ascmodels.augment import Features, augment
from ascmodels.checkpoint import RunFolder
from ascmodels.data import Batch
from ascmodels.devices import repeatable
from ascmodels.inputs import Input
from ascmodels.normalise import Bands, Model, Normaliser, identity
from ascmodels.objectives import Loss, probabilities
from ascmodels.order import Order, shuffled
from ascmodels.randomness import generator, torch_seeded
from ascmodels.sampling import sampled
from ascmodels.sides import second_head
from ascmodels.tagging import by_head, ranked
from ascmodels.trainers.base import Scorer, Task
from ascmodels.voting import logits_of_clips, voted
from ascmodels.watching import Moment
from ascmodels.weights import load_weights
from ascschemas.problems import Difference, RecipeError
from ascschemas.run import EpochRecord
from ascschemas.training import TrainingRecipe

NONE: Mapping[str, Tensor] = MappingProxyType({})
"""No given weights."""


@dataclass(frozen=True)
class Sums:
    """Sums over the clips, or patches, of an epoch so far."""

    clips: int = 0
    loss: float = 0.0
    correct: float = 0
    """How many are right; of tags, the sum of their precisions."""
    labels: float = 0
    """What ``correct`` is out of, where it is not the clips: their tags."""

    def plus(self, clips: float, loss: float, correct: float, labels: float = 0) -> Sums:
        """With some clips more: how many, the sum of their losses, how many of them are right, and how many tags."""
        return Sums(self.clips + int(clips), self.loss + loss, self.correct + correct, self.labels + labels)

    @property
    def means(self) -> tuple[float, float]:
        """Loss and accuracy, or lwlrap."""
        return self.loss / self.clips, self.correct / (self.labels or self.clips)


def model_of(
    recipe: TrainingRecipe,
    inputs: Sequence[Input],
    n_classes: int,
    statistics: Sequence[tuple[Bands, Bands]] = (),
    *,
    channels_last: bool,
    weights: Mapping[str, Tensor] = NONE,
) -> Model:
    """A model with the run's own first weights, or given ones; a checkpoint brings statistics that are left out."""
    with torch_seeded(recipe.seed, "weights", device=torch.device("cpu")):
        network = recipes.family(recipe).build(tuple(i.seen for i in inputs), n_classes)
    network.load_state_dict({**network.state_dict(), **weights})
    found = statistics or [identity(i) for i in inputs]
    model = Model([Normaliser(i, *bands) for i, bands in zip(inputs, found, strict=True)], network)
    return _channels_last(model) if channels_last else model


def scorer_of(folder: RunFolder, epoch: int, device: torch.device, *, channels_last: bool) -> Scorer:
    """The network of an epoch behind the softmax that it was trained with, at that temperature, or sigmoids."""
    inputs, recipe = [Input.of(store.header) for store in folder.data.stores], folder.recipe
    model = trained(folder, epoch, device, channels_last=channels_last)

    def score(features: Sequence[Tensor]) -> Tensor:
        with torch.inference_mode(), repeatable():
            there = [x.to(device) for x in features]
            logits = logits_of_clips(lambda x: model(*x), inputs, there)
            return voted(probabilities(logits, recipe.objective), _vote(recipe)).cpu()

    return score


def trained(folder: RunFolder, epoch: int, device: torch.device, *, channels_last: bool) -> Model:
    """The model of an epoch, ready to score."""
    inputs = [Input.of(store.header) for store in folder.data.stores]
    model = model_of(folder.recipe, inputs, len(folder.data.classes), channels_last=channels_last).eval()
    load_weights(folder.checkpoint(epoch), model)
    return model.to(device)


def order_of(task: Task, epoch: int) -> Order:
    """The clips of an epoch as the recipe's sampler takes them, in its order."""
    recipe, source = task.recipe, task.feed.source
    draw = generator(recipe.seed, "order", epoch)
    whole = shuffled(source, sampled(source, task.sides.train, recipe.sampler, draw), recipe.window_mib, draw)
    return whole.first(task.examples_of(epoch))


def prepared(task: Task, model: Model, batch: Batch, epoch: int, number: int) -> tuple[Features, Tensor]:
    """Network input and labels of a training batch: normalised, then augmented by draws of its own."""
    draw = generator(task.recipe.seed, "augmentation", epoch, number)
    with torch.no_grad():
        x = model.normalised(batch.features)
        return augment(x, taught(task, batch), task.recipe.augmentation, draw, epoch)


def taught(task: Task, batch: Batch) -> Tensor:
    """Labels of a training batch, ``(B, K)``; of two heads what each of them learns, ``(B, 2, K + 1)``."""
    wanted = labels(batch.targets, len(task.data.classes))
    second = second_head(task.recipe)
    if second is None:
        return wanted
    devices = task.feed.source.devices
    own = torch.tensor([devices[c] == second for c in batch.clips], device=wanted.device)
    return by_head(wanted, own)


def labels(targets: Tensor, n_classes: int) -> Tensor:
    """One-hot labels of class numbers, ``(B, K)``, float32; rows of tags as they are."""
    return targets if targets.dim() == 2 else one_hot(targets, n_classes).float()


def scored(
    task: Task, model: Model, network: Callable[[Features], Tensor], loss: Loss, batch: Batch
) -> tuple[int, float, float, float]:
    """Of this process's share of some whole clips: how many, the sum of their losses, and :func:`marks` by vote.

    Parameters
    ----------
    task : Task
        What is trained.
    model : Model
        Whose normalisation features go through.
    network : callable
        Normalised features of examples to logits ``(B, K)``, float32.
    loss : callable
        Mean loss of some logits and labels; of a clip, that of its patches.
    batch : Batch
        Whole clips.
    """
    features, targets = [task.team.share(x) for x in batch.features], task.team.share(batch.targets)
    if not len(targets):
        return 0, 0.0, 0, 0
    wanted = labels(targets, len(task.data.classes))
    logits = logits_of_clips(lambda x: network(model.normalised(x)), task.inputs, features)
    mean = float(loss(logits.flatten(0, 1), wanted.repeat_interleave(logits.shape[1], dim=0)))
    said = voted(probabilities(logits, task.recipe.objective), _vote(task.recipe))
    return len(targets), mean * len(targets), *marks(task.recipe, said, wanted)


def require_parts(recipe: TrainingRecipe, parts: int) -> None:
    """Refuse more parts than a batch has examples.

    Raises
    ------
    RecipeError
        With both numbers.
    """
    if parts > recipe.batch_size:
        most = f"at most {recipe.batch_size}, the batch_size"
        raise RecipeError(
            "A batch cannot be computed in more parts than it has clips.",
            differences=[Difference(field="trainer.accumulate", expected=most, found=str(parts))],
            todo="Set trainer.accumulate lower, or batch_size higher.",
        )


def right(logits: Tensor, wanted: Tensor) -> int:
    """Clips whose largest output is their largest label."""
    return int((logits.argmax(1) == wanted.argmax(1)).sum())


def marks(recipe: TrainingRecipe, logits: Tensor, wanted: Tensor) -> tuple[float, float]:
    """How many clips are right and 0; or the sum of the precisions of their tags, and how many tags they have."""
    return ranked(logits, wanted) if recipe.tags else (right(logits, wanted), 0)


def _vote(recipe: TrainingRecipe) -> Literal["majority", "mean"]:
    """How the patches of a clip decide: none of several tags has a majority."""
    return "mean" if recipe.tags else recipe.vote


def record(
    task: Task, epoch: int, trained: Sums, watched: Sums, *, lr: float, start: float, seconds: float
) -> EpochRecord:
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
        clips_per_second=trained.clips / task.examples / seconds,
    )


def moment(task: Task, sums: Sums, epoch: int, batch: int, seconds: float) -> Moment:
    """Where training is after a batch of an epoch that has taken so many seconds."""
    loss, accuracy = sums.means
    batches = task.batches(epoch)
    to_go = batches - batch + sum(task.batches(later) for later in range(epoch + 1, task.epochs + 1))
    return Moment(
        epoch=epoch,
        epochs=task.epochs,
        batch=batch,
        batches=batches,
        loss=loss,
        accuracy=accuracy,
        clips_per_second=sums.clips / task.examples / seconds,
        seconds_left=seconds / batch * to_go,
    )


def _channels_last(model: Model) -> Model:
    laid: Model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid
