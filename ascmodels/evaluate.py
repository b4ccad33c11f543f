"""From a run and its store to a report: the test side scored with the selected and with the last epoch's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.data import feed
from ascmodels.devices import choose, software
from ascmodels.inputs import Input
from ascmodels.joining import Joined, joined
from ascmodels.metrics import by_group, confusion, mean_accuracy, score
from ascmodels.selection import in_words
from ascmodels.source import Clips, ClipTable, FeatureSource
from ascmodels.trainers.base import Scorer
from ascschemas.problems import Difference, RunError, StoreMismatch
from ascschemas.report import BesideClaim, Provenance, Report, Scores
from ascschemas.run import RunData
from ascschemas.training import Claim, TrainingRecipe

BATCH = 64


def evaluate(path: Path, source: FeatureSource | Joined, *, device: str = "auto") -> Report:
    """Score a run on the test side of its split.

    Parameters
    ----------
    path : Path
        The run folder.
    source : FeatureSource or Joined
        The store that it was trained from, or several from ``ascmodels.joining.join``.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.

    Raises
    ------
    RunError
        When the run has not finished its first epoch.
    StoreMismatch
        When the store is not the one that the run was trained from; both digests are named.
    """
    folder, source = RunFolder(path), joined(source)
    require_same_stores(folder, source)
    progress = folder.progress()
    if not progress.epoch:
        raise RunError(f"{path} has no checkpoint yet.", todo="Let training finish its first epoch.")
    side = source.sides(folder.data.split) == "test"
    test, unscored = (np.flatnonzero(side & usable) for usable in (source.usable, ~source.usable))
    epochs = {epoch: _scored(folder, source, epoch, test, device) for epoch in {progress.selected, progress.epoch}}
    selected = epochs[progress.selected]
    words, value = headline(folder.recipe, selected)
    return Report(
        provenance=_provenance(folder, device),
        selection=in_words(folder.recipe.selection) + _unfinished(folder, progress.epoch),
        headline=words,
        headline_accuracy=value,
        selected=selected,
        last=epochs[progress.epoch],
        unscored=tuple(source.ids[c] for c in unscored),
        claims=tuple(beside(claim, selected, folder.data) for claim in folder.recipe.claims),
    )


def predicted(scorer: Scorer, source: Joined, clips: Clips, classes: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """Class probabilities of some clips of a store, ``(n, K)``."""
    batches = feed(source, clips, classes, "stream").in_order(clips, BATCH)
    return torch.cat([scorer(batch.features) for batch in batches]).numpy()


def headline(recipe: TrainingRecipe, scores: Scores) -> tuple[str, float]:
    """The number that a paper leads with, in words and as a value; overall accuracy where its devices are missing."""
    if scores.device_mean is None:
        return "accuracy over all test clips", scores.overall.accuracy
    return f"mean of the accuracies on devices {' and '.join(recipe.headline_devices)}", scores.device_mean


def beside(claim: Claim, scores: Scores, data: RunData) -> BesideClaim:
    """A published number with ours, and whether the two can be compared."""
    other = _other_data(claim, data)
    return BesideClaim(claim=claim, ours=_ours(claim, scores), comparable=not other, remark=other)


def require_same_stores(folder: RunFolder, source: Joined) -> None:
    """Refuse stores with other digests than the run's.

    Raises
    ------
    StoreMismatch
        With both digests.
    """
    found = [m.source.seal.digest if m.source.seal else "no seal" for m in source.members]
    wanted = [store.digest for store in folder.data.stores]
    if found == wanted:
        return
    rows = [Difference(field="stores", expected=str(len(wanted)), found=str(len(found)))][: len(wanted) != len(found)]
    apart = [(w, f, m) for w, f, m in zip(wanted, found, source.members, strict=False) if w != f]
    rows += [Difference(field=f"digest of {m.source.place}", expected=w[:16], found=f[:16]) for w, f, m in apart]
    raise StoreMismatch(
        f"{source.place} is not the store that {folder.path} was trained from.",
        differences=rows,
        todo="Point --features at the folder of that store, or train again from this one.",
    )


def _unfinished(folder: RunFolder, epoch: int) -> str:
    return "" if folder.finished else f" Training is not finished: {epoch} of {folder.recipe.epochs} epochs."


def _scored(folder: RunFolder, source: Joined, epoch: int, test: Clips, device: str) -> Scores:
    scorer = recipes.trainer(folder.recipe).scorer(folder, epoch, choose(device))
    classes = folder.data.classes
    guess = predicted(scorer, source, test, classes).argmax(axis=1)
    true = np.array([classes.index(source.labels[c]) for c in test])
    return scores(source, test, true, guess, folder, epoch)


def scores(source: ClipTable, clips: Clips, true: Clips, guess: Clips, folder: RunFolder, epoch: int) -> Scores:
    """Every accuracy of some classified clips."""
    right, classes = true == guess, folder.data.classes
    devices = by_group([source.devices[c] for c in clips], right)
    per_class = by_group([classes[t] for t in true], right)
    chosen = [d for d in devices if d.name in folder.recipe.headline_devices]
    complete = bool(chosen) and len(chosen) == len(folder.recipe.headline_devices)
    return Scores(
        epoch=epoch,
        overall=score("overall", right),
        classes=per_class,
        devices=devices,
        cities=by_group([source.cities[c] for c in clips], right),
        class_mean=mean_accuracy(per_class),
        device_mean=mean_accuracy(chosen) if complete else None,
        confusion=confusion(true, guess, classes),
    )


def _ours(claim: Claim, scores: Scores) -> float | None:
    whole = {"overall": scores.overall.accuracy, "class_mean": scores.class_mean, "device_mean": scores.device_mean}
    if claim.scope in whole:
        return whole[claim.scope]
    groups = {"class": scores.classes, "device": scores.devices, "city": scores.cities}[claim.scope]
    return next((s.accuracy for s in groups if s.name == claim.group), None)


def _other_data(claim: Claim, data: RunData) -> str:
    """Why a claim does not hold for a run's data; empty where it does."""
    asked, here = claim.data, data.clips
    if (data.dataset_kind, data.split) != (asked.kind, asked.split):
        return f"not comparable: another dataset ({data.dataset_kind}, {data.split})"
    clips = here["train"] + here["validation"] + here["test"] + here["excluded"]
    if clips != asked.train + asked.test or here["test"] > asked.test:
        return f"not comparable: another dataset ({clips} clips, not {asked.train + asked.test})"
    return ""


def _provenance(folder: RunFolder, device: str) -> Provenance:
    recipe, data = folder.recipe, folder.data
    values = recipe.hyper_parameters
    return Provenance(
        recipe=recipe.name,
        fingerprint=recipe.fingerprint,
        changed={k: str(values[k]) for k, v in recipe.sources.items() if v == recipes.COMMAND_LINE},
        family=recipe.family.kind,
        parameters=trainable(recipe, data),
        dataset=data.dataset,
        dataset_kind=data.dataset_kind,
        split=data.split,
        stores={s.header.recipe.name: s.digest for s in data.stores},
        corrections={s.header.recipe.name: c.words() for s in data.stores if (c := s.header.recipe.correction)},
        software=software(),
    )


def trainable(recipe: TrainingRecipe, data: RunData) -> int:
    """Trainable parameters of a run's network."""
    with torch.random.fork_rng(devices=[]):
        seen = tuple(Input.of(store.header).seen for store in data.stores)
        network = recipes.family(recipe).build(seen, len(data.classes))
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
