"""From a run and its store to a report: the test side scored with the selected and with the last epoch's weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.data import feed
from ascmodels.devices import choose, software
from ascmodels.folds import fold
from ascmodels.inputs import Input
from ascmodels.joining import Joined, joined
from ascmodels.metrics import by_group, confusion, mean_accuracy, score
from ascmodels.selection import in_words
from ascmodels.source import Clips, ClipTable, FeatureSource
from ascmodels.tagging import lwlraps
from ascmodels.trainers.base import Scorer
from ascschemas.problems import Difference, RunError, StoreMismatch
from ascschemas.report import Accuracies, BesideClaim, Provenance, Report, Scores
from ascschemas.run import Progress, RunData
from ascschemas.training import Claim, TrainingRecipe

BATCH = 64
SAID = 3
"""Clips that an error names."""
FREE = frozenset(
    {"seed", "window_mib", "trainer.precision", "trainer.channels_last", "trainer.accumulate", "trainer.compile"}
)
"""What may be changed of a recipe without its being another: no accuracy depends on it beyond chance."""


@dataclass(frozen=True)
class Measured:
    """The clips that something was measured on, to be compared with a claim's."""

    kind: str
    """The dataset's loader."""
    split: str
    """The split, or what several folds are called together."""
    clips: int
    """Clips of both sides."""
    tested: int
    """Clips that were scored, each once."""
    changed: tuple[str, ...] = ()
    """What was not trained as the recipe says, by its keys."""

    @classmethod
    def of(cls, data: RunData, recipe: TrainingRecipe) -> Self:
        """The clips of a run."""
        changed = tuple(key for key in _changed(recipe) if key not in FREE)
        return cls(data.dataset_kind, data.split, sum(data.clips.values()), data.clips["test"], changed)


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
    progress = folder.trained()
    side = source.sides(folder.data.split) == "test"
    test, unscored = (np.flatnonzero(side & usable) for usable in (source.usable, ~source.usable))
    epochs = {epoch: _scored(folder, source, epoch, test, device) for epoch in {progress.selected, progress.epoch}}
    selected = epochs[progress.selected]
    words, value = headline(folder.recipe.headline_devices, selected, folder.recipe.metric)
    measured = Measured.of(folder.data, folder.recipe)
    return Report(
        provenance=provenance(folder),
        selection=" ".join(_said(folder, progress)),
        metric=folder.recipe.metric,
        headline=words,
        headline_accuracy=value,
        selected=selected,
        last=epochs[progress.epoch],
        unscored=tuple(source.ids[c] for c in unscored),
        claims=tuple(beside(claim, selected, measured) for claim in folder.recipe.claims),
    )


def predicted(scorer: Scorer, source: Joined, clips: Clips, classes: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """Class probabilities of some clips of a store, ``(n, K)``.

    Raises
    ------
    RunError
        When some are NaN, which would count as the first class; with the first clips.
    """
    batches = feed(source, clips, classes, "stream").in_order(clips, BATCH)
    said: npt.NDArray[np.float32] = torch.cat([scorer(batch.features) for batch in batches]).numpy()
    _require_probabilities(said, source, clips)
    return said


def _require_probabilities(said: npt.NDArray[np.float32], source: Joined, clips: Clips) -> None:
    bad = clips[~np.isfinite(said).all(axis=1)]
    if len(bad):
        raise RunError(
            f"{len(bad)} of {len(clips)} clips cannot be scored: what the run says of them are no probabilities.",
            differences=[
                Difference(field=source.ids[c], expected="probabilities", found="NaN or infinity") for c in bad[:SAID]
            ],
            todo=f"If the features of these clips are not finite, heal them: see `ascfeat verify {source.place}`; "
            "if they are, the weights are not: train again into a new folder.",
        )


def headline(devices: Sequence[str], scores: Accuracies, metric: str = "accuracy") -> tuple[str, float]:
    """The number that a paper leads with, in words and as a value; the overall score where its devices are missing."""
    if scores.device_mean is None:
        return f"{metric} over all test clips", scores.overall.accuracy
    return f"mean of the accuracies on devices {' and '.join(devices)}", scores.device_mean


def beside(claim: Claim, scores: Accuracies, measured: Measured) -> BesideClaim:
    """A published number with ours, and whether the two can be compared."""
    other = _not_comparable(claim, measured)
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


def _said(folder: RunFolder, progress: Progress) -> Iterator[str]:
    """Which epoch is reported, and what of it the recipe does not say."""
    yield in_words(folder.recipe.selection, folder.recipe.metric) + _unfinished(folder, progress.epoch)
    words = recipes.trainer(folder.recipe).words(folder, progress.selected)
    yield from [words] if words else []


def _unfinished(folder: RunFolder, epoch: int) -> str:
    return "" if folder.finished else f" Training is not finished: {epoch} of {folder.recipe.extent}."


def _scored(folder: RunFolder, source: Joined, epoch: int, test: Clips, device: str) -> Scores:
    scorer = recipes.trainer(folder.recipe).scorer(folder, epoch, choose(device))
    classes = folder.data.classes
    said = predicted(scorer, source, test, classes)
    if folder.recipe.tags:
        found = lwlraps(source, test, said, classes)
    else:
        found = accuracies(source, test, said.argmax(axis=1), classes, folder.recipe.headline_devices)
    return Scores(epoch=epoch, **dict(found))


def accuracies(
    source: ClipTable, clips: Clips, guess: Clips, classes: tuple[str, ...], devices: Sequence[str] = ()
) -> Accuracies:
    """Every accuracy of some classified clips.

    Parameters
    ----------
    source : ClipTable
        Where their labels, devices and cities are.
    clips : array of int
        Positions.
    guess : array of int
        Class number of each.
    classes : tuple of str
        Labels in the order of these numbers.
    devices : sequence of str
        Devices whose mean is the headline.
    """
    true = np.array([classes.index(source.labels[c]) for c in clips])
    right = true == guess
    on_devices = by_group([source.devices[c] for c in clips], right)
    per_class = by_group([classes[t] for t in true], right)
    chosen = [d for d in on_devices if d.name in devices]
    complete = bool(chosen) and len(chosen) == len(devices)
    return Accuracies(
        overall=score("overall", right),
        classes=per_class,
        devices=on_devices,
        cities=by_group([source.cities[c] for c in clips], right),
        class_mean=mean_accuracy(per_class),
        device_mean=mean_accuracy(chosen) if complete else None,
        confusion=confusion(true, guess, classes),
    )


def _ours(claim: Claim, scores: Accuracies) -> float | None:
    whole = {"overall": scores.overall.accuracy, "class_mean": scores.class_mean, "device_mean": scores.device_mean}
    if claim.scope in whole:
        return whole[claim.scope]
    groups = {"class": scores.classes, "device": scores.devices, "city": scores.cities}[claim.scope]
    return next((s.accuracy for s in groups if s.name == claim.group), None)


def _not_comparable(claim: Claim, measured: Measured) -> str:
    """Why a claim does not hold for what was measured; empty where it does."""
    asked, one = claim.data, fold(measured.split)
    if measured.kind == asked.kind and one and one.together == asked.split:
        return f"not comparable: one fold of {one.count}, and the published number is of all"
    if (measured.kind, measured.split) != (asked.kind, asked.split):
        return f"not comparable: another dataset ({measured.kind}, {measured.split})"
    published = asked.train + asked.test
    most = published if fold(f"{asked.split}_1") else asked.test
    if measured.clips != published or measured.tested > most:
        return f"not comparable: another dataset ({measured.clips} clips, not {published})"
    if measured.changed:
        return f"not comparable: the recipe was changed ({', '.join(measured.changed)})"
    return ""


def provenance(folder: RunFolder) -> Provenance:
    """What a run comes from."""
    recipe, data = folder.recipe, folder.data
    return Provenance(
        recipe=recipe.name,
        fingerprint=recipe.fingerprint,
        changed=_changed(recipe),
        family=recipe.family.kind,
        parameters=trainable(recipe, data),
        trainer=recipe.trainer,
        dataset=data.dataset,
        dataset_kind=data.dataset_kind,
        split=data.split,
        stores={s.header.recipe.name: s.digest for s in data.stores},
        corrections={s.header.recipe.name: c.words() for s in data.stores if (c := s.header.recipe.correction)},
        initial=data.initial,
        software=software(),
    )


def _changed(recipe: TrainingRecipe) -> dict[str, str]:
    """What was set on the command line, by its keys."""
    values = recipe.hyper_parameters
    return {key: str(values[key]) for key, who in recipe.sources.items() if who == recipes.COMMAND_LINE}


def trainable(recipe: TrainingRecipe, data: RunData) -> int:
    """Trainable parameters of a run's network."""
    with torch.random.fork_rng(devices=[]):
        seen = tuple(Input.of(store.header).seen for store in data.stores)
        network = recipes.family(recipe).build(seen, len(data.classes))
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
