"""Why training cannot go on, in four parts."""

from __future__ import annotations

import torch

from ascmodels.data import Batch
from ascmodels.trainers.base import Task
from ascschemas.problems import Difference, ProcessError, RunError, StoreError
from ascschemas.run import Progress
from ascschemas.training import TrainingRecipe


def not_finite(task: Task, progress: Progress, where: str, loss: float, batch: Batch | None = None) -> RunError:
    """A loss that is NaN or infinite: the features' fault if they are not finite themselves, else the step's."""
    bad = _damaged(batch) if batch else []
    rows = [Difference(field="loss", expected="a finite number", found=str(loss))]
    rows += [
        Difference(field=task.feed.source.ids[c], expected="finite features", found="NaN or infinity") for c in bad[:3]
    ]
    optim = task.recipe.optimiser
    lower = f"--set optimiser.lr={min(optim.lr / 10, type(optim)().lr):g}"  # far above the usual, the usual
    todo = f"Lower the learning rate, such as {lower}, and train into a new folder."
    return RunError(
        f"Training in {task.folder.path} has diverged in {where}. {kept(progress)}",
        differences=rows,
        todo=f"{stores(task)} is damaged: see `ascfeat verify`, then `ascfeat repair`." if bad else todo,
    )


REFUSED = (
    "allocate memory",
    "out of memory",
    "can't start new thread",
    "could not create a primitive",
    "bad_alloc",
    "size calculation overflowed",
)
"""What torch, oneDNN, C++ and Python say when memory is refused."""
PARTS = 8
"""How much less memory the advice asks for at once: it should be followed once."""


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Whether memory was refused: torch has an error of its own for it on GPUs only."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(said in str(error) for said in REFUSED)


def out_of_memory(task: Task, progress: Progress) -> ProcessError:
    """A device whose memory does not hold a batch."""
    size, seen = task.recipe.batch_size, "patches" if task.examples > 1 else "clips"
    return ProcessError(
        f"A batch of {size} {seen} does not fit into the memory of {task.device}. {kept(progress)}",
        todo=f"{_less_at_once(task.recipe)} Or train on a larger device.",
    )


def _less_at_once(recipe: TrainingRecipe) -> str:
    size, parts = recipe.batch_size, recipe.trainer.values().get("accumulate")
    if not isinstance(parts, int):
        return f"Train with --set batch_size={max(1, size // PARTS)} into a new folder."
    if parts >= size:
        return "Not even one at a time does: take a smaller network or shorter features."
    more = min(size, parts * PARTS)
    each = -(-size // more)
    return (
        f"Train with --set trainer.accumulate={more} into a new folder: the same batches, computed {each} at a time, "
        "each part with its own batch statistics; fewer parts are faster where they fit."
    )


def store_gone(task: Task, progress: Progress, error: StoreError | OSError) -> ProcessError:
    """Features that do not read while training: the store was removed, written anew or damaged, or a mount is gone."""
    return ProcessError(
        f"Training in {task.folder.path} cannot go on: its features do not read. {kept(progress)}",
        differences=[Difference(field=stores(task), expected="features", found=str(error).splitlines()[0])],
        todo=f"See to `ascfeat verify {task.data.stores[0].path}`, then run the same command again with --resume; "
        "a store that was made anew from other recordings is trained into a new folder.",
    )


def _damaged(batch: Batch) -> list[int]:
    """Clips of a batch whose own features are not finite."""
    finite = torch.stack([x.flatten(1).isfinite().all(dim=1) for x in batch.features]).all(dim=0)
    return sorted({int(c) for c in batch.clips[~finite.cpu().numpy()]})


def stores(task: Task) -> str:
    """Where the features lie."""
    return " or ".join(s.path for s in task.data.stores)


def kept(progress: Progress) -> str:
    """Which checkpoint there is."""
    return f"The checkpoint of epoch {progress.epoch} is kept." if progress.epoch else "No epoch had finished."
