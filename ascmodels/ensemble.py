"""From several runs to one report: what they say of their test side is put to the vote, and folds are pooled."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ascmodels import ensembles, recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.devices import choose
from ascmodels.evaluate import Measured, accuracies, beside, headline, predicted, provenance, require_same_stores
from ascmodels.folds import fold
from ascmodels.joining import Joined, joined
from ascmodels.source import Clips, FeatureSource
from ascmodels.voting import voted
from ascschemas.ensemble import Alone, EnsembleReport, Vote, Voter
from ascschemas.problems import Difference, RunError, differences
from ascschemas.report import Accuracies

Probabilities = npt.NDArray[np.float32]
SAID = 3
"""Clips that are named where two runs differ."""


@dataclass(frozen=True)
class Member:
    """A run and the stores that it was trained from."""

    folder: RunFolder
    """The run."""
    source: Joined
    """The stores."""
    epoch: int
    """The epoch whose weights vote."""
    clips: Clips
    """Its test side, positions in the store in the order of the clips' ids."""
    unscored: tuple[str, ...]
    """Clips of its test side without values."""

    @property
    def split(self) -> str:
        """Its split."""
        return self.folder.data.split

    @property
    def ids(self) -> tuple[str, ...]:
        """Its test side."""
        return tuple(self.source.ids[c] for c in self.clips)

    @property
    def labels(self) -> tuple[str, ...]:
        """Their classes."""
        return tuple(self.source.labels[c] for c in self.clips)


def ensemble(
    runs: Sequence[tuple[Path, FeatureSource | Joined]], *, vote: Vote = "majority", device: str = "auto"
) -> EnsembleReport:
    """Score several runs together on the test side of their split.

    Each run decides on each clip, by the vote of its patches where it sees patches; then the runs vote, each with the
    weights of its selected epoch. Runs of all folds of one cross-validation, the same models in each, vote fold by
    fold, and the report is of all their clips.

    Parameters
    ----------
    runs : sequence of (Path, FeatureSource or Joined)
        Run folders, each with what it was trained from.
    vote : str
        ``majority``: the class that most runs decide for, ties to the larger sum of their probabilities; ``mean``: the
        largest mean of their probabilities.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.

    Raises
    ------
    RunError
        When there are fewer than two runs or one is named twice, one has no checkpoint yet, or they differ in split,
        classes, test clips or labels, or folds in their models; with what differs.
    StoreMismatch
        When a store is not the one that a run was trained from.
    """
    members = [_member(path, source) for path, source in runs]
    _require_several(members)
    by_split = _by_split(members)
    _require_alike(by_split)
    said = {m.folder.path: _said(m, device) for m in members}
    return _report(by_split, said, vote)


def decided(probabilities: Sequence[Probabilities], vote: Vote) -> npt.NDArray[np.int64]:
    """Class numbers of clips, ``(n,)``, of what each run says of them, ``(n, K)``: as patches vote, so do runs."""
    together = torch.from_numpy(np.stack(probabilities, axis=1)).double()
    return np.asarray(voted(together, vote).argmax(dim=1).numpy())


def _member(path: Path, source: FeatureSource | Joined) -> Member:
    folder, source = RunFolder(path), joined(source)
    require_same_stores(folder, source)
    progress = folder.trained()
    side = source.sides(folder.data.split) == "test"
    clips = np.array(sorted(np.flatnonzero(side & source.usable), key=lambda c: source.ids[c]), dtype=np.int64)
    unscored = tuple(source.ids[c] for c in np.flatnonzero(side & ~source.usable))
    return Member(folder, source, progress.selected, clips, unscored)


def _said(member: Member, device: str) -> Probabilities:
    """Class probabilities of a run's test side, ``(n, K)``."""
    folder = member.folder
    scorer = recipes.trainer(folder.recipe).scorer(folder, member.epoch, choose(device))
    return predicted(scorer, member.source, member.clips, folder.data.classes)


def _by_split(members: Sequence[Member]) -> dict[str, list[Member]]:
    """Runs of each split; of each fold in the order of the first fold's models.

    Raises
    ------
    RunError
        When there are several splits and they are not all folds of one cross-validation.
    """
    found: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        found[member.split].append(member)
    named = [fold(split) for split in found]
    whole = {one.count for one in named if one} == {len(found)} and None not in named
    if len(found) > 1 and not whole:
        raise RunError(
            "These runs were not trained on one split.",
            differences=[
                Difference(field=f"split of {m.folder.path}", expected=members[0].split, found=m.split)
                for m in members
                if m.split != members[0].split
            ],
            todo="Name runs of one split, or of every fold of a cross-validation, such as location5_1 to location5_5.",
        )
    return dict(sorted(found.items()))


def _require_several(members: Sequence[Member]) -> None:
    times = Counter(str(m.folder.path.resolve()) for m in members)
    again = [Difference(field=path, expected="once", found=f"{n} times") for path, n in times.items() if n > 1]
    few = [Difference(field="runs", expected="at least 2", found=str(len(members)))] if len(members) < 2 else []
    tags = [Difference(field=m.folder.path.name, expected="classes", found="tags") for m in members if _tags(m)]
    if few or again or tags:
        todo = "Name several runs, each once, that take each clip for one class."
        raise RunError("These runs cannot vote.", differences=[*few, *again, *tags], todo=todo)


def _tags(member: Member) -> bool:
    return member.folder.recipe.tags


def _require_alike(by_split: Mapping[str, Sequence[Member]]) -> None:
    """Refuse runs that know other classes, were tested on other clips, or are other models in another fold."""
    all_first = next(iter(by_split.values()))[0]
    problems: list[Difference] = []
    for members in by_split.values():
        for other in members:
            problems += _classes_apart(all_first, other)
        for other in members[1:]:
            problems += _clips_apart(members[0], other)
    problems += _folds_apart(all_first, by_split) or _models_apart(by_split)
    if problems:
        raise RunError(
            "These runs cannot vote, for they do not answer the same question.",
            differences=problems,
            todo="Name runs that were trained and tested on the same clips of one dataset.",
        )


def _classes_apart(first: Member, other: Member) -> list[Difference]:
    ours, theirs = first.folder.data.classes, other.folder.data.classes
    if ours == theirs:
        return []
    return [Difference(field=f"classes of {other.folder.path}", expected=", ".join(ours), found=", ".join(theirs))]


def _clips_apart(first: Member, other: Member) -> list[Difference]:
    """Clips that one of two runs is tested on, or that have another label for each."""
    ours, theirs = (dict(zip(m.ids, m.labels, strict=True)) for m in (first, other))
    apart = [clip for clip in sorted(ours.keys() | theirs.keys()) if ours.get(clip) != theirs.get(clip)]
    where = f"tested by {other.folder.path}"
    rows = [
        Difference(field=f"{clip} {where}", expected=ours.get(clip, "not tested"), found=theirs.get(clip, "not tested"))
        for clip in apart[:SAID]
    ]
    more = len(apart) - SAID
    return [*rows, Difference(field=where, expected="as before", found=f"{more} clips more")] if more > 0 else rows


def _folds_apart(first: Member, by_split: Mapping[str, Sequence[Member]]) -> list[Difference]:
    """Clips that are tested in several folds, or that the first run's store does not hold: folds of other datasets."""
    tested = Counter(clip for members in by_split.values() for clip in members[0].ids)
    twice = [clip for clip, times in tested.items() if times > 1]
    strange = sorted(tested.keys() - {*first.source.ids})
    return [
        Difference(field=clip, expected=expected, found=found)
        for clips, expected, found in ((twice, "in one fold", "in several"), (strange, "in every store", "in some"))
        for clip in clips[:SAID]
    ]


def _models_apart(by_split: Mapping[str, Sequence[Member]]) -> Iterator[Difference]:
    """What the models of a fold are made of that those of the first fold are not."""
    (name, first), *others = by_split.items()
    for split, members in others:
        if len(members) != len(first):
            yield Difference(field=f"runs of {split}", expected=f"{len(first)}, as of {name}", found=str(len(members)))
            continue
        for one, other in zip(_ordered(first), _ordered(members), strict=True):
            ours, theirs = ({"recipe": m.folder.recipe.name, **m.folder.recipe.hyper_parameters} for m in (one, other))
            yield from differences(ours, theirs, f"{other.folder.path}:")


def _ordered(members: Sequence[Member]) -> list[Member]:
    """The runs of a split, the same models in the same order in every fold."""
    return sorted(members, key=lambda m: (m.folder.recipe.name, m.folder.recipe.fingerprint))


def _report(by_split: dict[str, list[Member]], said: Mapping[Path, Probabilities], vote: Vote) -> EnsembleReport:
    if len(by_split) > 1:
        by_split = {split: _ordered(members) for split, members in by_split.items()}
    first = next(iter(by_split.values()))[0]
    models = [[members[i] for members in by_split.values()] for i in range(len(next(iter(by_split.values()))))]
    guess = np.concatenate([decided([said[m.folder.path] for m in members], vote) for members in by_split.values()])
    scores = _pooled([members[0] for members in by_split.values()], first, guess)
    words, value = headline(first.folder.recipe.headline_devices, scores)
    known = ensembles.of([folds[0].folder.recipe.name for folds in models], vote)
    measured = _measured(by_split, first)
    return EnsembleReport(
        vote=vote,
        dataset=first.folder.data.dataset,
        dataset_kind=measured.kind,
        split=measured.split,
        headline=words,
        headline_accuracy=value,
        scores=scores,
        models=tuple(_alone(folds, first, said) for folds in models),
        voters=tuple(_voter(m, said) for members in by_split.values() for m in members),
        unscored=tuple(clip for members in by_split.values() for clip in members[0].unscored),
        published=known.title if known else "",
        claims=tuple(beside(claim, scores, measured) for claim in known.claims) if known else (),
    )


def _pooled(folds: Sequence[Member], first: Member, guess: npt.NDArray[np.int64]) -> Accuracies:
    """Accuracies over the test sides of some runs, one a fold, one after the other."""
    at = {clip: i for i, clip in enumerate(first.source.ids)}
    clips = np.array([at[clip] for member in folds for clip in member.ids], dtype=np.int64)
    data, devices = first.folder.data, first.folder.recipe.headline_devices
    return accuracies(first.source, clips, guess, data.classes, devices)


def _alone(folds: Sequence[Member], first: Member, said: Mapping[Path, Probabilities]) -> Alone:
    """One model in all folds."""
    found = _pooled(folds, first, np.concatenate([said[m.folder.path].argmax(axis=1) for m in folds]))
    return Alone(recipe=folds[0].folder.recipe.name, overall=found.overall, class_mean=found.class_mean)


def _voter(member: Member, said: Mapping[Path, Probabilities]) -> Voter:
    found = _pooled([member], member, said[member.folder.path].argmax(axis=1))
    return Voter(
        run=str(member.folder.path),
        provenance=provenance(member.folder),
        epoch=member.epoch,
        overall=found.overall,
        class_mean=found.class_mean,
    )


def _measured(by_split: Mapping[str, Sequence[Member]], first: Member) -> Measured:
    """The clips of one split, or of all folds together."""
    of = [Measured.of(m.folder.data, m.folder.recipe) for members in by_split.values() for m in members]
    one = replace(of[0], changed=tuple(dict.fromkeys(key for each in of for key in each.changed)))
    together = fold(first.split)
    if len(by_split) == 1 or together is None:
        return one
    return replace(one, split=together.together, tested=sum(len(members[0].clips) for members in by_split.values()))
