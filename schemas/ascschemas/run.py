"""What a run folder says of itself: its data, its environment, its progress, and how it ended."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ascschemas.base import Frozen
from ascschemas.store import StoreHeader
from ascschemas.units import Count, Digest, Name, Size


class RunStore(Frozen):
    """A store that a run trains from."""

    path: str
    """Where it lay; it may have moved since, its digest tells."""
    header: StoreHeader
    """Its description, enough to make the same features from audio again."""
    digest: Digest
    """Digest of its seal."""


class Initial(Frozen):
    """Given weights that the network of a run started from."""

    path: str
    """Where they lay: a file, or a run folder."""
    sha256: Digest
    """SHA-256 of the file."""
    epoch: Size | None = None
    """Of a run, the epoch: its selected one. None where they came from a file."""
    taken: Size
    """Tensors of the network that started from them."""
    replaced: Count
    """Tensors of its head that were drawn anew, for other classes or unknown ones."""


class RunData(Frozen):
    """``data.json``: which clips of which stores the run trains on."""

    stores: Annotated[tuple[RunStore, ...], Field(min_length=1)]
    """The stores, in the order in which the recipe names their features; the first one's clips are counted."""
    split: Name
    """Name of the split."""
    classes: tuple[str, ...]
    """Labels in alphabetical order; the network's outputs are in this order."""
    clips: dict[str, Count]
    """Clips on each side (``train``, ``validation``, ``test``), and those left out (``excluded``)."""
    held_off: tuple[str, ...]
    """What was split off the training side for validation: locations, or segments where the dataset names none."""
    normalisation: str
    """Where the normalisation's statistics come from, in words."""
    initial: Initial | None = None
    """What the network started from; none where all its weights were drawn."""

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.stores[0].header.dataset

    @property
    def dataset_kind(self) -> str:
        """Its loader."""
        return self.stores[0].header.dataset_kind


class Session(Frozen):
    """One start of the program on a run; a resumed run has several."""

    device: str
    """Where the network was trained."""
    threads: Size
    """Threads of torch; results on a CPU repeat bit for bit only with the same number."""
    processes: Size = 1
    """Processes that trained together."""
    placement: str
    """Where features were read from during training: ``device``, ``ram`` or ``stream``."""
    platform: str
    """Operating system and processor."""
    software: dict[str, str]
    """Versions of the software that can change a value."""


class Environment(Frozen):
    """``environment.json``: what the run was computed with."""

    sessions: tuple[Session, ...]
    """Every start of the program, in order."""


class EpochRecord(Frozen):
    """One line of ``curves.csv``."""

    epoch: Size
    """The epoch, counted from 1."""
    loss: float
    """Mean training loss over the epoch's batches, augmentation included."""
    accuracy: float
    """Share of training clips whose largest output is their largest (mixed) label; of tags, lwlrap (of all that are
    mixed in)."""
    watched_loss: float | None = None
    """Mean loss on the watched side; none where nothing is watched."""
    watched_accuracy: float | None = None
    """Accuracy, or lwlrap, on the watched side; none where nothing is watched."""
    lr: float | None = None
    """Learning rate of the epoch; none where nothing is descended."""
    seconds: float
    """Duration of the epoch, scoring included."""
    clips_per_second: float
    """Training clips a second, scoring not included."""


class Progress(Frozen):
    """``progress.json`` of a checkpoint: how far the run has come."""

    rows: tuple[EpochRecord, ...] = ()
    """One record per finished epoch."""
    selected: Count = 0
    """The epoch whose weights are the result so far; 0 before the first."""

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return len(self.rows)


class Finished(Frozen):
    """``finished.json``: written last, when training is over."""

    last: Size
    """The last epoch."""
    selected: Size
    """The epoch whose weights are the result."""
    stopped: Literal["epochs", "early_stopping"]
    """What ended training."""
