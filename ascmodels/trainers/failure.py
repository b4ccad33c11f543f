"""Why training cannot go on, in four parts."""

from __future__ import annotations

import torch

from ascmodels.data import Batch
from ascmodels.trainers.base import Task
from ascschemas.problems import Difference, RunError, StoreError
from ascschemas.run import Progress


def not_finite(task: Task, progress: Progress, where: str, loss: float, batch: Batch | None = None) -> RunError:
    """A loss that is NaN or infinite: the features' fault if they are not finite themselves, else the step's."""
    bad = _damaged(batch) if batch else []
    rows = [Difference(field="loss", expected="a finite number", found=str(loss))]
    rows += [
        Difference(field=task.feed.source.ids[c], expected="finite features", found="NaN or infinity") for c in bad[:3]
    ]
    lower = f"--set optimiser.lr={task.recipe.optimiser.lr / 10:g}"
    todo = f"Lower the learning rate, such as {lower}, and train into a new folder."
    return RunError(
        f"Training in {task.folder.path} has diverged in {where}. {kept(progress)}",
        differences=rows,
        todo=f"{stores(task)} is damaged: see `ascfeat verify`, then `ascfeat repair`." if bad else todo,
    )


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Whether memory was refused: torch has an error of its own for it on GPUs only."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(said in str(error) for said in ("allocate memory", "out of memory", "can't start new thread"))


def out_of_memory(task: Task, progress: Progress) -> RunError:
    """A device whose memory does not hold a batch."""
    size = task.recipe.batch_size
    return RunError(
        f"A batch of {size} clips does not fit into the memory of {task.device}. {kept(progress)}",
        todo=f"Train with --set batch_size={max(1, size // 2)} into a new folder, or on a larger device.",
    )


def store_gone(task: Task, progress: Progress, error: StoreError | OSError) -> RunError:
    """Features that do not read while training: the store was removed, written anew or damaged, or a mount is gone."""
    return RunError(
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
