"""The trainer ``svm``: a support vector machine on features pooled over time; the door to scikit-learn."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ascmodels import recipes, room
from ascmodels.checkpoint import RunFolder
from ascmodels.families.pooled import Pooled
from ascmodels.joining import Member
from ascmodels.margins import Machine, PooledMachine, Vectors, decided, inverse_temperature, log_softmax
from ascmodels.order import MIB
from ascmodels.pooling import Poolings
from ascmodels.selection import after
from ascmodels.sides import group_of, held_off
from ascmodels.source import Clips
from ascmodels.team import processes
from ascmodels.trainers.base import Scorer, Task, Trainer
from ascmodels.trainers.failure import stores
from ascmodels.weights import read_weights, save_weights
from ascschemas.layout import Layout
from ascschemas.problems import Difference, RecipeError, RunError
from ascschemas.run import EpochRecord, Finished, Progress
from ascschemas.training import TrainingRecipe
from ascschemas.units import Positive

MEMORY_SHARE = 0.8
"""Share of the memory that is free now that fitting may take."""
COPIES = 4
"""How often fitting holds the vectors: pooled, standardised, twice in scikit-learn's own order."""
CALIBRATION = 0.2
"""Share of each class that the temperature is fitted on where there is no validation side."""
Kernel = Literal["rbf", "sigmoid"]
Price = Annotated[Positive, Field(le=1e9)]
"""What a clip on the wrong side of its margin costs: far above this, fitting never ends."""
LINEAR_STEPS = 10_000
"""Steps after which a linear machine is taken as it is."""


class Svm(Trainer):
    """A support vector machine on the vectors of the family ``pooled``, each standardised over the training side.

    ``linear`` is scikit-learn's ``LinearSVC`` (squared hinge, one class against the rest, the primal problem, where
    nothing is drawn at random); ``rbf`` and ``sigmoid`` are its ``SVC`` (one against one). The class is theirs to the
    clip.

    Probabilities are ``softmax(d / T)`` of the decision values ``d``, with one temperature T fitted by likelihood on
    clips that the machine has not seen: the validation side, or, where the recipe holds none off, whole locations held
    off the training side for a second machine that serves only for this (never the test side, even where that selects).
    One number cannot change which class wins, repeats to the bit, and cannot fit a small side by heart, as Platt's two
    numbers per class or pair can.

    Objective, optimiser, schedule, augmentation and ``normalise`` of the recipe are not used: standardised vectors
    are the same with and without ``normalise``. There is one epoch. On a GPU only pooling and scoring run there.
    """

    reads_once = True

    kernel: Literal["linear", "rbf", "sigmoid"] = "rbf"
    """``linear``; ``rbf``: ``exp(-gamma |z - z'|^2)``; or ``sigmoid``: ``tanh(gamma z . z')``."""
    c: Price = 1.0
    """Price of a clip on the wrong side of its margin."""
    gamma: Positive | Literal["scale"] = "scale"
    """How near clips must be to be alike, for ``rbf`` and ``sigmoid``; ``scale`` is 1 / (length * variance of all
    values)."""

    def require(self, recipe: TrainingRecipe, device: torch.device) -> None:
        """Refuse a network, several processes, and where scikit-learn is not installed."""
        _pooled_family(recipe)
        require_one_process(recipe)
        require_scikit_learn(recipe)

    def fit(self, task: Task) -> Finished:
        """Pool, fit, find the temperature; one epoch."""
        if not task.folder.progress().epoch:
            self._fit(task)
        return task.folder.finish(Finished(last=1, selected=1, stopped="epochs"))

    def scorer(self, folder: RunFolder, epoch: int, device: torch.device) -> Scorer:
        """Pooling and machine in float64; scikit-learn is not needed."""
        machine = Machine(read_weights(folder.checkpoint(epoch)))
        layouts = tuple(store.header.layout for store in folder.data.stores)
        whole = PooledMachine(_pooling(folder.recipe, layouts), machine).to(device)

        def score(features: Sequence[Tensor]) -> Tensor:
            with torch.inference_mode():
                found: Tensor = whole(*(x.to(device) for x in features))
                return found.cpu()

        return score

    def __str__(self) -> str:
        """The machine in words."""
        return f"{self.kernel}, c {self.c:g}" + (f", gamma {self.gamma}" if self.kernel != "linear" else "")

    def _fit(self, task: Task) -> None:
        start, pooling = time.perf_counter(), _pooling(task.recipe, tuple(i.layout for i in task.inputs))
        train, watched = task.sides.train, task.sides.watched(task.recipe)
        less = "Take less over time, such as --set family.moments=[mean], or use a machine of more memory."
        require_memory(task, pooling.size, self.kernel, less=less)
        vectors = _pooled(task, pooling, np.unique(np.concatenate([train, watched])))
        task.watch.note(f"{len(vectors.clips)} clips pooled to {pooling.size} numbers each; fitting: {self}.")
        whole = self._fitted(task, vectors, train)
        machine = calibrated(task, vectors, whole, lambda clips: self._fitted(task, vectors, clips))
        row = _record(machine, vectors, (train, watched), time.perf_counter() - start)
        task.folder.publish(after(Progress(), row, task.recipe), lambda folder: save_weights(folder, machine))
        task.watch.epoch(row, selected=True)

    def _fitted(self, task: Task, vectors: ClipVectors, clips: Clips) -> Machine:
        """scikit-learn's machine of some clips, as numbers."""
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler()
        z, y = scaler.fit_transform(vectors.of(clips)), vectors.targets(clips)
        if self.kernel != "linear":
            return kernel_machine(z, y, self.kernel, c=self.c, gamma=self.gamma, mean=scaler.mean_, scale=scaler.scale_)
        return _machine(self._linear(task, z, y) | {"mean": scaler.mean_, "scale": scaler.scale_})

    def _linear(self, task: Task, z: Vectors, y: Clips) -> dict[str, Any]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        made = LinearSVC(C=self.c, dual=False, max_iter=LINEAR_STEPS, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # said below, in words
            made.fit(z, y)
        if made.n_iter_ >= LINEAR_STEPS:
            task.watch.note(f"Not converged in {LINEAR_STEPS} steps: a smaller c, such as {self.c / 10:g}, would.")
        return {"weights": made.coef_, "intercept": made.intercept_}


def kernel_machine(
    z: Vectors,
    targets: Clips,
    kernel: Kernel,
    *,
    c: float = 1.0,
    gamma: float | Literal["scale"] = "scale",
    mean: Vectors | float = 0.0,
    scale: Vectors | float = 1.0,
) -> Machine:
    """scikit-learn's ``SVC`` of some vectors, as numbers, at a temperature of 1.

    Parameters
    ----------
    z : array, shape ``(n, D)``
        Vectors to fit to, already ``(v - mean) / scale``.
    targets : array of int, shape ``(n,)``
        Their classes: every number from 0 that there is.
    kernel : str
        ``rbf`` or ``sigmoid``.
    c, gamma : float
        As in scikit-learn.
    mean, scale : arrays, shape ``(D,)``, or numbers
        What the machine standardises vectors with.
    """
    from sklearn.svm import SVC

    wide = 1 / (z.shape[1] * z.var() or 1.0) if gamma == "scale" else gamma  # 1: all is constant
    made = SVC(kernel=kernel, C=c, gamma=wide, cache_size=max(1, _pair_bytes(targets) // MIB + 1)).fit(z, targets)
    numbers = {
        "support": made.support_vectors_,
        "counts": made.n_support_,
        "duals": made.dual_coef_,
        "intercept": made.intercept_,
        "gamma": wide,
        "mean": mean,
        "scale": scale,
    }
    return _machine(numbers | ({"offset": made.coef0} if kernel == "sigmoid" else {}))


def _machine(numbers: Mapping[str, Any]) -> Machine:
    whole = {**numbers, "inverse_temperature": 1.0}
    return Machine({name: torch.from_numpy(np.array(v, dtype=np.float64)) for name, v in whole.items()})


def calibrated(task: Task, vectors: ClipVectors, machine: Machine, fit: Callable[[Clips], Machine]) -> Machine:
    """A machine of the whole training side, at a temperature from clips that its fit has not seen.

    Parameters
    ----------
    task : Task
        Whose sides these are.
    vectors : ClipVectors
        Of every clip of the training and the validation side.
    machine : Machine
        What is fitted to the training side.
    fit : callable
        Clips to such a machine of them alone, for where no validation side is held off.
    """
    judge, unseen = machine, task.sides.validation
    if not len(unseen):
        unseen, rest = _held_off(task)
        judge = fit(rest) if len(unseen) else machine
    if not len(unseen):
        task.watch.note("Probabilities are not calibrated: no locations can be held off the training side for it.")
        return machine
    sharp = inverse_temperature(decided(judge, vectors.of(unseen)), vectors.targets(unseen))
    return machine.at(sharp)


def loss_and_accuracy(machine: Machine, vectors: ClipVectors, clips: Clips) -> tuple[float, float]:
    """Mean cross-entropy of the probabilities, and accuracy; 0 of no clips."""
    if not len(clips):
        return 0.0, 0.0
    decisions, targets = decided(machine, vectors.of(clips)), vectors.targets(clips)
    likely = log_softmax(decisions * float(machine.inverse_temperature))
    right = decisions.argmax(axis=1) == targets
    return float(-likely[np.arange(len(targets)), targets].mean()), float(right.mean())


def require_memory(task: Task, size: int, kernel: str, *, less: str) -> None:
    """Refuse what does not fit, before anything is read.

    Parameters
    ----------
    task : Task
        Whose clips are fitted and watched.
    size : int
        Length of a clip's vector.
    kernel : str
        ``linear`` keeps none.
    less : str
        What a person may do where vectors do not fit, kernels left aside.

    Raises
    ------
    RunError
        With what is needed and what there is.
    """
    clips = len(task.sides.train) + len(task.sides.watched(task.recipe))
    vectors, free = COPIES * 8 * clips * size, int(MEMORY_SHARE * room.memory())
    matrix = _pair_bytes(task.feed.targets[task.sides.train]) if kernel != "linear" else 0
    if vectors + matrix <= free:
        return
    rows = {f"{clips} vectors of {size}": vectors, "kernel of the two largest classes": matrix}
    within = f"both within {_gib(free)} GiB" if matrix else f"within {_gib(free)} GiB"
    raise RunError(
        f"A support vector machine ({kernel}) of these clips does not fit into memory.",
        differences=[Difference(field=n, expected=within, found=f"{_gib(b)} GiB") for n, b in rows.items() if b],
        todo="Add --set trainer.kernel=linear, which keeps no kernel."
        if vectors <= free and task.recipe.trainer.kind == "svm"
        else less,
    )


@dataclass(frozen=True)
class ClipVectors:
    """Clips as one vector each."""

    clips: Clips
    """Positions in the store, ascending."""
    values: Vectors
    """Their vectors."""
    classes: Clips
    """Class number of each clip of the store."""

    def of(self, clips: Clips) -> Vectors:
        """Vectors of some of them, as they are given."""
        found: Vectors = self.values[np.searchsorted(self.clips, clips)]
        return found

    def targets(self, clips: Clips) -> Clips:
        """Class numbers of some of them."""
        found: Clips = self.classes[clips]
        return found


def _pooled(task: Task, pooling: Poolings, clips: Clips) -> ClipVectors:
    """Vectors of clips in store order: from the statistics that the store keeps, or batch by batch from the feed.

    Raises
    ------
    RunError
        When features are not finite; the clips are named.
    """
    if pooling.stored:
        values = pooling.of_statistics([_statistics(m, clips) for m in task.feed.source.members])
    else:
        values = np.empty((len(clips), pooling.size))
        start = 0
        for batch in task.feed.in_order(clips, task.recipe.batch_size):
            values[start : start + len(batch.clips)] = pooling([x.double() for x in batch.features]).cpu().numpy()
            start += len(batch.clips)
    _require_finite(task, clips[~np.isfinite(values).all(axis=1)])
    return ClipVectors(clips, values, task.feed.targets)


def _held_off(task: Task) -> tuple[Clips, Clips]:
    """Clips of the training side to find the temperature with, whole locations, and the rest; none where none can."""
    source, train = task.feed.source, task.sides.train
    groups = held_off(source, train, CALIBRATION, task.recipe.seed)
    inside = np.array([group_of(source, int(c)) in groups for c in train], dtype=np.bool_)
    return train[inside], train[~inside]


def _record(machine: Machine, vectors: ClipVectors, sides: tuple[Clips, Clips], seconds: float) -> EpochRecord:
    (loss, accuracy), watched = (loss_and_accuracy(machine, vectors, side) for side in sides)
    return EpochRecord(
        epoch=1,
        loss=loss,
        accuracy=accuracy,
        watched_loss=watched[0] if len(sides[1]) else None,
        watched_accuracy=watched[1] if len(sides[1]) else None,
        seconds=seconds,
        clips_per_second=len(sides[0]) / seconds,
    )


def _statistics(member: Member, clips: Clips) -> tuple[Vectors, Vectors]:
    """Mean and variance over time of some clips of a store."""
    means, variances = member.source.statistics()
    return means[member.at[clips]], variances[member.at[clips]]


def _pooling(recipe: TrainingRecipe, layouts: tuple[Layout, ...]) -> Poolings:
    """What the family takes over time."""
    return _pooled_family(recipe).pooling(layouts)


def _pooled_family(recipe: TrainingRecipe) -> Pooled:
    """The recipe's family.

    Raises
    ------
    RecipeError
        When the recipe's family is another than ``pooled``.
    """
    family = recipes.family(recipe)
    if isinstance(family, Pooled):
        return family
    raise RecipeError(
        "The trainer svm fits features that are pooled over time, and no network.",
        differences=[Difference(field="family.kind", expected="pooled", found=recipe.family.kind)],
        todo=f"Add --set family.kind=pooled, or fit pooled_svm --set features={recipe.features[0]}.",
    )


def require_one_process(recipe: TrainingRecipe) -> None:
    """Refuse to fit a machine in processes that train together.

    Raises
    ------
    RunError
        With how many there are.
    """
    if processes() > 1:
        raise RunError(
            f"The trainer {recipe.trainer.kind} works in one process, and there are {processes()}.",
            todo="Start it without torchrun.",
        )


def _require_finite(task: Task, bad: Clips) -> None:
    if len(bad):
        names = [
            Difference(field=task.feed.source.ids[c], expected="finite features", found="NaN or infinity")
            for c in bad[:3]
        ]
        raise RunError(
            f"{stores(task)} holds features that are not finite: of {len(bad)} of the clips that are trained on.",
            differences=names,
            todo="The store is damaged: see what `ascfeat verify` says of it, or extract again.",
        )


def _pair_bytes(targets: Clips) -> int:
    """Size of the largest kernel matrix, that of the two largest classes, as scikit-learn keeps it, in float32."""
    counts = np.unique(targets, return_counts=True)[1]
    return int(4 * np.sort(counts)[-2:].sum() ** 2)


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g}"


def require_scikit_learn(recipe: TrainingRecipe) -> None:
    """Refuse to begin where scikit-learn is missing.

    Raises
    ------
    RunError
        With how to install it.
    """
    try:
        import sklearn.svm  # noqa: F401
    except ModuleNotFoundError as error:
        raise RunError(
            f"The trainer {recipe.trainer.kind} needs scikit-learn, which is not installed: {error}.",
            todo='Install it with `pip install -c constraints.txt ".[svm]"`, where this package was installed from.',
        ) from error
