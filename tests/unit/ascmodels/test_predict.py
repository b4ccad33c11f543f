"""Prediction from audio: features through ascfeat's one call, a bad file named, the others classified."""

from pathlib import Path

import numpy as np
import pytest

from ascmodels import predict as module
from ascmodels.predict import predict
from ascmodels.training import train
from ascschemas.problems import AudioError, RunError


@pytest.fixture
def run(tmp_path, store, recipe):
    train(recipe, store, tmp_path / "run", device="cpu")
    return tmp_path / "run"


def features_of(store):
    """What ascfeat.extract.features_of does, from the store's own clips instead of audio."""

    def made(files, header):
        assert header == store.header
        for file in files:
            bad = AudioError("empty", f"{file} is empty: 0 bytes.", todo="Restore the file.")
            yield file, bad if file.name == "bad" else store.read([int(file.name)])[0]

    return made


def test_good_files_are_classified_and_a_bad_one_is_named(run, store, monkeypatch):
    monkeypatch.setattr(module, "features_of", features_of(store))
    first, bad, second = predict(run, [Path("0"), Path("bad"), Path("60")], device="cpu")
    assert (bad.problem.reason, bad.label, bad.probabilities) == ("empty", "", {})
    for one in (first, second):
        assert list(one.probabilities) == ["bus", "park", "tram"]
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert one.probabilities[one.label] == max(one.probabilities.values())


def test_probabilities_are_those_of_the_selected_epoch_at_the_training_temperature(run, store, monkeypatch):
    import torch

    from ascmodels import recipes
    from ascmodels.checkpoint import RunFolder

    monkeypatch.setattr(module, "features_of", features_of(store))
    folder = RunFolder(run)
    scorer = recipes.trainer(folder.recipe).scorer(folder, folder.progress().selected, torch.device("cpu"))
    (one,) = predict(run, [Path("5")], device="cpu")
    expected = scorer(torch.from_numpy(store.read([5])))[0]
    np.testing.assert_allclose(list(one.probabilities.values()), expected)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        list(predict(tmp_path, [Path("0")]))
