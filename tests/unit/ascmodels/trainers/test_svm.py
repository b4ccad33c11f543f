"""The svm trainer: scikit-learn's own decision values, calibrated on clips unseen; honest failures."""

import builtins
import csv
import json
import math
import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from asccli.learning import epoch_line
from ascmodels import papers, recipes, room
from ascmodels.checkpoint import RunFolder
from ascmodels.evaluate import evaluate
from ascmodels.margins import Machine, decided, inverse_temperature
from ascmodels.sides import divide
from ascmodels.testing.stores import make_store, scene_clips, scene_split
from ascmodels.testing.trainers import Notes
from ascmodels.training import train
from ascmodels.watching import Watcher
from ascmodels.weights import read_weights
from ascschemas.dataset import Split
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError, RunError

SKLEARN = {"linear": LinearSVC(dual=False, max_iter=10_000), "rbf": SVC(), "sigmoid": SVC(kernel="sigmoid")}


def svm(*settings):
    return recipes.override(papers.load("pooled_svm"), ["features=made_up", "batch_size=8", *settings])


def fitted(store, out, *settings, **options):
    train(svm(*settings), store, out, device="cpu", **options)
    return RunFolder(out)


def machine(folder):
    return Machine(read_weights(folder.checkpoint(1)))


def scores(folder, store):
    scorer = recipes.trainer(folder.recipe).scorer(folder, 1, torch.device("cpu"))
    return scorer([torch.from_numpy(store.read(range(len(store.ids))))]).numpy()


def pooled(values):
    """Means and deviations over time, by the book."""
    exact = values.astype(np.float64).reshape(len(values), -1, values.shape[-1])
    return np.concatenate([exact.mean(axis=-1), exact.std(axis=-1)], axis=1)


def training_side(folder, store):
    sides = divide(store, folder.data.split, folder.recipe)
    return sides.train, [folder.data.classes.index(store.labels[c]) for c in sides.train]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kernel", ["linear", "rbf", "sigmoid"])
def test_decision_values_are_those_of_scikit_learn(tmp_path, kernel, classes):
    clips = tuple(c for c in scene_clips() if classes == 3 or c.label != "park")
    store = make_store(tmp_path / "scenes" / "made_up.zarr", clips)
    folder = fitted(store, tmp_path / "run", f"trainer.kernel={kernel}")
    vectors = pooled(store.read(range(len(store.ids))))
    side, targets = training_side(folder, store)
    theirs = make_pipeline(StandardScaler(), SKLEARN[kernel]).fit(vectors[side], targets)
    expected = theirs.decision_function(vectors)
    ours = decided(machine(folder), vectors)
    np.testing.assert_allclose(ours[:, 1] if classes == 2 else ours, expected, rtol=1e-9, atol=1e-9)
    wanted = theirs.predict(vectors) if classes == 2 else expected.argmax(axis=1)
    np.testing.assert_array_equal(scores(folder, store).argmax(axis=1), wanted)


@pytest.mark.parametrize(
    "settings",
    [
        ["trainer.kernel=linear"],
        ["trainer.kernel=rbf"],
        ["trainer.kernel=rbf", "family.quantiles=[0.1, 0.5, 0.9]", "family.deltas=true", "family.moments=[mean]"],
    ],
)
def test_unseen_clips_are_told_apart_and_the_same_bits_come_again(tmp_path, store, settings):
    one, two = (fitted(store, tmp_path / name, *settings) for name in ("one", "two"))
    report = evaluate(tmp_path / "one", store, device="cpu")
    assert report.selected.overall.accuracy > 0.8
    row = one.progress().rows[0]
    assert row.accuracy > 0.9
    assert 0 < row.loss < row.watched_loss < math.log(3)
    a, b = (read_weights(folder.checkpoint(1)) for folder in (one, two))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_store_s_statistics_and_its_features_come_to_the_same(tmp_path, store):
    free = fitted(store, tmp_path / "free")
    median = ["family.quantiles=[0.5]", "family.moments=[mean, deviation]"]
    for place in ("ram", "stream"):
        read = fitted(store, tmp_path / place, *median, placement=place)
        for name in ("mean", "scale"):
            given, found = (getattr(machine(f), name) for f in (free, read))
            torch.testing.assert_close(found[: len(given)], given, rtol=1e-6, atol=1e-6)
    one, two = (read_weights(RunFolder(tmp_path / p).checkpoint(1)) for p in ("ram", "stream"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_means_and_deviations_are_fitted_without_reading_features(tmp_path, store):
    def refuse(clips, out=None):
        raise AssertionError("features were read")

    store.read = refuse
    fitted(store, tmp_path / "run", placement="stream")
    with pytest.raises(AssertionError, match="features were read"):
        fitted(store, tmp_path / "other", "family.deltas=true", placement="stream")


def test_codes_are_taken_as_they_are(tmp_path):
    shape = Layout(axes=(Axis(name="tag", size=20),), quantity="made up")
    store = make_store(tmp_path / "scenes" / "made_up.zarr", shape=shape)
    folder = fitted(store, tmp_path / "run", "trainer.kernel=linear")
    side, targets = training_side(folder, store)
    codes = store.read(range(len(store.ids))).astype(np.float64)
    theirs = make_pipeline(StandardScaler(), SKLEARN["linear"]).fit(codes[side], targets)
    np.testing.assert_allclose(decided(machine(folder), codes), theirs.decision_function(codes), rtol=1e-9, atol=1e-9)


def test_normalisation_of_the_recipe_changes_nothing(tmp_path, store):
    one, two = (fitted(store, tmp_path / n, f"normalise={n}") for n in ("none", "band"))
    np.testing.assert_array_equal(scores(one, store), scores(two, store))


def test_the_temperature_is_never_fitted_on_the_test_side(tmp_path):
    """With the test side's labels moved on by a class, a run that selects on it learns the same machine."""
    clips = scene_clips()
    split = scene_split(clips)
    after = {"bus": "park", "park": "tram", "tram": "bus"}
    moved = tuple(c.model_copy(update={"label": after[c.label]}) if c.id in split.test else c for c in clips)
    stores = [make_store(tmp_path / n / "made_up.zarr", c, splits=(split,)) for n, c in (("a", clips), ("b", moved))]
    stores[1].statistics = stores[0].statistics  # the same features under other labels
    runs = [fitted(made, tmp_path / f"run{i}", "selection.side=test") for i, made in enumerate(stores)]
    one, two = (read_weights(r.checkpoint(1)) for r in runs)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert runs[0].progress().rows[0].watched_accuracy > 0.8 > 0.2 > runs[1].progress().rows[0].watched_accuracy
    assert one["inverse_temperature"] != 1  # it was fitted, on clips held off the training side


def test_probabilities_are_as_sure_as_unseen_clips_allow():
    draw = np.random.default_rng(3)
    truth = draw.normal(0, 2, size=(4000, 3))
    powers = np.exp(truth)
    targets = np.array([draw.choice(3, p=p / p.sum()) for p in powers])
    for factor in (0.2, 1.0, 5.0):
        assert inverse_temperature(truth * factor, targets) * factor == pytest.approx(1, rel=0.1)


def test_a_few_clips_without_an_error_do_not_make_probabilities_certain():
    decisions = np.eye(3)[[0, 1, 2, 0, 1]]
    sharp = inverse_temperature(decisions, np.array([0, 1, 2, 0, 1]))
    sure = math.exp(sharp) / (math.exp(sharp) + 2)
    assert sure == pytest.approx(1 - 1 / 6 + 1 / 18, rel=1e-6)  # Platt's: 5 clips are 5 of 6, a third of the rest
    assert inverse_temperature(decisions, np.array([1, 2, 0, 1, 2])) == pytest.approx(1e-3)  # worse than chance


def test_an_interrupted_fit_goes_on_to_the_same_bits(tmp_path, store):
    class Stopping(Watcher):
        def note(self, text):
            if "fitting" in text:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(store, tmp_path / "cut", watch=Stopping())
    assert RunFolder(tmp_path / "cut").epochs() == []
    cut, whole = fitted(store, tmp_path / "cut", resume=True), fitted(store, tmp_path / "whole")
    np.testing.assert_array_equal(scores(cut, store), scores(whole, store))


def test_a_checkpoint_holds_numbers_and_nothing_that_runs(tmp_path, store, monkeypatch):
    folder = fitted(store, tmp_path / "run")
    assert {p.name for p in folder.checkpoint(1).iterdir()} == {"weights.safetensors", "sha256.json", "progress.json"}
    for name in [n for n in sys.modules if n.split(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)  # scikit-learn is not needed to score
    assert scores(folder, store).shape == (72, 3)


def test_without_scikit_learn_the_extra_is_named(tmp_path, store, monkeypatch):
    for name in ("sklearn", "sklearn.svm"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RunError, match=r'pip install -c constraints.txt "\.\[svm\]"'):
        fitted(store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_scikit_learn_that_does_not_load_is_not_called_missing(tmp_path, store, monkeypatch):
    def unmapped(name, *more):
        if name == "sklearn.svm":
            raise ImportError("libgomp.so: failed to map segment from shared object")
        return before(name, *more)

    before = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", unmapped)
    with pytest.raises(ImportError, match="failed to map"):
        fitted(store, tmp_path / "run")


def test_several_processes_are_refused_before_they_meet(tmp_path, store, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="one process, and there are 2"):
        fitted(store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_epoch_without_descent_has_no_learning_rate(tmp_path, store):
    fitted(store, tmp_path / "run")
    (row,) = csv.DictReader((tmp_path / "run" / "curves.csv").read_text().splitlines())
    assert (row["epoch"], row["lr"]) == ("1", "")
    assert " lr" not in epoch_line(RunFolder(tmp_path / "run").progress().rows[0], selected=True)


def test_another_family_is_refused_and_what_to_do_said(tmp_path, store):
    with pytest.raises(RecipeError, match=r"--set family\.kind=pooled") as refused:
        fitted(store, tmp_path / "run", "family.kind=five_conv", "family.widths=[4]", "family.strides=[1]")
    assert refused.value.differences[0].found == "five_conv"
    assert not (tmp_path / "run").exists()


def test_one_class_is_refused(tmp_path):
    clips = tuple(c for c in scene_clips() if c.label == "bus")
    store = make_store(tmp_path / "scenes" / "made_up.zarr", clips)
    with pytest.raises(RunError, match="at least 2"):
        fitted(store, tmp_path / "run")


def test_features_that_are_not_finite_are_named(tmp_path, store):
    means, variances = store.statistics()
    train_clip = int(np.flatnonzero(store.sides("fold1") == "train")[4])
    means[train_clip, 0, 3] = np.nan
    store.statistics = lambda: (means, variances)
    with pytest.raises(RunError, match="not finite") as refused:
        fitted(store, tmp_path / "run")
    assert [d.field for d in refused.value.differences] == [store.ids[train_clip]]
    assert not RunFolder(tmp_path / "run").epochs()


@pytest.mark.parametrize(("free", "kernel"), [(250_000, True), (1000, False)])
def test_memory_that_is_too_small_is_said_before_anything_is_read(tmp_path, store, monkeypatch, free, kernel):
    wide = make_store(tmp_path / "wide" / "made_up.zarr", scene_clips(locations=120))
    assert fitted(store, tmp_path / "fits").finished
    monkeypatch.setattr(room, "memory", lambda: free * (8 if kernel else 1))
    with pytest.raises(RunError, match="does not fit into memory") as refused:
        fitted(wide, tmp_path / "run", "trainer.kernel=rbf", placement="stream")
    assert ("trainer.kernel=linear" in refused.value.todo) is kernel
    assert ("family.moments" in refused.value.todo) is not kernel
    if kernel:
        assert fitted(wide, tmp_path / "linear", "trainer.kernel=linear", placement="stream").finished


def test_clips_that_cannot_be_held_off_leave_probabilities_uncalibrated_and_say_so(tmp_path):
    clips = tuple(c.model_copy(update={"location": c.label}) for c in scene_clips(locations=2))
    split = Split(
        name="fold1",
        train=tuple(c.id for c in clips if c.device == "a"),
        test=tuple(c.id for c in clips if c.device == "b"),
    )
    store, watch = make_store(tmp_path / "scenes" / "made_up.zarr", clips, splits=(split,)), Notes()
    folder = fitted(store, tmp_path / "run", "selection.side=last", "selection.fraction=0", watch=watch)
    assert any("not calibrated" in note for note in watch.notes)
    assert float(machine(folder).inverse_temperature) == 1


def test_a_machine_that_does_not_converge_is_said_in_words(tmp_path, store, monkeypatch):
    monkeypatch.setattr("ascmodels.trainers.svm.LINEAR_STEPS", 1)
    watch = Notes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(store, tmp_path / "run", "trainer.kernel=linear", watch=watch)
    assert any("Not converged" in note and "smaller c" in note for note in watch.notes)


def test_numbers_of_something_else_are_refused(tmp_path, store):
    folder = fitted(store, tmp_path / "run")
    with pytest.raises(RunError, match="no support vector machine"):
        Machine({**read_weights(folder.checkpoint(1)), "more": torch.zeros(1)})
    file = folder.checkpoint(1) / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match="cannot be loaded"):
        scores(folder, store)


def test_the_same_family_trains_by_gradient_descent(tmp_path, store):
    settings = ["trainer.kind=supervised", "normalise=band", "epochs=20", "optimiser.lr=0.02"]
    folder = fitted(store, tmp_path / "run", *settings)
    assert max(row.watched_accuracy for row in folder.progress().rows) > 0.8
    assert json.loads((folder.path / "config.json").read_text())["family"]["kind"] == "pooled"
