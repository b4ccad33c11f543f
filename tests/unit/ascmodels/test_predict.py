"""Prediction from audio: features through ascfeat's one call, a bad file named, the others classified."""

from pathlib import Path

import numpy as np
import pytest

from ascfeat.extract import extract
from ascfeat.recipes import complete, load_recipe
from ascfeat.store import open_store
from ascfeat.testing.datasets import write_tone
from ascmodels import predict as module
from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.predict import predict
from ascmodels.training import train
from ascschemas.problems import AudioError, RunError
from ascschemas.recipe import FeatureRecipe


@pytest.fixture
def run(tmp_path, store, recipe):
    train(recipe, store, tmp_path / "run", device="cpu")
    return tmp_path / "run"


def features_of(store):
    """What ascfeat.extract.features_of does, from the store's own clips instead of audio."""

    def made(files, header, recorder, tags):
        assert (header, recorder, tags) == (store.header, "", None)
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

    monkeypatch.setattr(module, "features_of", features_of(store))
    folder = RunFolder(run)
    scorer = recipes.trainer(folder.recipe).scorer(folder, folder.progress().selected, torch.device("cpu"))
    (one,) = predict(run, [Path("5")], device="cpu")
    expected = scorer([torch.from_numpy(store.read([5]))])[0]
    np.testing.assert_allclose(list(one.probabilities.values()), expected)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        list(predict(tmp_path, [Path("0")]))


@pytest.fixture
def heard(tmp_path, recipe):
    """A dataset of audio, its log-mel store, and a run trained on it."""

    rows = ["filename,label,location,split_fold1"]
    for i in range(12):
        write_tone(tmp_path / "set" / f"{i}.wav", 40 * i, seconds=0.3, channels=2)
        rows.append(f"{i}.wav,{('low', 'high')[i > 5]},place{i},{('train', 'test')[i % 2]}")
    (tmp_path / "set" / "list.csv").write_text("\n".join(rows) + "\n")
    log_mel = {"kind": "log_mel", "n_fft": 512, "hop_length": 64, "spectrum": "power", "n_mels": 24, "floor": 1e-8}
    made = complete(FeatureRecipe.model_validate({"name": "small_mel", "representation": log_mel}), "small_mel")
    (outcome,) = extract(tmp_path / "set", [made], tmp_path / "features", device="cpu")
    small = recipes.override(recipe, ["features=small_mel", "batch_size=4", "epochs=1", "selection.side=last"])
    train(small, open_store(outcome.place), tmp_path / "run", device="cpu", split="fold1")
    return tmp_path


def test_a_recording_unlike_those_of_training_is_to_be_converted(heard, tmp_path):
    files = [tmp_path / "rate.wav", tmp_path / "long.wav"]
    write_tone(files[0], 300, seconds=0.3, channels=2, rate=16_000)
    write_tone(files[1], 300, seconds=0.9, channels=2)
    rate, long = predict(heard / "run", files, device="cpu")
    assert [one.problem.reason for one in (rate, long)] == ["wrong-rate", "wrong-length"]
    for one in (rate, long):
        assert "not like the recordings that the run was trained on" in one.problem.what
        assert one.problem.todo == "Convert it to 8000 Hz, 2 channels and 0.3 s."


def test_a_runs_probabilities_become_tags_that_are_what_predict_says(heard):

    (outcome,) = extract(heard / "set", [load_recipe("tags")], heard / "features", device="cpu", tags=heard / "run")
    store = open_store(outcome.place)
    assert store.layout.axes[0].values == ("high", "low")
    said = predict(heard / "run", [heard / "set" / clip for clip in store.ids], device="cpu")
    expected = [list(one.probabilities.values()) for one in said]
    np.testing.assert_array_equal(store.read(range(12)), np.float32(expected))


def test_a_run_is_known_by_its_weights_and_recipes_and_other_folders_are_not_taken_for_one(heard, tmp_path):
    first = module.run_tagger(heard / "run", "cpu")
    assert first.digest == module.run_tagger(heard / "run", "cpu").digest

    weights = RunFolder(heard / "run").checkpoint(1) / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    weights.with_name("sha256.json").unlink()  # as if it had been trained so
    assert module.run_tagger(heard / "run", "cpu").digest != first.digest
    assert module.run_tagger(tmp_path / "set", "cpu") is None
    assert module.run_tagger(tmp_path / "none", "cpu") is None


def test_a_tagger_brings_recordings_of_another_rate_to_its_own_and_refuses_another_length(heard):
    """The run's clips are of 0.3 s at 8 kHz; its network has only seen such."""
    tagger, draw = module.run_tagger(heard / "run", "cpu"), np.random.default_rng(6)
    slow = np.float32(0.1 * np.sin(2 * np.pi * 300 * np.arange(2400) / 8000))
    fast = np.float32(0.1 * np.sin(2 * np.pi * 300 * np.arange(4800) / 16_000))
    np.testing.assert_allclose(tagger(np.stack([fast, fast]), 16_000), tagger(slow[None], 8000), atol=2e-3)
    with pytest.raises(AudioError) as refused:
        tagger(draw.normal(size=(1, 8000)).astype(np.float32), 8000)
    assert refused.value.reason == "wrong-length"
