"""The coded_svm trainer: scikit-learn's own machines on the network's codes decide, are kept, and score alone."""

import sys

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.evaluate import evaluate
from ascmodels.joining import join
from ascmodels.margins import Machine, decided
from ascmodels.sides import divide
from ascmodels.testing import stores
from ascmodels.testing.stores import make_store, small_recipe
from ascmodels.testing.trainers import Ending, Interrupting, Notes
from ascmodels.trainers import svm
from ascmodels.trainers.networks import trained
from ascmodels.training import train
from ascmodels.weights import MACHINE, read_weights
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError, RunError, StoreError, StoreMismatch
from ascschemas.recipe import Patches

CPU = torch.device("cpu")


def coded(*settings):
    return recipes.override(small_recipe(), ["trainer.kind=coded_svm", "selection.fraction=0.3", *settings])


def fitted(store, out, *settings, **options):
    train(coded(*settings), store, out, device="cpu", **options)
    return RunFolder(out)


def codes_by_hand(folder, store, epoch):
    """Of every clip of the store, one clip at a time."""
    model = trained(folder, epoch, CPU, channels_last=False)
    with torch.inference_mode():
        rows = torch.from_numpy(store.read(range(len(store.ids))))
        return torch.cat([model.network.codes(*model.normalised([row[None]])) for row in rows]).double().numpy()


def sides(folder, store):
    found = divide(store, folder.data.split, folder.recipe)
    return found, np.array([folder.data.classes.index(label) for label in store.labels])


def machine(folder, epoch):
    return Machine(read_weights(folder.checkpoint(epoch), MACHINE))


def test_each_epoch_is_what_the_better_of_scikit_learns_machines_says_of_the_watched_side(tmp_path, store):
    watch = Notes()
    folder = fitted(store, tmp_path / "run", "augmentation.crop.length=22", watch=watch)
    epoch = folder.progress().epoch
    codes, (there, targets) = codes_by_hand(folder, store, epoch), sides(folder, store)
    theirs = {k: SVC(kernel=k).fit(codes[there.train], targets[there.train]) for k in ("rbf", "sigmoid")}
    right = {k: m.score(codes[there.validation], targets[there.validation]) for k, m in theirs.items()}
    kept = max(right, key=right.get)
    assert machine(folder, epoch).kernel == kept
    assert folder.progress().rows[-1].watched_accuracy == right[kept]
    ours = decided(machine(folder, epoch), codes)
    np.testing.assert_allclose(ours, theirs[kept].decision_function(codes), rtol=1e-4, atol=1e-4)
    said = [n for n in watch.notes if n.startswith(f"Epoch {epoch},")]
    assert said == [f"Epoch {epoch}, watched side by kernel: rbf {right['rbf']:.2%}, sigmoid {right['sigmoid']:.2%}; "
                    f"{kept} is kept."]  # fmt: skip


@pytest.mark.parametrize("kernel", ["rbf", "sigmoid"])
def test_scores_and_reports_are_the_machines_and_need_no_scikit_learn(tmp_path, store, kernel, monkeypatch):
    folder = fitted(store, tmp_path / "run", f"trainer.kernels=[{kernel}]", "epochs=2")
    epoch = folder.progress().selected
    codes, (there, targets) = codes_by_hand(folder, store, epoch), sides(folder, store)
    theirs = SVC(kernel=kernel).fit(codes[there.train], targets[there.train])
    for name in [n for n in sys.modules if n.partition(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    scores = recipes.trainer(folder.recipe).scorer(folder, epoch, CPU)(
        [torch.from_numpy(store.read(range(len(store.ids))))]
    )
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    expected = theirs.decision_function(codes).argmax(axis=1)
    np.testing.assert_array_equal(scores.argmax(axis=1), expected)
    report = evaluate(tmp_path / "run", store, device="cpu")
    assert f"support vector machine ({kernel}) on the network's codes" in report.selection
    wanted = (expected == targets)[there.test].mean()
    assert report.selected.overall.accuracy == pytest.approx(wanted)


def test_the_selected_epoch_has_the_machine_that_was_best(tmp_path, store):
    folder = fitted(store, tmp_path / "run", "epochs=4")
    watched = [row.watched_accuracy for row in folder.progress().rows]
    assert folder.finished.selected == 1 + watched.index(max(watched))
    _, targets = sides(folder, store)
    there, _ = sides(folder, store)
    codes = codes_by_hand(folder, store, folder.finished.selected)
    guess = decided(machine(folder, folder.finished.selected), codes).argmax(axis=1)
    assert (guess == targets)[there.validation].mean() == max(watched)


def test_killed_in_an_epoch_and_resumed_it_ends_with_the_same_bits(tmp_path, store):
    def kill():
        raise KeyboardInterrupt

    whole = fitted(store, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fitted(store, tmp_path / "cut", watch=Ending(2, kill))
    cut = fitted(store, tmp_path / "cut", resume=True)
    assert [r.watched_loss for r in cut.progress().rows] == [r.watched_loss for r in whole.progress().rows]
    for name in ("weights.safetensors", MACHINE):
        one, two = (read_weights(folder.checkpoint(3), name) for folder in (whole, cut))
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_network_is_the_one_that_supervised_trains(tmp_path, store):
    folder = fitted(store, tmp_path / "coded", "selection.side=last")
    train(recipes.override(folder.recipe, ["trainer.kind=supervised"]), store, tmp_path / "plain", device="cpu")
    one, two = (read_weights(f.checkpoint(3)) for f in (folder, RunFolder(tmp_path / "plain")))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_machines_every_second_epoch_and_after_the_last(tmp_path, store):
    folder = fitted(store, tmp_path / "run", "trainer.svm_every=2", "epochs=5")
    watched = [row.watched_accuracy is not None for row in folder.progress().rows]
    assert watched == [False, True, False, True, True]
    assert folder.finished.selected in (2, 4, 5)
    assert evaluate(tmp_path / "run", store, device="cpu").last.epoch == 5


def test_training_that_stops_early_ends_with_a_machine(tmp_path, store):
    settings = ["trainer.svm_every=3", "epochs=30", "early_stopping=2", "optimiser.lr=1e-12"]
    folder = fitted(store, tmp_path / "run", *settings)
    assert folder.finished.stopped == "early_stopping"
    assert folder.finished.last == 5  # best at 3, and nothing is learnt
    assert machine(folder, 5).kernel in ("rbf", "sigmoid")


def test_an_epoch_without_a_machine_is_refused_until_training_goes_on(tmp_path, store):
    settings = ["trainer.svm_every=3"]
    with pytest.raises(KeyboardInterrupt):
        fitted(store, tmp_path / "run", *settings, watch=Interrupting(1))
    with pytest.raises(RunError, match="after epoch 1") as refused:
        evaluate(tmp_path / "run", store, device="cpu")
    assert refused.value.differences
    assert "--resume" in refused.value.todo


def test_where_nothing_is_watched_the_first_kernel_is_taken(tmp_path, store):
    settings = ["selection.side=last", "selection.fraction=0", "trainer.kernels=[sigmoid, rbf]", "epochs=1"]
    folder = fitted(store, tmp_path / "run", *settings)
    assert machine(folder, 1).kernel == "sigmoid"
    assert folder.progress().rows[0].watched_accuracy is None


def test_its_temperature_is_never_fitted_on_the_test_side(tmp_path, store, monkeypatch):
    seen = []
    inner = svm.inverse_temperature
    monkeypatch.setattr(svm, "inverse_temperature", lambda d, t: seen.append(len(t)) or inner(d, t))
    folder = fitted(store, tmp_path / "run", "selection.side=test", "epochs=1")
    there, _ = sides(folder, store)
    assert len(there.validation) == 0
    assert seen == [12]  # whole locations of the training side: one of each class, four clips each
    assert machine(folder, 1).inverse_temperature != 1


def test_families_without_codes_patches_several_processes_and_repeated_kernels_are_refused(tmp_path, store):
    with pytest.raises(RecipeError, match="offer none") as refused:
        fitted(store, tmp_path / "a", "family.kind=pooled")
    assert [(d.field, d.found) for d in refused.value.differences] == [("family.kind", "pooled")]
    cut = make_store(tmp_path / "cut" / "made_up.zarr", shape=stores.layout(21, 63), patches=Patches(width=21, hop=21))
    with pytest.raises(RecipeError, match="patches") as refused:
        fitted(cut, tmp_path / "b")
    assert [(d.expected, d.found) for d in refused.value.differences] == [("1", "3")]
    with pytest.raises(RecipeError, match="name each of kernels once"):
        coded("trainer.kernels=[rbf, rbf]")


def test_it_works_in_one_process_and_says_what_it_lacks(tmp_path, store, monkeypatch):
    with monkeypatch.context() as started:
        started.setattr(svm, "processes", lambda: 2)
        with pytest.raises(RunError, match="coded_svm works in one process, and there are 2"):
            fitted(store, tmp_path / "run")
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(RunError, match="coded_svm needs scikit-learn") as refused:
        fitted(store, tmp_path / "run")
    assert "pip install" in refused.value.todo
    assert not (tmp_path / "run").exists()


def wave_store(tmp_path, name="waveform", samples=60):
    axes = (Axis(name="channel", size=20), Axis(name="time", size=samples))
    return make_store(tmp_path / "scenes" / f"{name}.zarr", shape=Layout(axes=axes, quantity="made up"))


def tag_store(tmp_path, monkeypatch, *, between, labels=None):
    """Tags, of every clip between 0 and 1 where they are to be so."""
    inner = stores.features
    squashed = lambda manifest, shape: 1 / (1 + np.exp(-5 - inner(manifest, shape)))  # noqa: E731
    monkeypatch.setattr(stores, "features", squashed if between else inner)
    shape = Layout(axes=(Axis(name="tag", size=20),), quantity="tag value")
    return make_store(tmp_path / "scenes" / "tags.zarr", labels, shape=shape)


def jung(*settings):
    family = ["stem_filters=8", "stem_kernel=4", "widths=[8]", "final_conv=8", "code=6", "concatenation=before_code"]
    attention = ["attention=true", "heads=2", "shared=true", "transform_layers=1"]
    named = [f"family.{f}" for f in (*family, *attention)]
    kinds = ["family.kind=waveform_tag_resnet", "features=[waveform, tags]", "normalise=none"]
    return recipes.override(coded(*settings), [*kinds, *named, "batch_size=8", "augmentation.mixup=none"])


def test_waveforms_and_tags_are_trained_together_scored_and_resumed(tmp_path, monkeypatch):
    both = join(wave_store(tmp_path), tag_store(tmp_path, monkeypatch, between=True))
    train(jung("epochs=3"), both, tmp_path / "run", device="cpu")
    assert evaluate(tmp_path / "run", both, device="cpu").selected.overall.total == 24
    folder = RunFolder(tmp_path / "run")
    scorer = recipes.trainer(folder.recipe).scorer(folder, 3, CPU)
    waves, tags = (torch.from_numpy(m.source.read(m.at)) for m in both.members)
    alike = scorer([waves, tags]) == scorer([waves, tags.flip(0)])
    assert not alike.all(dim=1).any()  # every clip's tags have a say
    with pytest.raises(KeyboardInterrupt):
        train(jung("epochs=3"), both, tmp_path / "cut", device="cpu", watch=Interrupting(2))
    train(jung("epochs=3"), both, tmp_path / "cut", device="cpu", resume=True)
    one, two = (read_weights(RunFolder(tmp_path / p).checkpoint(3), MACHINE) for p in ("run", "cut"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_tags_outside_zero_to_one_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    both = join(wave_store(tmp_path), tag_store(tmp_path, monkeypatch, between=False))
    with pytest.raises(StoreError, match=r"tags\.zarr holds tags that are no probabilities") as refused:
        train(jung(), both, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    rows = refused.value.differences
    assert [d.field for d in rows[:3]] == list(both.ids[:3])
    assert rows[3].field == "and 69 more"
    assert {d.expected for d in rows} == {"0 to 1"}
    assert "--tags" in refused.value.todo
    plain = [f"family.{f}" for f in ("concatenation=none", "attention=false", "shared=false", "transform_layers=0")]
    alone = recipes.override(jung(), ["features=waveform", *plain, "epochs=1"])
    train(alone, join(both.members[0].source), tmp_path / "run", device="cpu")  # who sees no tags refuses none


def test_tags_of_other_labels_are_refused_with_the_first_clips(tmp_path, monkeypatch):
    after = {"bus": "park", "park": "tram", "tram": "bus"}
    moved = tuple(c.model_copy(update={"label": after[c.label]}) for c in stores.scene_clips())
    with pytest.raises(StoreMismatch, match="do not hold the same clips") as refused:
        join(wave_store(tmp_path), tag_store(tmp_path, monkeypatch, between=True, labels=moved))
    assert refused.value.differences[0].expected == "label bus"
    assert refused.value.differences[0].found == "label park"
