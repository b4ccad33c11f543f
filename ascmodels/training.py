"""From a store and a training recipe to a run: the task is prepared, the folder opened, the trainer set to work."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ascmodels import recipes
from ascmodels.augment import require_maskable
from ascmodels.checkpoint import CURVES, RunFolder, open_together
from ascmodels.data import Feed, Place, Placement, feed, placed
from ascmodels.devices import choose, session
from ascmodels.evaluate import trainable
from ascmodels.joining import Joined, joined
from ascmodels.normalise import Bands, band_statistics, identity
from ascmodels.report import draw_curves
from ascmodels.sides import Sides, divide
from ascmodels.source import Clips, FeatureSource
from ascmodels.team import Team, local_device, open_team
from ascmodels.tensorboard import TensorBoard, is_installed
from ascmodels.trainers.base import Task
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
        The split; ``fold1`` by default, or the store's only one.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    placement : str
        ``device``, ``ram``, ``stream``, or ``auto`` for the first of them that the clips fit into.
    resume : bool
        Go on with an unfinished run.
    features : sequence of FeatureRecipe
        The feature recipes that training expects; a store of another is refused with the differing fields. None where
        one is not known.
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
    recipe, device_here = recipes.resolve(recipe), local_device(choose(device))
    trainer = recipes.trainer(recipe)
    source = joined(source)
    require_all(recipe, source, features)
    split = split or default_split(source)
    require_split(source, split)
    sides = divide(source, split, recipe, examples=source.examples)
    data = describe(source, split, sides, recipe)
    trainable(recipe, data)  # a family that cannot take these features says so before anything is read or written
    require_maskable(recipe.augmentation, [i.seen for i in source.inputs])
    with open_team(device_here) as team:
        watch = (watch or Watcher()) if team.leads else Watcher()
        clips = np.concatenate([sides.train, sides.watched(recipe)])
        wanted = "stream" if trainer.reads_once and placement == "auto" else placement
        place: Place = team.said(placed(source, len(clips), wanted, device_here))
        here = session(device_here, place, team.size)
        with open_together(team, out, recipe, data, here, resume=resume) as folder:
            if folder.finished:
                watch.note(f"{out} is finished: nothing to do.")
                return _drawn(folder, folder.finished, team)
            where = "the store, once at most" if trainer.reads_once and place == "stream" else PLACES[place]
            watch.note(_forecast(data, where, device_here.type, sides, recipe, team.size))
            curves = _curves(folder, team)
            task = Task(
                recipe=recipe,
                inputs=source.inputs,
                data=data,
                sides=sides,
                feed=_fed(source, clips, data, place, device_here, recipe),
                statistics=statistics(recipe, source, sides),
                device=device_here,
                folder=folder,
                team=team,
                watch=Several(watch, *curves),
            )
            with ExitStack() as closing:
                for board in curves:
                    closing.callback(board.close)
                return _drawn(folder, trainer.fit(task), team)


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
            todo=f"Make one with `ascfeat correct --split {split} …`, or train with --split of the correction.",
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
        classes=tuple(sorted({source.labels[c] for c in sides.train})),
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
    return [TensorBoard(folder.path, folder.progress())] if team.leads and is_installed() else []


def _fed(
    source: Joined, clips: Clips, data: RunData, place: Place, device: torch.device, recipe: TrainingRecipe
) -> Feed:
    """The feed; features that do not fit where they were wanted are told so."""
    try:
        return feed(source, clips, data.classes, place, device=device, window_mib=recipe.window_mib)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"The features of {len(clips)} clips do not fit into the memory of {device}.",
            todo="Train with --placement stream; --set window_mib=256 reads less at once.",
        ) from error


def _drawn(folder: RunFolder, finished: Finished, team: Team) -> Finished:
    """Write and draw the curves of a finished run, unless that is done already."""
    file = folder.path / "curves.png"
    if team.leads and not (folder.path / CURVES).exists():
        folder.write_curves(folder.progress())
    if team.leads and not file.exists():
        draw_curves(folder.progress(), folder.recipe, file)
    return finished


def _forecast(data: RunData, where: str, device: str, sides: Sides, recipe: TrainingRecipe, processes: int) -> str:
    counts = ", ".join(f"{n} {side}" for side, n in data.clips.items() if n)
    side = "test" if recipe.selection.side == "test" else "validation"
    watched = f"the {side} side" if len(sides.watched(recipe)) else "nothing"
    clips = f"{counts} clips of {data.dataset} ({data.split})"
    on = device if processes == 1 else f"{processes} processes, {device}"
    first = f"{clips}; features from {where}; on {on}."
    return f"{first}\nWatched after each epoch, * where it is the best so far: {watched}."
