"""Which clips train, which choose, which test: a store's split, its validation side, and what forbids training."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ascmodels.randomness import generator
from ascmodels.source import Clips, ClipTable
from ascschemas.problems import Difference, RunError
from ascschemas.training import BinaryCrossEntropy, TrainingRecipe


@dataclass(frozen=True)
class Sides:
    """The clips of a run, as positions in the store, in store order."""

    train: Clips
    """Clips that weights are fitted to."""
    validation: Clips
    """Clips held off the training side; empty where none are."""
    test: Clips
    """Clips of the test side."""
    excluded: Clips
    """Clips of either side that hold no values."""
    held_off: tuple[str, ...]
    """Locations (or segments, or clips) that make the validation side."""

    def watched(self, recipe: TrainingRecipe) -> Clips:
        """The clips scored after each epoch."""
        return self.test if recipe.selection.side == "test" else self.validation


def divide(source: ClipTable, split: str, recipe: TrainingRecipe, *, examples: int = 1, batched: bool = True) -> Sides:
    """Take a store's clips apart by a split, and hold a validation side off the training side.

    Parameters
    ----------
    source : ClipTable
        A sealed store, or several joined.
    split : str
        One of its splits.
    recipe : TrainingRecipe
        Its selection says how much is held off; its seed says which.
    examples : int
        Examples that a clip gives: its patches.
    batched : bool
        Whether the trainer takes steps by batches, of which one must be full.

    Raises
    ------
    StoreError
        When the store has no such split.
    RunError
        When the clips cannot be trained on; every reason is listed.
    """
    side = source.sides(split)
    whole, test = (np.flatnonzero((side == s) & source.usable) for s in ("train", "test"))
    excluded = np.flatnonzero((side != "unused") & ~source.usable)
    problems = list(_strange_devices(source, whole, recipe))
    whole = whole[[not recipe.train_devices or source.devices[c] in recipe.train_devices for c in whole]]
    problems += list(_problems(source, whole, test, recipe.classes_of))
    held: set[str] = set()
    if recipe.selection.holds_off and not problems:
        other = second_head(recipe)
        some = whole[[source.devices[c] != other for c in whole]] if other else whole
        held = held_off(source, some, recipe.selection.fraction, recipe.seed, recipe.classes_of)
    inside = np.array([group_of(source, int(c)) in held for c in whole], dtype=np.bool_)
    train = whole[~inside]
    problems += [] if problems or not batched else _small(len(train) * examples, recipe)
    if problems:
        raise RunError(
            f"The split {split} of {source.place} cannot be trained on.",
            differences=problems,
            todo=f"Train with --set batch_size={max(1, len(train) * examples)}, or fewer, or with more clips."
            if all(p.field == "batch_size" for p in problems)
            else "Choose another split or dataset, or correct what the lines above name and extract again.",
        )
    return Sides(train, whole[inside], test, excluded, tuple(sorted(held)))


def group_of(source: ClipTable, clip: int) -> str:
    """What a clip shares with the clips that must stay on its side: its location, or its segment, or nothing."""
    return source.locations[clip] or source.segments[clip] or source.ids[clip]


def second_head(recipe: TrainingRecipe) -> str | None:
    """The device whose clips a second head of the network learns; they choose no epoch."""
    spec = recipe.objective
    return spec.second_head if isinstance(spec, BinaryCrossEntropy) else None


def one_class(label: str) -> tuple[str, ...]:
    """A label is a class."""
    return (label,)


def held_off(
    source: ClipTable,
    clips: Clips,
    fraction: float,
    seed: int,
    classes_of: Callable[[str], tuple[str, ...]] = one_class,
) -> set[str]:
    """Choose whole groups that make about ``fraction`` of each class.

    Per class, in alphabetical order, groups are taken in random order while each brings the class nearer to its
    share. A class of several groups gives at least its smallest one; a class of one group keeps it.

    Parameters
    ----------
    source : ClipTable
        Where labels, locations and segments are.
    clips : array of int
        The training side.
    fraction : float
        Share of each class, 0 to 0.5.
    seed : int
        Decides which groups.
    classes_of : callable
        From a label to the classes that it names; a clip with several tags counts for each.

    Returns
    -------
    set of str
        Groups to hold off, as ``group_of`` names them. Parallel recordings share their location, or their segment,
        and so stay together.
    """
    by_class: dict[str, Counter[str]] = defaultdict(Counter)
    for clip in clips:
        for name in classes_of(source.labels[clip]):
            by_class[name][group_of(source, clip)] += 1
    held: set[str] = set()
    for number, label in enumerate(sorted(by_class)):
        order = generator(seed, "validation", number).permutation(sorted(by_class[label]))
        held |= _take(label, [str(g) for g in order], by_class, held, fraction)
    return held


def _take(label: str, order: list[str], by_class: dict[str, Counter[str]], held: set[str], fraction: float) -> set[str]:
    """Groups to hold off for one class, besides those that other classes have taken already."""
    sizes, taken = by_class[label], set[str]()
    target, have = fraction * sizes.total(), sum(sizes[g] for g in held)
    free = [g for g in order if g not in held]
    for group in free:
        if abs(have + sizes[group] - target) < abs(have - target) and _leaves_clips(by_class, held | taken | {group}):
            taken.add(group)
            have += sizes[group]
    smallest = min(free, key=lambda g: sizes[g], default="")
    if not have and smallest and _leaves_clips(by_class, held | {smallest}):
        taken.add(smallest)
    return taken


def _leaves_clips(by_class: dict[str, Counter[str]], held: set[str]) -> bool:
    """Whether every class keeps a group to train on."""
    return all(sizes.keys() - held for sizes in by_class.values())


def _problems(
    source: ClipTable, train: Clips, test: Clips, classes_of: Callable[[str], tuple[str, ...]]
) -> Iterator[Difference]:
    for name, clips in (("training side", train), ("test side", test)):
        if not len(clips):
            yield Difference(field=name, expected="usable clips", found="none")
    unlabelled = [source.ids[c] for c in (*train, *test) if not classes_of(source.labels[c])]
    if unlabelled:
        yield Difference(field="labels", expected="one for every clip", found=_listed(unlabelled, "clips without"))
    trained, tested = ({name for c in side for name in classes_of(source.labels[c])} for side in (train, test))
    if len(train) and len(trained) < 2:
        yield Difference(field="classes", expected="at least 2", found=", ".join(sorted(trained)) or "none")
    elif tested - trained:
        found = _listed(sorted(tested - trained), "classes only tested")
        yield Difference(field="classes", expected="training clips of every tested class", found=found)


def _strange_devices(source: ClipTable, train: Clips, recipe: TrainingRecipe) -> Iterator[Difference]:
    known = sorted({source.devices[c] for c in train} - {""})
    if strange := sorted({*recipe.train_devices} - {*known}):
        yield Difference(field="train_devices", expected=", ".join(known) or "none named", found=", ".join(strange))
    if "device" in recipe.sampler and len(train) and not known:
        found = "clips whose devices are unknown"
        yield Difference(field="sampler", expected="each or class", found=f"{recipe.sampler}, and {found}")


def _small(examples: int, recipe: TrainingRecipe) -> list[Difference]:
    if examples >= recipe.batch_size:
        return []
    most = f"at most {examples} (clips to train on, or their patches)"
    return [Difference(field="batch_size", expected=most, found=str(recipe.batch_size))]


def _listed(names: Sequence[str], what: str) -> str:
    more = f", and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} {what}: {', '.join(names[:3])}{more}"
