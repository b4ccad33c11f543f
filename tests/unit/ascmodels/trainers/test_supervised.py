"""The supervised trainer: the same bits again, after an interruption, after kill -9; and honest failures."""

import os
import shutil
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
from ascmodels.descent import Descent
from ascmodels.evaluate import evaluate
from ascmodels.testing.stores import layout, make_store, scene_clips
from ascmodels.testing.trainers import Ending
from ascmodels.training import train
from ascmodels.watching import Watcher
from ascschemas.problems import ProcessError, RecipeError, RunError
from ascschemas.recipe import Patches
from ascschemas.training import TrainingRecipe


def weights(out: Path, epoch: int | None = None) -> dict[str, torch.Tensor]:
    folder = RunFolder(out)
    return load_file(folder.checkpoint(epoch or folder.progress().epoch) / "weights.safetensors")


def assert_same_bits(one: Path, two: Path) -> None:
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert RunFolder(one).progress().selected == RunFolder(two).progress().selected


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
    settings = ["optimiser.kind=sgd", "optimiser.lr=1000", "augmentation.mixup=none"]
    with pytest.raises(RunError, match="diverged") as failed:
        train(recipes.override(recipe, settings), store, tmp_path / "run", device="cpu")
    assert "--set optimiser.lr=0.01," in failed.value.todo  # the usual, and not a tenth of what is far above it
    assert failed.value.differences[0].found in ("nan", "inf")


def test_memory_that_does_not_hold_a_batch_is_said(tmp_path, store, recipe, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ascmodels.trainers.supervised.prepared", full)
    for settings, advice in (
        ([], "--set trainer.accumulate=8 into a new folder: the same batches, computed 2 at a time"),
        (["trainer.accumulate=8"], "trainer.accumulate=16"),
        (["trainer.accumulate=16"], "smaller network"),
    ):
        with pytest.raises(ProcessError, match="A batch of 16 clips") as failed:
            train(recipes.override(recipe, settings), store, tmp_path / "run", device="cpu")
        assert advice in failed.value.todo
    cut = make_store(tmp_path / "scenes" / "made_up.zarr", shape=layout(frames=64), patches=Patches(width=32, hop=16))
    with pytest.raises(ProcessError, match="A batch of 16 patches"):
        train(recipe, cut, tmp_path / "patches", device="cpu")


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


def test_parts_of_a_batch_make_the_step_of_the_whole(tmp_path, store, recipe):
    """Of a network without batch norms, whose statistics are each part's own."""
    steady = ["family.kind=pooled", "epochs=2", "optimiser.kind=sgd"]
    for name, parts in (("whole", 1), ("parts", 3)):
        asked = recipes.override(recipe, [*steady, f"trainer.accumulate={parts}"])
        train(asked, store, tmp_path / name, device="cpu")
    whole, parts = (RunFolder(tmp_path / name) for name in ("whole", "parts"))
    for a, b in zip(whole.progress().rows, parts.progress().rows, strict=True):
        assert b.loss == pytest.approx(a.loss, rel=1e-5)
    other = weights(tmp_path / "parts")
    for key, values in weights(tmp_path / "whole").items():
        torch.testing.assert_close(other[key], values, rtol=1e-5, atol=1e-6)


def test_half_precision_learns_too_and_goes_on_to_the_same_bits(tmp_path, store, recipe):
    half = recipes.override(recipe, ["trainer.precision=bf16", "epochs=6"])
    train(half, store, tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(half, store, tmp_path / "cut", device="cpu", watch=Ending(3, interrupt))
    train(half, store, tmp_path / "cut", device="cpu", resume=True)
    rows = RunFolder(tmp_path / "whole").progress().rows
    assert rows[-1].loss < 0.8 * rows[0].loss
    train(recipes.override(recipe, ["epochs=6"]), store, tmp_path / "full", device="cpu")
    assert rows[-1].loss == pytest.approx(RunFolder(tmp_path / "full").progress().rows[-1].loss, rel=0.1)
    assert_same_bits(tmp_path / "whole", tmp_path / "cut")


def test_half_precision_of_gpus_is_refused_on_a_cpu(tmp_path, store, recipe):
    with pytest.raises(RecipeError, match="fp16 is not trained in on a CPU"):
        train(recipes.override(recipe, ["trainer.precision=fp16"]), store, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_balanced_epochs_have_as_many_of_each_class(tmp_path, recipe, monkeypatch):
    clips = tuple(c for c in scene_clips() if c.label != "bus" or c.location.endswith(("-0", "-1")))
    store = make_store(tmp_path / "features" / "scenes" / "made_up.zarr", clips)
    seen: list[int] = []
    step = Descent.step
    monkeypatch.setattr(Descent, "step", lambda self, x, y: (seen.extend(y.argmax(1).tolist()), step(self, x, y))[1])
    asked = ["sampler=class", "epochs=1", "augmentation.mixup=none", "selection.side=last", "selection.fraction=0"]
    train(recipes.override(recipe, asked), store, tmp_path / "run", device="cpu")
    counts = np.bincount(seen)
    assert counts.max() - counts.min() <= 1
    assert counts.sum() == (store.sides("fold1") == "train").sum()


def test_a_store_that_goes_away_ends_the_run_with_what_to_do(tmp_path, store, recipe):
    class Remove(Watcher):
        """Somebody who removes the store once an epoch is done."""

        def epoch(self, row, *, selected):
            shutil.rmtree(store.place.path)

    with pytest.raises(RunError, match=r"its features do not read\. The checkpoint of epoch 1 is kept") as failed:
        train(recipe, store, tmp_path / "run", device="cpu", placement="stream", watch=Remove())
    assert "--resume" in failed.value.text()


def test_flipped_weights_are_refused(tmp_path, store, recipe):
    """Two bytes of a weight load as well as any others, and predict something else."""
    train(recipe, store, tmp_path / "run", device="cpu")
    folder = RunFolder(tmp_path / "run")
    file = folder.checkpoint(folder.progress().selected) / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-50] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunError, match="does not match its checksum"):
        evaluate(tmp_path / "run", store, device="cpu")


def test_a_start_that_was_refused_does_not_stand_in_the_way(tmp_path, store, recipe):
    with pytest.raises(RecipeError, match="fp16"):
        train(recipes.override(recipe, ["trainer.precision=fp16"]), store, tmp_path / "run", device="cpu")
    done = train(recipe, store, tmp_path / "run", device="cpu")
    assert done.last == recipe.epochs
    assert RunFolder(tmp_path / "run").recipe.trainer.values()["precision"] == "float32"


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_whose_result_is_gone_is_not_called_finished(tmp_path, store, recipe, finished):
    train(recipe, store, tmp_path / "run", device="cpu")
    folder = RunFolder(tmp_path / "run")
    selected = folder.progress().selected
    if not finished:
        (folder.path / "finished.json").unlink()
    shutil.rmtree(folder.checkpoint(selected))
    if folder.epochs() or finished:
        with pytest.raises(RunError, match=f"The checkpoint of epoch {selected}, the best of .* is not there"):
            train(recipe, store, tmp_path / "run", device="cpu", resume=True)


def test_curves_that_somebody_removed_are_written_again(tmp_path, store, recipe):
    train(recipe, store, tmp_path / "run", device="cpu")
    curves = tmp_path / "run" / "curves.csv"
    before = curves.read_bytes()
    curves.unlink()
    train(recipe, store, tmp_path / "run", device="cpu")
    assert curves.read_bytes() == before


def test_a_picture_that_the_disk_refuses_is_named_and_the_finished_run_stays_finished(
    tmp_path, store, recipe, monkeypatch
):
    def full(figure, file, **_):
        file.write_bytes(b"half")
        raise OSError(27, "File too large")

    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", full)
        with pytest.raises(RunError, match=r"curves\.png cannot be written: File too large"):
            train(recipe, store, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "curves.png").exists()
    assert train(recipe, store, tmp_path / "run", device="cpu") == RunFolder(tmp_path / "run").finished
    assert (tmp_path / "run" / "curves.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("trainer", ["supervised", "lightning"])
def test_where_training_begins_is_said(tmp_path, store, recipe, trainer):
    if trainer == "lightning":
        pytest.importorskip("lightning")
    recipe, out, notes = recipes.override(recipe, [f"trainer.kind={trainer}"]), tmp_path / "run", []

    class Noting(Ending):
        def note(self, text):
            notes.append(text)

    def begun(epoch):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, store, out, device="cpu", resume=True, watch=Noting(epoch, interrupt))
        return [said for said in notes if "epoch 1" in said]

    assert begun(2) == [f"There is no checkpoint in {out} to go on with: training begins at epoch 1."]
    notes.clear()
    assert begun(3) == ["Going on after epoch 1 of 3."]
    notes.clear()
    shutil.rmtree(out / "checkpoints")
    gone = f"The checkpoints of {out} are gone, its curves.csv is not: training begins again at epoch 1."
    assert begun(1) == [gone]


@pytest.mark.parametrize("trainer", ["supervised", "lightning"])
def test_more_parts_than_a_batch_has_clips_are_refused(tmp_path, store, recipe, trainer):
    if trainer == "lightning":
        pytest.importorskip("lightning")
    asked = recipes.override(recipe, [f"trainer.kind={trainer}", "trainer.accumulate=17"])
    with pytest.raises(RecipeError) as refused:
        train(asked, store, tmp_path / "run", device="cpu")
    (row,) = refused.value.differences
    assert not (tmp_path / "run").exists()
    assert (row.field, row.found) == ("trainer.accumulate", "17")
    assert "at most 16" in row.expected


@pytest.mark.parametrize("trainer", ["supervised", "lightning"])
def test_iterations_end_training_in_the_middle_of_an_epoch(tmp_path, store, recipe, trainer):
    short = recipes.override(recipe, [f"trainer.kind={trainer}", "epochs=none", "batch_size=8", "iterations=11"])
    counted = []

    class Counting(Watcher):
        def batch(self, moment):
            counted.append((moment.epoch, moment.batch, moment.batches))

    done = train(short, store, tmp_path / "run", device="cpu", watch=Counting())
    epochs = [epoch for epoch, _, _ in counted]
    whole = epochs.count(1)
    assert len(counted) == 11
    assert done.last == epochs[-1] == -(-11 // whole)
    assert done.stopped == "epochs"
    assert counted[-1][1] == counted[-1][2] == 11 - whole * (done.last - 1) < whole


def test_iterations_and_epochs_end_with_what_comes_first(tmp_path, store, recipe):
    both = recipes.override(recipe, ["epochs=1", "iterations=10000"])
    assert train(both, store, tmp_path / "run", device="cpu").last == 1
    with pytest.raises(RecipeError, match="iterations"):
        recipes.override(recipe, ["epochs=none"])


def test_a_resumed_run_goes_on_along_its_steps(tmp_path, store, recipe):
    sinking = ["schedule={kind: steps, factor: 0.5, every: 3}", "epochs=none", "iterations=12", "batch_size=8"]
    whole = recipes.override(recipe, sinking)
    train(whole, store, tmp_path / "at_once", device="cpu")

    class Stop(Watcher):
        def epoch(self, row, *, selected):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(whole, store, tmp_path / "twice", device="cpu", watch=Stop())
    train(whole, store, tmp_path / "twice", device="cpu", resume=True)
    one, two = (RunFolder(tmp_path / name).progress().rows for name in ("at_once", "twice"))
    assert [row.loss for row in one] == [row.loss for row in two]
    assert [row.lr for row in one] == [row.lr for row in two]
    assert one[1].lr < one[0].lr
