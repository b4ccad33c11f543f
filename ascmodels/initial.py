"""Weights that training starts from: a file of them or a run, held against the new network key by key."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ascmodels import recipes
from ascmodels.checkpoint import DATA, RunFolder
from ascmodels.families.base import Family
from ascmodels.inputs import Input
from ascmodels.trainers.base import Trainer
from ascmodels.weights import WEIGHTS, read_foreign, read_weights, sha256
from ascschemas.problems import Difference, RecipeError, RunError
from ascschemas.run import Initial, RunData
from ascschemas.training import TrainingRecipe

State = Mapping[str, Tensor]
"""A state dict: tensors by key."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
"""Endings of files that weights are read from; all but the first are what ``torch.save`` writes."""
NESTS = ("state_dict", "model")
"""Keys under which files keep their state dict beside other things."""
DEEPEST = 8
"""How many such keys may lie one under the other."""
WRAPPERS = ("module.", "model.")
"""What wrappers put before every key of a network."""
OURS, NORMALISERS = "network.", "normalisers."
"""What our own checkpoints put before the keys of a network, and before those of the statistics beside it."""
COUNTERS = ".num_batches_tracked"
"""End of keys that files of old versions of torch lack."""
LISTED = 6
"""Keys that an error names."""


@dataclass(frozen=True)
class Beginning:
    """What the network of a run starts from."""

    said: Initial | None = None
    """What the run keeps of it; none where all weights are drawn."""
    weights: State = field(default_factory=dict)
    """By the keys of the network, in its shapes and types; the rest is drawn. Empty, too, for a run that goes on."""
    words: str = ""
    """The same for people."""


@dataclass(frozen=True)
class Given:
    """Weights as they were found."""

    path: Path
    """A file, or a run folder."""
    sha256: str
    """Of the file."""
    state: State
    """As they were found."""
    classes: tuple[str, ...] | None = None
    """What its outputs stand for; none where nothing says so."""
    epoch: int | None = None
    """Of a run, the selected epoch."""


def begin(path: Path | None, out: Path, recipe: TrainingRecipe, data: RunData) -> Beginning:
    """What a run starts from.

    A run that has checkpoints goes on from them, and does not need the file that it once started from.

    Parameters
    ----------
    path : Path, optional
        A file of weights or a run folder; nothing where all weights are drawn.
    out : Path
        The folder of the run.
    recipe : TrainingRecipe
        What is trained, every default written out.
    data : RunData
        Which stores and classes it is trained on.

    Raises
    ------
    RunError
        When there are no weights, they cannot be read, or do not fit the network (the first keys and both shapes).
    RecipeError
        When the trainer does not start from weights.
    """
    if path is None:
        return Beginning()
    _require_starting(recipes.trainer(recipe), recipe.trainer.kind)
    before = _before(out)
    if before and not _mode(path) and before.path == str(path.absolute()):
        return Beginning(before)
    given, family = read(path), recipes.family(recipe)
    with torch.random.fork_rng(devices=[]):
        seen = tuple(Input.of(store.header).seen for store in data.stores)
        fresh = family.build(seen, len(data.classes)).state_dict()
    return fitted(given, family, fresh, data.classes)


def read(path: Path) -> Given:
    """The weights of a network from a file, or of a run's selected epoch.

    Raises
    ------
    RunError
        When there are none, or they cannot be read.
    """
    if stat.S_ISDIR(_mode(path)):
        return _of_run(path)
    if not stat.S_ISREG(_mode(path)):
        raise RunError(f"There are no weights in {path}.", todo="Give a file of weights, or a run folder.")
    if path.suffix not in SUFFIXES:
        raise RunError(
            f"{path} is no file of weights by its name.",
            differences=[Difference(field="suffix", expected=", ".join(SUFFIXES), found=path.suffix or "none")],
            todo="Give such a file, or a run folder.",
        )
    state = _plain(path, read_foreign(path))
    return Given(path, sha256(path), state)


def fitted(given: Given, family: Family, fresh: State, classes: tuple[str, ...]) -> Beginning:
    """What of given weights a new network starts with: all that belongs to it, and to its classes if they are its own.

    The head of a file, which says nothing of its classes, stays as it was drawn.

    Parameters
    ----------
    given : Given
        The weights.
    family : Family
        Which says what its head is, and translates foreign keys.
    fresh : mapping of str to Tensor
        The state dict of a new network.
    classes : tuple of str
        What its outputs stand for.

    Raises
    ------
    RunError
        When anything but the head is missing, unknown or of another shape, or nothing would be taken, or values are
        not finite.
    """
    head = () if given.classes == classes else family.head
    new = {key for key in fresh if key.startswith(head)}
    _require_head(given, family, classes)
    found = family.adapted(_unwrapped(given.state, fresh))
    offered = {key: value for key, value in found.items() if not key.startswith(head)}
    wanted = {k: v for k, v in fresh.items() if k not in new and (k in offered or not k.endswith(COUNTERS))}
    _require_fit(given, wanted, offered)
    taken = {key: offered[key].to(value.dtype) for key, value in wanted.items()}
    _require_some(given, taken)
    _require_finite(given, taken)
    said = Initial(
        path=str(given.path.absolute()), sha256=given.sha256, epoch=given.epoch, taken=len(taken), replaced=len(new)
    )
    return Beginning(said, taken, _words(given, said, family))


def _words(given: Given, said: Initial, family: Family) -> str:
    of = str(given.path) if given.epoch is None else f"{given.path}, epoch {given.epoch}"
    head = ", ".join(prefix.rstrip(".") for prefix in family.head)
    new = f"; the head ({head}) is new" if said.replaced else ""
    return f"Starting from {of}: {said.taken} tensors taken{new}."


def _before(out: Path) -> Initial | None:
    """What a run that has checkpoints once started from."""
    if (out / DATA).is_file() and RunFolder.has_checkpoints(out):
        return RunFolder(out).data.initial
    return None


def _mode(path: Path) -> int:
    """What lies there; 0 where nothing does, or nothing that may be looked at."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _of_run(path: Path) -> Given:
    folder = RunFolder(path)
    epoch = folder.trained().selected
    checkpoint = folder.checkpoint(epoch)
    state = read_weights(checkpoint)
    return Given(path, sha256(checkpoint / WEIGHTS), state, folder.data.classes, epoch)


def _plain(path: Path, held: Any) -> State:
    """The state dict in what a file holds.

    Raises
    ------
    RunError
        When there is none.
    """
    for _ in range(DEEPEST):  # a pickle may hold itself
        nest = next((n for n in NESTS if isinstance(held, Mapping) and isinstance(held.get(n), Mapping)), None)
        held = held if nest is None else held[nest]
    found = type(held).__name__
    if isinstance(held, Mapping):
        strange = [(k, v) for k, v in held.items() if not _is_dense(v)]
        if held and not strange:
            return {str(key): value.detach() for key, value in held.items()}
        found = f"{strange[0][0]}: {type(strange[0][1]).__name__}" if strange else "nothing"
    raise RunError(
        f"{path} does not hold a state dict.",
        differences=[Difference(field="file", expected="dense tensors by key", found=found)],
        todo="Save network.state_dict() alone, or under one of the keys " + ", ".join(NESTS) + ".",
    )


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _unwrapped(state: State, fresh: State) -> State:
    """Without what wrappers put before every key; of our own checkpoints, the network without its normalisation."""
    if all(key.startswith((OURS, NORMALISERS)) for key in state):
        return {key.removeprefix(OURS): value for key, value in state.items() if key.startswith(OURS)}
    while not state.keys() & fresh.keys():  # a network may have a part of such a name itself
        prefix = next((w for w in WRAPPERS if all(key.startswith(w) for key in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _require_starting(trainer: Trainer, kind: str) -> None:
    if not trainer.starts_from_weights:
        raise RecipeError(
            f"The trainer {kind} does not start from given weights.",
            differences=[Difference(field="trainer.kind", expected="supervised or lightning", found=kind)],
            todo="Leave out --init, or take another --trainer and a family that is a network.",
        )


def _require_head(given: Given, family: Family, classes: tuple[str, ...]) -> None:
    if given.classes in (None, classes) or family.head:
        return
    raise RunError(
        f"{given.path} was trained on other classes, and its family does not say which weights belong to them.",
        differences=[Difference(field="classes", expected=", ".join(classes), found=", ".join(given.classes or ()))],
        todo="Start from a run of the same classes, or name the keys in the family's `head`.",
    )


def _require_fit(given: Given, wanted: State, offered: State) -> None:
    apart = list(_misfits(wanted, offered))
    if apart:
        more = f" {len(apart) - LISTED} more differ." if len(apart) > LISTED else ""
        raise RunError(
            f"{given.path} holds the weights of another architecture.",
            differences=_told(apart),
            todo=f"Give weights of this network, or set the family's parameters as theirs were.{more}",
        )


def _misfits(wanted: State, offered: State) -> Iterator[Difference]:
    for key, value in wanted.items():
        if key not in offered:
            yield Difference(field=key, expected=_shape(value), found="absent")
        elif offered[key].shape != value.shape:
            yield Difference(field=key, expected=_shape(value), found=_shape(offered[key]))
        elif offered[key].is_floating_point() != value.is_floating_point():
            yield Difference(field=key, expected=str(value.dtype), found=str(offered[key].dtype))
    yield from (Difference(field=k, expected="absent", found=_shape(v)) for k, v in offered.items() if k not in wanted)


def _told(apart: list[Difference]) -> list[Difference]:
    """The first misfits, and among them one that only the file has: by it a person sees how its keys are called."""
    first, own = apart[:LISTED], next((d for d in apart if d.expected == "absent"), None)
    return first if own is None or own in first else [*first[:-1], own]


def _shape(value: Tensor) -> str:
    return str(tuple(value.shape))


def _require_some(given: Given, taken: State) -> None:
    if not any(value.is_floating_point() for value in taken.values()):
        raise RunError(
            f"Nothing of {given.path} would be used: all weights of this network belong to its classes.",
            todo="Leave out --init, or start from a run of the same classes.",
        )


def _require_finite(given: Given, taken: State) -> None:
    bad = [key for key, value in taken.items() if not value.isfinite().all()]
    if bad:
        raise RunError(
            f"{given.path} holds weights that are not finite.",
            differences=[Difference(field=key, expected="numbers", found="NaN or infinity") for key in bad[:LISTED]],
            todo="Give weights of a training that has not failed.",
        )
