"""Are TensorBoard's curves those of the run, also of one that was interrupted?"""

import pytest

from ascmodels import training
from ascmodels.checkpoint import RunFolder
from ascmodels.testing.trainers import Interrupting
from ascmodels.training import train

pytest.importorskip("tensorboard", reason="tensorboard is not installed")


@pytest.mark.filterwarnings("ignore")
def curves(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_draws_what_its_csv_says(tmp_path, store, recipe):
    with pytest.raises(KeyboardInterrupt):
        train(recipe, store, tmp_path / "run", device="cpu", watch=Interrupting(after=2))
    train(recipe, store, tmp_path / "run", device="cpu", resume=True)
    rows = RunFolder(tmp_path / "run").progress().rows
    drawn = curves(tmp_path / "run")
    assert set(drawn) == {"loss", "accuracy", "watched_loss", "watched_accuracy", "lr", "clips_per_second"}
    for name, points in drawn.items():
        assert points == [(row.epoch, pytest.approx(getattr(row, name))) for row in rows]


def test_without_it_there_is_no_such_folder(tmp_path, store, recipe, monkeypatch):
    monkeypatch.setattr(training, "is_installed", lambda: False)
    train(recipe, store, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "tensorboard").exists()
