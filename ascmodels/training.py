"""From a store and a training recipe to a run: the task is prepared, the folder opened, the trainer set to work."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ascmodels import recipes
from ascmodels.checkpoint import CURVES, RunFolder, open_together
from ascmodels.data import Feed, Place, Placement, feed, placed
from ascmodels.devices import choose, session
from ascmodels.folds import fold
from ascmodels.initial import Beginning, begin
from ascmodels.joining import Joined, joined
from ascmodels.normalise import Bands, band_statistics, identity
from ascmodels.rehearsal import require_network
from ascmodels.report import draw_curves
from ascmodels.sides import Sides, divide
from ascmodels.source import Clips, FeatureSource
from ascmodels.team import Team, local_device, open_team
from ascmodels.tensorboard import TensorBoard, is_installed
from ascmodels.trainers.base import Task, Trainer
from ascmodels.trainers.failure import is_out_of_memory
from ascmodels.watching import Several, Watcher
from ascschemas.problems import Difference, RunError, StoreError, StoreMismatch, differences
from ascschemas.recipe import FeatureRecipe
from ascschemas.run import Finished, RunData, RunStore
from ascschemas.training import TrainingRecipe

PLACES: dict[Place, str] = {
    "device": "the GPU's memory",
    "ram": "memory",
    "stream": "the store, a window ahead",
}


def train(
    recipe: TrainingRecipe,
    source: FeatureSource | Joined,
    out: Path,
    *,
    split: str | None = None,
    device: str = "auto",
    placement: Placement = "auto",
    resume: bool = False,
    features: Sequence[FeatureRecipe | None] = (),
    init: Path | None = None,
    watch: Watcher | None = None,
) -> Finished:
    """Train a model from a sealed store, or from several, into a run folder.

    Parameters
    ----------
    recipe : TrainingRecipe
        From ``ascmodels.papers.load``.
    source : FeatureSource or Joined
        A sealed store, from ``ascfeat.store.open_store``; or several, from ``ascmodels.joining.join``, in the order in
        which the recipe names their features.
    out : Path
        The run folder. A finished one made from the same things is left as it is.
    split : str, optional
        A split of the store, or a fold such as ``location5_1``; ``fold1`` by default, or the store's only one.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    placement : str
        ``device``, ``ram``, ``stream``, or ``auto`` for the first of them that the clips fit into.
    resume : bool
        Go on with an unfinished run.
    features : sequence of FeatureRecipe
        The feature recipes that training expects; a store of another is refused with the differing fields. None where
        one is not known.
    init : Path, optional
        Weights to start from: a file of them, or a run folder.
    watch : Watcher, optional
        Who is told how it goes.

    Returns
    -------
    Finished
        The last and the selected epoch.

    Raises
    ------
    RecipeError, StoreError, RunError
        When this cannot be trained, before anything is computed; or when training cannot go on.
    """
    here = local_device(choose(device))
    asked = _asked(recipe, joined(source), out, split, features, init, here)
    with open_team(here) as team:
        watch = (watch or Watcher()) if team.leads else Watcher()
        place = team.said(asked.placed(placement, here))
        with open_together(
            team, out, asked.recipe, asked.data, session(here, place, team.size), resume=resume
        ) as folder:
            if folder.finished:
                watch.note(f"{out} is finished: nothing to do.")
                return _drawn(folder, folder.finished, team)
            watch.note(asked.forecast(place, here.type, team.size))
            if asked.start.words and not folder.epochs():
                watch.note(asked.start.words)
            with ExitStack() as closing:
                curves = _curves(folder, team)
                for board in curves:
                    closing.callback(board.close)
                task = asked.task(folder, team, place, here, Several(watch, *curves))
                if words := _where(folder, task.epochs, resume):
                    watch.note(words)
                return _drawn(folder, asked.trainer.fit(task), team)


def _asked(
    recipe: TrainingRecipe,
    source: Joined,
    out: Path,
    split: str | None,
    features: Sequence[FeatureRecipe | None],
    init: Path | None,
    device: torch.device,
) -> Asked:
    """What is to be trained, refused here where anything speaks against it."""
    recipe = recipes.resolve(recipe)
    trainer = recipes.trainer(recipe)
    trainer.require(recipe, device)
    require_all(recipe, source, features)
    split = default_split(source) if split is None else split
    require_split(source, split)
    sides = divide(source, split, recipe, examples=source.examples, batched=not trainer.reads_once)
    data = describe(source, split, sides, recipe)
    require_network(recipe, data, source.examples)
    start = begin(init, out, recipe, data)
    data = data.model_copy(update={"initial": start.said})
    recipes.family(recipe).require(source, np.sort(np.concatenate([sides.train, sides.validation, sides.test])))
    return Asked(recipe, trainer, source, sides, data, start)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be trained, with what, and from which weights: nothing speaks against it."""

    recipe: TrainingRecipe
    trainer: Trainer
    source: Joined
    sides: Sides
    data: RunData
    start: Beginning

    @property
    def clips(self) -> Clips:
        """Clips that training reads."""
        return np.concatenate([self.sides.train, self.sides.watched(self.recipe)])

    def placed(self, placement: Placement, device: torch.device) -> Place:
        """Where their features are read from; a trainer that reads them once may as well read the store."""
        wanted = "stream" if self.trainer.reads_once and placement == "auto" else placement
        return placed(self.source, len(self.clips), wanted, device)

    def forecast(self, place: Place, device: str, processes: int) -> str:
        """Clips, place and device, in words, and what is watched."""
        where = "the store, once at most" if self.trainer.reads_once and place == "stream" else PLACES[place]
        counts = ", ".join(f"{n} {side}" for side, n in self.data.clips.items() if n)
        clips = f"{counts} clips of {self.data.dataset} ({self.data.split})"
        on = device if processes == 1 else f"{processes} processes, {device}"
        first = f"{clips}; features from {where}; on {on}." + self._large()
        if not len(self.sides.watched(self.recipe)):
            return f"{first}\nNothing is watched after an epoch: the last one is the result."
        side = "test" if self.recipe.selection.side == "test" else "validation"
        return f"{first}\nWatched after each epoch, * where it is the best so far: the {side} side."

    def _large(self) -> str:
        """A word where far more is held off than was asked for; nothing where not."""
        fraction, held = self.recipe.selection.fraction, len(self.sides.validation)
        both = held + len(self.sides.train)
        if held <= 2 * fraction * both:
            return ""
        return (
            f"\nThe validation side takes {held / both:.0%} of the training side, not {fraction:.0%}: "
            "locations are held off whole, and here each is large."
        )

    def task(self, folder: RunFolder, team: Team, place: Place, device: torch.device, watch: Watcher) -> Task:
        """What the trainer is given: the features are read here."""
        return Task(
            recipe=self.recipe,
            inputs=self.source.inputs,
            data=self.data,
            sides=self.sides,
            weights=self.start.weights,
            feed=_fed(self.source, self.clips, self.data, place, device, self.recipe),
            statistics=statistics(self.recipe, self.source, self.sides),
            device=device,
            folder=folder,
            team=team,
            watch=watch,
        )


def require_all(recipe: TrainingRecipe, source: Joined, features: Sequence[FeatureRecipe | None] = ()) -> None:
    """Refuse other stores than the recipe names, one by one.

    Raises
    ------
    StoreError
        As :func:`require`.
    StoreMismatch
        As :func:`require`, or when there are more or fewer stores than features.
    """
    if len(source.members) != len(recipe.features):
        raise StoreMismatch(
            f"{recipe.name} is trained from other stores than these.",
            differences=[
                Difference(
                    field="features",
                    expected=", ".join(recipe.features),
                    found=", ".join(m.source.header.recipe.name for m in source.members),
                )
            ],
            todo="Give one store for each feature recipe, in that order.",
        )
    known = features or [None] * len(recipe.features)
    for name, member, expected in zip(recipe.features, source.members, known, strict=True):
        require(recipe.name, name, member.source, expected)


def require(training: str, name: str, source: FeatureSource, features: FeatureRecipe | None = None) -> None:
    """Refuse a store that is unfinished, or was made by another feature recipe than training expects.

    Parameters
    ----------
    training, name : str
        Names of the training recipe and of the feature recipe.
    source : FeatureSource
        The store.
    features : FeatureRecipe, optional
        The feature recipe, where it is known.

    Raises
    ------
    StoreError
        When the store is not sealed.
    StoreMismatch
        When its recipe has other values than ``features``; where these are not known, when it has another name.
    """
    found = source.header.recipe
    if source.seal is None:
        raise StoreError(
            f"{source.place} is not finished: it has no seal.",
            todo=f"Finish it with `ascfeat extract --recipe {found.name} <dataset>`.",
        )
    if found.name != name and not (features and _alike(found, features)):
        apart: tuple[Difference, ...] = (Difference(field="recipe", expected=name, found=found.name),)
    else:
        apart = differences(_values(features), _said(found, features)) if features else ()
    wanted = uncorrected(name) != name
    if wanted != (found.correction is not None):
        said = f"reference {', '.join(found.correction.reference)}" if found.correction else "none"
        apart = (*apart, Difference(field="correction", expected="one" if wanted else "none", found=said))
    if apart:
        raise StoreMismatch(
            f"{source.place} does not hold the features that {training} is trained from.",
            differences=apart,
            todo=f"Make them with `ascfeat extract --recipe {name} <dataset>` in another --features folder.",
        )


def require_split(source: Joined, split: str) -> None:
    """Refuse spectra that were corrected by what was measured on another split, whose training side may test here.

    Raises
    ------
    StoreMismatch
        With both splits.
    """
    made = {m.source.place.absolute: m.source.header.recipe.correction for m in source.members}
    other = {place: c.split for place, c in made.items() if c and c.split != split}
    if other:
        raise StoreMismatch(
            f"The correction of these spectra was estimated on another split than {split}.",
            differences=[Difference(field=place, expected=split, found=found) for place, found in other.items()],
            todo="Train with --split of the correction, or on spectra that are not corrected: none is made for a fold."
            if fold(split) and split not in source.splits
            else f"Make one with `ascfeat correct --split {split} …`, or train with --split of the correction.",
        )


def uncorrected(name: str) -> str:
    """The recipe that a corrected one is called after: ``logmel256`` of ``logmel256+ref_abc``."""
    return name.partition("+")[0]


def _alike(found: FeatureRecipe, expected: FeatureRecipe) -> bool:
    """Whether two recipes are one by another name: the same values, cut in the same way."""
    return (found.fingerprint, found.patches) == (expected.fingerprint, expected.patches)


def default_split(source: Joined) -> str:
    """The split that is meant where none is named: ``fold1``, or the store's only one.

    Raises
    ------
    RunError
        When it has none, or several and no ``fold1``.
    """
    names = source.splits
    if "fold1" in names or len(names) == 1:
        return "fold1" if "fold1" in names else names[0]
    raise RunError(
        f"{source.place} has {len(names)} splits: {', '.join(names) or 'none'}.",
        todo="Name one with --split." if names else "Add a split to the dataset and extract again.",
    )


def _values(recipe: FeatureRecipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", include={"decode", "representation"})


def _said(found: FeatureRecipe, expected: FeatureRecipe) -> dict[str, Any]:
    """What a store's recipe says; of tags, without what extraction filled in where the expected recipe is silent."""
    values = _values(found)
    if found.representation.kind == expected.representation.kind == "tags":
        values["representation"] |= {n: v for n, v in expected.representation.values().items() if not v}
    return values


def describe(source: Joined, split: str, sides: Sides, recipe: TrainingRecipe) -> RunData:
    """What the run folder says of its data."""
    named = {s: len(getattr(sides, s)) for s in ("train", "validation", "test", "excluded")}
    return RunData(
        stores=tuple(_described(m.source) for m in source.members),
        split=split,
        classes=tuple(sorted({name for c in sides.train for name in recipe.classes_of(source.labels[c])})),
        clips=named,
        held_off=sides.held_off,
        normalisation=f"per band over the {len(sides.train)} training clips of {split}" if recipe.normalise else "none",
    )


def statistics(recipe: TrainingRecipe, source: Joined, sides: Sides) -> tuple[tuple[Bands, Bands], ...]:
    """Mean and deviation per band that the recipe normalises with, of each store."""
    return tuple(
        band_statistics(member, sides.train) if recipe.normalise else identity(member.input)
        for member in source.members
    )


def _described(source: FeatureSource) -> RunStore:
    assert source.seal is not None
    return RunStore(path=source.place.absolute, header=source.header, digest=source.seal.digest)


def _curves(folder: RunFolder, team: Team) -> list[TensorBoard]:
    """TensorBoard's, where it is installed, by the process that leads."""
    return [TensorBoard(folder.path, folder.progress(), folder.recipe.metric)] if team.leads and is_installed() else []


def _fed(
    source: Joined, clips: Clips, data: RunData, place: Place, device: torch.device, recipe: TrainingRecipe
) -> Feed:
    """The feed; features that do not fit where they were wanted are told so."""
    try:
        mib, tags = recipe.window_mib, recipe.tags
        return feed(source, clips, data.classes, place, device=device, window_mib=mib, tags=tags)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"The features of {len(clips)} clips do not fit into the memory of {device}.",
            todo="Train with --placement stream; --set window_mib=256 reads less at once.",
        ) from error


def _where(folder: RunFolder, epochs: int, resume: bool) -> str:
    """Where training begins, in words; nothing for a new run."""
    done = folder.progress().epoch
    if done:
        return f"Going on after epoch {done} of {epochs}."
    if (folder.path / CURVES).exists():
        return f"The checkpoints of {folder.path} are gone, its {CURVES} is not: training begins again at epoch 1."
    return f"There is no checkpoint in {folder.path} to go on with: training begins at epoch 1." if resume else ""


def _drawn(folder: RunFolder, finished: Finished, team: Team) -> Finished:
    """Write and draw the curves of a finished run, unless that is done already."""
    file = folder.path / "curves.png"
    if team.leads and not (folder.path / CURVES).exists():
        folder.write_curves(folder.progress())
    if team.leads and not file.exists():
        draw_curves(folder.progress(), folder.recipe, file)
    return finished
