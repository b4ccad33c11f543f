"""What every trainer must keep, as a test class that the author of a trainer fills in."""

# ruff: noqa: D102 - the names of the tests are sentences

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ascfeat.store import Store, open_store
from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.testing.stores import make_store, small_recipe
from ascmodels.training import train
from ascmodels.watching import Moment, Watcher
from ascschemas.run import EpochRecord
from ascschemas.training import TrainingRecipe


class Interrupting(Watcher):
    """Somebody who presses Ctrl-C after some epochs."""

    def __init__(self, after: int) -> None:
        self.after = after

    def epoch(self, row: EpochRecord, *, selected: bool) -> None:
        """Interrupt."""
        if row.epoch == self.after:
            raise KeyboardInterrupt


class Ending(Watcher):
    """Somebody who does something in the middle of an epoch: ends the process, say, or the run."""

    def __init__(self, epoch: int, how: Callable[[], object]) -> None:
        self.epoch_to_end, self.how = epoch, how

    def batch(self, moment: Moment) -> None:
        """Do it after the second batch."""
        if (moment.epoch, moment.batch) == (self.epoch_to_end, 2):
            self.how()


class Notes(Watcher):
    """Somebody who writes everything down."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.moments: list[Moment] = []

    def note(self, text: str) -> None:
        """Write down words."""
        self.notes.append(text)

    def batch(self, moment: Moment) -> None:
        """Write down a batch."""
        self.moments.append(moment)


class TrainerContract:
    """Tests of one trainer. Subclass it with a name that pytest collects, and say ``kind``.

    Examples
    --------
    >>> class TestMine(TrainerContract):
    ...     kind = "mine"
    """

    kind: ClassVar[str]
    """Name of the trainer's entry point."""

    def recipe(self) -> TrainingRecipe:
        """A short training of a small network; override it where the trainer needs other values."""
        settings = [f"trainer.kind={self.kind}", "selection.side=last", "selection.fraction=0", "batch_size=8"]
        return recipes.override(small_recipe(), settings)

    def store(self, tmp_path: Path) -> Store:
        """A small sealed store, the same one within a test."""
        path = tmp_path / "made" / "made_up.zarr"
        return open_store(path) if path.exists() else make_store(path)

    def run(self, tmp_path: Path, name: str, *, watch: Watcher | None = None, resume: bool = False) -> RunFolder:
        """Train into a folder of that name."""
        out = tmp_path / "runs" / name
        train(self.recipe(), self.store(tmp_path), out, device="cpu", watch=watch, resume=resume)
        return RunFolder(out)

    def scores(self, tmp_path: Path, folder: RunFolder) -> npt.NDArray[np.float32]:
        """Class probabilities of every clip of the store, from the selected epoch."""
        store = self.store(tmp_path)
        scorer = recipes.trainer(folder.recipe).scorer(folder, folder.progress().selected, torch.device("cpu"))
        return scorer([torch.from_numpy(store.read(range(len(store.ids))))]).numpy()

    def test_a_finished_run_says_so_and_keeps_its_selected_epoch(self, tmp_path: Path) -> None:
        folder = self.run(tmp_path, "one")
        assert folder.finished is not None
        assert folder.finished.selected in folder.epochs()
        assert folder.progress().epoch == folder.finished.last

    def test_scores_are_probabilities_and_better_than_chance(self, tmp_path: Path) -> None:
        folder = self.run(tmp_path, "one")
        scores, labels = self.scores(tmp_path, folder), self.store(tmp_path).labels
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
        right = scores.argmax(axis=1) == [folder.data.classes.index(label) for label in labels]
        assert right.mean() > 1.5 / len(folder.data.classes)

    def test_the_same_seed_gives_the_same_bits(self, tmp_path: Path) -> None:
        one, two = (self.scores(tmp_path, self.run(tmp_path, name)) for name in ("one", "two"))
        np.testing.assert_array_equal(one, two)

    def test_an_interrupted_run_goes_on_to_the_same_bits(self, tmp_path: Path) -> None:
        whole = self.run(tmp_path, "whole")
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, "cut", watch=Interrupting(after=1))
        cut = self.run(tmp_path, "cut", resume=True)
        np.testing.assert_array_equal(self.scores(tmp_path, whole), self.scores(tmp_path, cut))
