"""The trainer ``coded_svm``: gradient descent as ``supervised`` does it, and a support vector machine on the codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.devices import repeatable
from ascmodels.margins import Machine, Vectors
from ascmodels.normalise import Model
from ascmodels.randomness import torch_seeded
from ascmodels.selection import after, stale
from ascmodels.source import Clips
from ascmodels.trainers.base import Scorer, Task
from ascmodels.trainers.failure import not_finite
from ascmodels.trainers.networks import Sums, trained
from ascmodels.trainers.supervised import Parts, Supervised
from ascmodels.trainers.svm import (
    ClipVectors,
    Kernel,
    Price,
    calibrated,
    kernel_machine,
    loss_and_accuracy,
    require_memory,
    require_one_process,
    require_scikit_learn,
)
from ascmodels.weights import MACHINE, read_weights, save_weights
from ascschemas.problems import Difference, RecipeError, RunError
from ascschemas.run import EpochRecord, Finished, Progress
from ascschemas.training import TrainingRecipe
from ascschemas.units import Positive, Size


class CodedSvm(Supervised):
    """A network trained by its own loss, and a support vector machine fitted to what its last layer sees.

    After an epoch, one scikit-learn ``SVC`` of each kernel is fitted to the codes of the training clips: whole clips,
    not augmented, the network in evaluation mode and in full precision, codes as they are. The one that classifies
    more of the watched side is what the epoch has learnt, the first of equals; the first of ``kernels`` where nothing
    is watched. It decides which epoch is selected, scores, and is kept as numbers beside the network. Its probabilities
    are calibrated as those of the trainer ``svm`` are; where no validation side is held off, on training clips that
    only the machine has not seen.

    Any family will do whose networks have ``codes``. The rest is as in ``supervised``: the same draws, steps and bits.

    References
    ----------
    Jung, Shim, Kim, Kim, Yu, *Acoustic Scene Classification using Audio Tagging*, Interspeech 2020, Section 4: two
    kernels, the better one is reported.
    """

    takes_tags = False

    channels_last: bool = False
    """Keep maps as ``(B, F, T, C)`` in memory; of no use to waveforms."""
    kernels: Annotated[tuple[Kernel, ...], Field(min_length=1)] = ("rbf", "sigmoid")
    """Kernels that are tried: ``rbf``, ``exp(-gamma |z - z'|^2)``; ``sigmoid``, ``tanh(gamma z . z')``."""
    c: Price = 1.0
    """Price of a clip on the wrong side of its margin."""
    gamma: Positive | Literal["scale"] = "scale"
    """How near codes must be to be alike; ``scale`` is 1 / (length * variance of all values)."""
    svm_every: Size = 1
    """Machines are fitted every so many epochs, and after the last; only such epochs are watched, and can be
    selected."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len({*self.kernels}) < len(self.kernels):
            raise ValueError("name each of kernels once")
        return self

    def require(self, recipe: TrainingRecipe, device: torch.device) -> None:
        """Refuse what ``supervised`` refuses, tags to learn, several processes, and where scikit-learn is missing."""
        super().require(recipe, device)
        require_one_process(recipe)
        require_scikit_learn(recipe)

    def fit(self, task: Task) -> Finished:
        """Train to the last epoch, or until early stopping."""
        _require_whole_clips(task)
        less = "Train with fewer clips, or use a machine of more memory."
        require_memory(task, _code_length(task), self.kernels[0], less=less)
        return super().fit(task)

    def scorer(self, folder: RunFolder, epoch: int, device: torch.device) -> Scorer:
        """The network's codes and the machine in float64; scikit-learn is not needed."""
        machine = Machine(self._numbers(folder, epoch)).to(device)
        model = trained(folder, epoch, device, channels_last=self.channels_last)

        def score(features: Sequence[Tensor]) -> Tensor:
            with torch.inference_mode(), repeatable():
                likely: Tensor = machine(_codes(model, [x.to(device) for x in features]))
                return likely.float().cpu()

        return score

    def words(self, folder: RunFolder, epoch: int) -> str:
        """Which kernel an epoch was scored with."""
        kernel = Machine(self._numbers(folder, epoch)).kernel
        return f"Classified by a support vector machine ({kernel}) on the network's codes."

    def judged(self, task: Task, parts: Parts, progress: Progress, epoch: int) -> tuple[Sums, Callable[[Path], None]]:
        """The better machine on the watched side, saved beside the network; of some epochs, none."""
        if not self._is_due(task, progress, epoch):
            return Sums(), parts.save
        watched = task.sides.watched(task.recipe)
        vectors = self._vectors(task, parts.model, np.unique(np.concatenate([task.sides.train, watched])))
        if not np.isfinite(vectors.values).all():
            raise not_finite(task, progress, f"epoch {epoch}, in the codes", float("nan"))
        machine = self._better(task, vectors, epoch)
        loss, accuracy = loss_and_accuracy(machine, vectors, watched)
        n = len(watched)

        def save(folder: Path) -> None:
            parts.save(folder)
            save_weights(folder, machine, MACHINE)

        return Sums(n, loss * n, accuracy * n), save

    def _better(self, task: Task, vectors: ClipVectors, epoch: int) -> Machine:
        """The calibrated machine of the kernel that is right of more watched clips."""
        watched = task.sides.watched(task.recipe)
        tried: Mapping[Kernel, Machine] = {
            kernel: self._fitted(vectors, task.sides.train, kernel)
            for kernel in (self.kernels if len(watched) else self.kernels[:1])
        }
        right = {kernel: loss_and_accuracy(machine, vectors, watched)[1] for kernel, machine in tried.items()}
        kept = max(tried, key=right.__getitem__)  # the first of equals
        if len(watched):
            said = ", ".join(f"{kernel} {share:.2%}" for kernel, share in right.items())
            task.watch.note(f"Epoch {epoch}, watched side by kernel: {said}; {kept} is kept.")
        return calibrated(task, vectors, tried[kept], lambda clips: self._fitted(vectors, clips, kept))

    def _fitted(self, vectors: ClipVectors, clips: Clips, kernel: Kernel) -> Machine:
        return kernel_machine(vectors.of(clips), vectors.targets(clips), kernel, c=self.c, gamma=self.gamma)

    def _vectors(self, task: Task, model: Model, clips: Clips) -> ClipVectors:
        """Codes of clips in store order."""
        model.eval()
        with torch.inference_mode():
            batches = task.feed.in_order(clips, task.recipe.batch_size)
            values: Vectors = torch.cat([_codes(model, batch.features).cpu() for batch in batches]).numpy()
        return ClipVectors(clips, values, task.feed.targets)

    def _is_due(self, task: Task, progress: Progress, epoch: int) -> bool:
        """Whether machines are fitted after an epoch: every so often, and where training ends."""
        if epoch % self.svm_every == 0 or epoch >= task.epochs:
            return True
        row = EpochRecord(epoch=epoch, loss=0, accuracy=0, lr=0, seconds=0, clips_per_second=0)
        return stale(after(progress, row, task.recipe), task.recipe)

    def _numbers(self, folder: RunFolder, epoch: int) -> Mapping[str, Tensor]:
        """The machine of an epoch.

        Raises
        ------
        RunError
            When none was fitted after it.
        """
        if (folder.checkpoint(epoch) / MACHINE).exists() or (folder.finished and epoch == folder.finished.last):
            return read_weights(folder.checkpoint(epoch), MACHINE)
        raise RunError(
            f"No support vector machine was fitted after epoch {epoch} of {folder.path}.",
            differences=[
                Difference(field="epochs with one", expected=str(epoch), found=f"every {self.svm_every}, and the last")
            ],
            todo="Let training go on, with --resume: the last epoch has one.",
        )


def _codes(model: Model, features: Sequence[Tensor]) -> Tensor:
    """Codes ``(B, D)`` of clips as they are stored, float64."""
    found: Tensor = model.network.codes(*model.normalised(features))  # type: ignore[operator]
    return found.double()


def _require_whole_clips(task: Task) -> None:
    """Refuse patches: a machine sees one code a clip.

    Raises
    ------
    RecipeError
        With how many there are.
    """
    if task.examples > 1:
        raise RecipeError(
            "The trainer coded_svm fits one code a clip, and these clips are cut into patches.",
            differences=[Difference(field="patches of a clip", expected="1", found=str(task.examples))],
            todo="Choose a feature recipe without patches, or --trainer supervised.",
        )


def _code_length(task: Task) -> int:
    """Numbers in a clip's code.

    Raises
    ------
    RecipeError
        When the networks of the recipe's family offer no codes.
    """
    recipe, seen = task.recipe, tuple(i.seen for i in task.inputs)
    with torch_seeded(recipe.seed, "weights", device=torch.device("cpu")):
        network = recipes.family(recipe).build(seen, len(task.data.classes)).eval()
    if not callable(getattr(network, "codes", None)):
        raise RecipeError(
            "The trainer coded_svm fits a machine to a network's codes, and these networks offer none.",
            differences=[
                Difference(field="family.kind", expected="one whose networks have codes", found=recipe.family.kind)
            ],
            todo="Choose another family, such as waveform_tag_resnet, or --trainer supervised.",
        )
    with torch.inference_mode():
        codes: Tensor = network.codes(*(torch.zeros(1, *layout.shape) for layout in seen))  # type: ignore[operator]
    return codes.shape[1]
