"""The run folder: published whole, alone, for what it was made for, and honest when it is damaged."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError
from torch import nn

from ascmodels import recipes
from ascmodels.checkpoint import RunFolder, open_run, put
from ascmodels.devices import choose, session
from ascmodels.joining import join
from ascmodels.sides import divide
from ascmodels.training import describe
from ascmodels.weights import load_state, save_weights, way_on
from ascschemas.problems import RunError
from ascschemas.run import Environment, EpochRecord, Finished, Progress

CPU = session(choose("cpu"), "ram")


@pytest.fixture
def data(store, recipe):
    return describe(join(store), "fold1", divide(store, "fold1", recipe), recipe)


@pytest.fixture
def opened(tmp_path, recipe, data):
    """Open the same run again and again."""
    return lambda resume=False: open_run(tmp_path / "run", recipe, data, CPU, resume=resume)


def progress(epochs, selected):
    rows = [EpochRecord(epoch=e + 1, loss=1, accuracy=0.5, lr=1, seconds=1, clips_per_second=1) for e in range(epochs)]
    return Progress(rows=tuple(rows), selected=selected)


def weights(folder):
    (folder / "weights").write_text("w")


def test_a_new_run_says_what_made_it(opened, recipe, data):
    with opened() as folder:
        assert folder.recipe == recipe
        assert folder.data == data
        assert folder.progress() == Progress()
        assert folder.finished is None
    assert Environment.model_validate_json((folder.path / "environment.json").read_text()).sessions == (CPU,)


def test_the_last_and_the_selected_checkpoint_are_kept(opened):
    with opened() as folder:
        for epoch, selected in enumerate((1, 1, 3, 3, 3), start=1):
            folder.publish(progress(epoch, selected), weights)
        assert folder.epochs() == [3, 5]
        assert folder.progress() == progress(5, 3)
    rows = list(csv.DictReader((folder.path / "curves.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0]["watched_loss"] == ""


def test_a_checkpoint_half_written_is_not_one(opened):
    def torn(folder):
        weights(folder)
        raise KeyboardInterrupt

    with opened() as folder:
        folder.publish(progress(1, 1), weights)
        with pytest.raises(KeyboardInterrupt):
            folder.publish(progress(2, 2), torn)
    with opened(resume=True) as folder:
        assert folder.progress().epoch == 1
        folder.publish(progress(2, 2), weights)
        assert folder.epochs() == [2]
        assert not list(folder.path.rglob("*.partial"))


def test_a_full_disk_is_said_and_earlier_checkpoints_stay(opened):
    def full(folder):
        raise OSError(28, "No space left on device")

    with opened() as folder:
        folder.publish(progress(1, 1), weights)
        with pytest.raises(RunError, match="No space left"):
            folder.publish(progress(2, 2), full)
        assert folder.epochs() == [1]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_folder_that_goes_is_said_and_not_made_anew(opened, epoch):
    """It may lie on a share that was unmounted: what is in its stead is somebody's own disk."""
    with opened() as folder:
        if epoch > 1:
            folder.publish(progress(1, 1), weights)
        elsewhere = folder.path.rename(folder.path.with_name("elsewhere"))
        with pytest.raises(RunError, match=f"not there any more: the checkpoint of epoch {epoch}"):
            folder.publish(progress(epoch, 1), weights)
        assert not folder.path.exists()
        elsewhere.rename(folder.path)
    with opened(resume=True) as folder:
        assert folder.progress().epoch == epoch - 1


def test_an_unfinished_run_goes_on_only_when_asked(opened):
    with opened() as folder:
        folder.publish(progress(1, 1), weights)
        folder.publish(progress(2, 1), weights)
    with pytest.raises(RunError, match="2 of 3 epochs") as refused, opened():
        pass
    assert "--resume" in refused.value.todo
    with opened(resume=True) as folder:
        folder.finish(Finished(last=2, selected=1, stopped="early_stopping"))
    with opened() as folder:
        assert folder.finished is not None
    assert len(Environment.model_validate_json((folder.path / "environment.json").read_text()).sessions) == 2


def test_another_recipe_or_other_data_are_refused_with_the_fields(tmp_path, opened, recipe, data):
    with opened() as folder:
        folder.publish(progress(1, 1), weights)
    other = recipes.override(recipe, ["epochs=9", "optimiser.lr=0.5"])
    elsewhere = data.model_copy(
        update={"stores": (data.stores[0].model_copy(update={"digest": "0" * 64, "path": "/moved"}),)}
    )
    with pytest.raises(RunError) as refused, open_run(tmp_path / "run", other, elsewhere, CPU, resume=True):
        pass
    assert [d.field for d in refused.value.differences] == ["optimiser.lr", "epochs", "data.digest"]
    assert (refused.value.differences[1].expected, refused.value.differences[1].found) == ("3", "9")
    with (
        pytest.raises(RunError, match="made anew") as refused,
        open_run(tmp_path / "run", recipe, elsewhere, CPU, resume=True),
    ):
        pass
    (row,) = refused.value.differences
    assert (row.expected, row.found) == (data.stores[0].digest, "0" * 64)  # the run's, and what is there now


def test_a_name_or_a_claim_may_change(tmp_path, opened, recipe, data):
    with opened():
        pass
    with open_run(tmp_path / "run", recipe.model_copy(update={"title": "another"}), data, CPU, resume=False):
        pass


def test_before_its_first_epoch_a_run_may_become_another(tmp_path, opened, recipe, data):
    with opened():
        pass
    other = recipes.override(recipe, ["epochs=9"])
    with open_run(tmp_path / "run", other, data, CPU, resume=False) as folder:
        assert folder.recipe == other


def test_every_file_of_a_checkpoint_has_its_checksum(opened):
    with opened() as folder:
        folder.publish(progress(1, 1), weights)
    sums = json.loads((folder.checkpoint(1) / "sha256.json").read_text())
    assert sums == {"weights": hashlib.sha256(b"w").hexdigest()}


def test_only_one_process_trains_in_a_folder(opened):
    with opened(), pytest.raises(RunError, match="Another process"), opened(resume=True):
        pass


def test_the_lock_of_a_killed_process_is_free(opened):
    with opened() as folder:
        pass
    hold = f"import fcntl,os; f=open({str(folder.path / '.lock')!r},'a'); fcntl.flock(f, 2); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", hold], check=False).returncode == -9
    with opened():
        pass


class Killed(BaseException):
    """What nothing cleans up after."""


def test_a_start_that_is_killed_between_any_two_steps_can_be_repeated(monkeypatch, tmp_path, recipe, data):
    """Before each write, sync and rename of a run's first files."""
    left: list[int] = []

    def killable(owner, name):
        do = getattr(owner, name)

        def step(*given, **named):
            if not left:
                return do(*given, **named)
            left[0] -= 1
            if not left[0]:
                raise Killed
            return do(*given, **named)

        monkeypatch.setattr(owner, name, step)

    for owner, name in ((Path, "mkdir"), (Path, "open"), (os, "fsync"), (Path, "replace")):  # write_text opens
        killable(owner, name)
    found = []
    for steps in range(1, 100):
        run = tmp_path / f"{steps}"
        left[:] = [steps]
        try:
            with open_run(run, recipe, data, CPU, resume=False):
                break
        except Killed:
            left.clear()
        found.append(tuple(sorted(p.name for p in run.iterdir())) if run.exists() else ())
        with open_run(run, recipe, data, CPU, resume=True) as folder:
            assert folder.data == data
        assert not list(run.glob(".*.partial*"))
    assert {(), (".lock",), (".config.partial.json", ".lock"), (".data.partial.json", ".lock", "config.json")} <= {
        *found
    }


def test_a_strange_folder_is_not_touched(tmp_path, opened):
    (tmp_path / "run").mkdir()
    with opened():
        pass
    for path, name in ((tmp_path / "other", "thesis.tex"), (tmp_path, "features")):
        path.mkdir(exist_ok=True)
        (path / name).mkdir(exist_ok=True)
        with pytest.raises(RunError, match="not a run folder"), open_run(path, *[None] * 3, resume=False):
            pass
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunError, match="No run can be kept"), open_run(file, *[None] * 3, resume=False):
        pass


def test_what_is_no_run_or_damaged_says_so(tmp_path, opened):
    with pytest.raises(RunError, match="not a run folder"):
        RunFolder(tmp_path)
    with opened() as folder:
        folder.publish(progress(1, 1), weights)
    (folder.checkpoint(1) / "progress.json").write_text('{"rows": 1}')
    with pytest.raises(RunError, match="damaged"):
        folder.progress()
    (folder.path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="damaged"):
        RunFolder(folder.path)


def test_the_folder_of_another_tool_is_left_alone_though_it_has_a_config(opened, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"model": "precious"}')
    with pytest.raises(RunError, match="not a run folder"), opened():
        pass
    assert (tmp_path / "run" / "config.json").read_text() == '{"model": "precious"}'


@pytest.mark.parametrize("finished", [True, False])
def test_checkpoints_of_nobody_knows_what_are_not_trained_over(opened, finished):
    with opened() as folder:
        folder.publish(progress(1, 1), weights)
        if finished:
            folder.finish(Finished(last=1, selected=1, stopped="epochs"))
    (folder.path / "data.json").unlink()
    before = {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}
    with pytest.raises(RunError, match="nothing says what"), opened(resume=True):
        pass
    assert {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()} == before


def two_epochs(opened):
    """The folders of both checkpoints."""
    with opened() as folder:
        folder.publish(progress(1, 1), weights)
        folder.publish(progress(2, 1), weights)
    return folder.checkpoint(1), folder.checkpoint(2)


def test_a_damaged_last_checkpoint_names_the_whole_one_before_it_and_the_way_there(opened):
    _, last = two_epochs(opened)
    (last / "progress.json").write_text("{}x")
    with pytest.raises(RunError, match=r"0002/progress\.json is damaged") as refused, opened(resume=True):
        pass
    assert f"remove {last}, and --resume goes on after epoch 1" in refused.value.todo
    shutil.rmtree(last)
    with opened(resume=True) as folder:
        assert folder.progress().epoch == 1


def test_no_way_leads_to_a_checkpoint_that_is_damaged_too_or_past_one_in_the_middle(opened):
    first, last = two_epochs(opened)
    assert "remove" in way_on(last)
    assert "remove" not in way_on(first)
    (first / "weights").write_text("v")
    assert "remove" not in way_on(last)


def test_checksums_that_do_not_read_are_named_and_not_what_they_are_of(opened):
    _, last = two_epochs(opened)
    (last / "state.pt").write_text("s")
    for text, said in (('{"weights": "00', "Unterminated"), ("{}", "says nothing of state.pt"), ("[]", "says nothing")):
        (last / "sha256.json").write_text(text)
        with pytest.raises(RunError, match=said) as refused:
            load_state(last)
        assert str(refused.value).startswith(f"{last / 'sha256.json'} cannot be loaded")


def test_a_file_that_the_disk_refuses_is_named_and_what_was_there_stays(tmp_path):
    file = tmp_path / "curves.png"
    file.write_text("before")
    with pytest.raises(RunError, match=r"curves\.png cannot be written: File too large") as refused:
        _torn(file)
    assert "Make room" in refused.value.todo
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
    assert file.read_text() == "before"


def _torn(file):
    with put(file) as aside:
        aside.write_text("half")
        raise OSError(27, "File too large")


@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_bytes_that_are_no_text_are_damage_like_any_other(opened, tmp_path, name):
    with opened() as folder:
        path = folder.path
    (path / name).write_bytes(b"\xff{")
    with pytest.raises(RunError, match=f"{name} is damaged"):
        RunFolder(path)


def test_a_disk_that_refuses_weights_is_told_like_any_other(opened, monkeypatch):
    def refused(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("ascmodels.weights.save_file", refused)
    with opened() as folder, pytest.raises(RunError, match="No space left on device"):
        folder.publish(progress(1, 1), lambda aside: save_weights(aside, nn.Linear(1, 1)))
