"""The supervised trainer: the same bits again, after an interruption, after kill -9; and honest failures."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ascfeat.store import open_store
from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.testing.stores import make_store
from ascmodels.training import train
from ascmodels.watching import Watcher
from ascschemas.problems import RunError
from ascschemas.training import TrainingRecipe


def weights(out: Path, epoch: int | None = None) -> dict[str, torch.Tensor]:
    folder = RunFolder(out)
    return load_file(folder.checkpoint(epoch or folder.progress().epoch) / "weights.safetensors")


def assert_same_bits(one: Path, two: Path) -> None:
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert RunFolder(one).progress().selected == RunFolder(two).progress().selected


class Ending(Watcher):
    """Somebody who ends the process, or the run, in the middle of an epoch."""

    def __init__(self, epoch: int, how) -> None:
        self.epoch_to_end, self.how = epoch, how

    def batch(self, moment) -> None:
        if (moment.epoch, moment.batch) == (self.epoch_to_end, 2):
            self.how()


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["optimiser.kind=adadelta", "optimiser.lr=0.5", "schedule.kind=plateau", "schedule.patience=0", "epochs=5"],
        ["optimiser.kind=sgd", "optimiser.momentum=0.9", "trainer.channels_last=false", "selection.side=test"],
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path, store, recipe, settings):
    recipe = recipes.override(recipe, settings)
    train(recipe, store, tmp_path / "whole", device="cpu")
    for epoch in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, store, tmp_path / "cut", device="cpu", resume=True, watch=Ending(epoch, interrupt))
    train(recipe, store, tmp_path / "cut", device="cpu", resume=True)
    assert_same_bits(tmp_path / "whole", tmp_path / "cut")


def train_and_die(store: str, recipe: str, out: str) -> None:
    """What the killed process runs."""
    torch.set_num_threads(1)
    die = Ending(2, lambda: os.kill(os.getpid(), signal.SIGKILL))
    train(TrainingRecipe.model_validate_json(recipe), open_store(Path(store)), Path(out), device="cpu", watch=die)


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, store, recipe):
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['train_and_die'](*sys.argv[2:])"
    words = [__file__, str(store.place), recipe.model_dump_json(), str(tmp_path / "cut")]
    dead = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert RunFolder(tmp_path / "cut").progress().epoch == 1
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        train(recipe, store, tmp_path / "cut", device="cpu", resume=True)
        train(recipe, store, tmp_path / "whole", device="cpu")
    finally:
        torch.set_num_threads(threads)
    assert_same_bits(tmp_path / "whole", tmp_path / "cut")


def test_memory_and_stream_train_the_same_weights(tmp_path, store, recipe):
    for place in ("ram", "stream"):
        train(recipe, store, tmp_path / place, device="cpu", placement=place)
    assert_same_bits(tmp_path / "ram", tmp_path / "stream")


def test_another_seed_trains_other_weights_and_no_global_generator_is_touched(tmp_path, store, recipe):
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for seed in (0, 1):
        train(recipes.override(recipe, [f"seed={seed}"]), store, tmp_path / str(seed), device="cpu")
    one, two = (weights(tmp_path / seed)["network.dense.weight"] for seed in "01")
    assert not torch.equal(one, two)
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002


def test_the_order_in_memory_changes_nothing_but_rounding(tmp_path, store, recipe):
    for last in ("true", "false"):
        changed = recipes.override(recipe, [f"trainer.channels_last={last}", "epochs=1"])
        train(changed, store, tmp_path / last, device="cpu")
    one, two = weights(tmp_path / "true"), weights(tmp_path / "false")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-2, atol=1e-3)


def test_it_learns(tmp_path, store, recipe):
    train(recipes.override(recipe, ["epochs=12"]), store, tmp_path / "run", device="cpu")
    rows = RunFolder(tmp_path / "run").progress().rows
    assert rows[-1].loss < 0.7 * rows[0].loss
    assert max(row.watched_accuracy for row in rows) > 0.8


def test_the_plateau_schedule_lowers_the_rate_of_the_next_epoch(tmp_path, store, recipe):
    plateau = ["schedule.kind=plateau", "schedule.patience=1", "epochs=5"]
    still = ["optimiser.lr=1e-12", "augmentation.mixup=none", "family.norm_momentum=1e-6"]
    train(recipes.override(recipe, [*plateau, *still]), store, tmp_path / "run", device="cpu")
    rates = [row.lr for row in RunFolder(tmp_path / "run").progress().rows]
    assert rates == pytest.approx([1e-12, 1e-12, 1e-12, 1e-13, 1e-13])


def test_early_stopping_ends_the_run_and_says_so(tmp_path, store, recipe):
    settings = ["early_stopping=1", "optimiser.lr=1e-12", "epochs=9", "family.norm_momentum=1e-6"]
    done = train(recipes.override(recipe, settings), store, tmp_path / "run", device="cpu")
    assert (done.last, done.selected, done.stopped) == (2, 1, "early_stopping")


def test_a_diverging_run_keeps_its_last_good_checkpoint(tmp_path, store, recipe):
    class Poison(Watcher):
        """Puts NaN into the features, once the first epoch is done."""

        def epoch(self, row, *, selected):
            values[:] = np.nan

    values = store.read(range(72))
    store.read = lambda clips, out: np.copyto(out, values[clips])
    with pytest.raises(RunError) as failed:
        train(recipe, store, tmp_path / "run", device="cpu", placement="stream", watch=Poison())
    text = failed.value.text()
    assert "epoch 2, batch 1 of" in text
    assert "The checkpoint of epoch 1 is kept." in text
    assert "finite features" in text
    assert RunFolder(tmp_path / "run").epochs() == [1]


def test_a_learning_rate_too_high_is_named(tmp_path, store, recipe):
    settings = ["optimiser.kind=sgd", "optimiser.lr=1e30", "augmentation.mixup=none"]
    with pytest.raises(RunError, match="diverged") as failed:
        train(recipes.override(recipe, settings), store, tmp_path / "run", device="cpu")
    assert "--set optimiser.lr" in failed.value.todo
    assert failed.value.differences[0].found in ("nan", "inf")


def test_memory_that_does_not_hold_a_batch_is_said(tmp_path, store, recipe, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ascmodels.trainers.supervised.augment", full)
    with pytest.raises(RunError, match=r"batch_size=8"):
        train(recipe, store, tmp_path / "run", device="cpu")


def test_a_damaged_checkpoint_is_said(tmp_path, store, recipe):
    with pytest.raises(KeyboardInterrupt):
        train(recipe, store, tmp_path / "run", device="cpu", watch=Ending(2, interrupt))
    for name in ("weights.safetensors", "state.pt"):
        file = RunFolder(tmp_path / "run").checkpoint(1) / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RunError, match=f"{name} cannot be loaded"):
            train(recipe, store, tmp_path / "run", device="cpu", resume=True)
        file.write_bytes(whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_trains_like_a_cpu(tmp_path, recipe):
    store = make_store(tmp_path / "features" / "scenes" / "made_up.zarr")
    for device in ("cpu", "cuda"):
        train(recipes.override(recipe, ["epochs=1"]), store, tmp_path / device, device=device)
    one, two = (RunFolder(tmp_path / d).progress().rows[0] for d in ("cpu", "cuda"))
    assert one.loss == pytest.approx(two.loss, rel=1e-3)
