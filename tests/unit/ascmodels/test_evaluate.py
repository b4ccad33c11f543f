"""Reports: the right clips, counted rightly, with published numbers beside ours only where they can be compared."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ascmodels import papers, recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.evaluate import Measured, beside, evaluate
from ascmodels.report import markdown, write
from ascmodels.testing.stores import make_store, small_recipe
from ascmodels.training import train
from ascmodels.watching import Watcher
from ascmodels.weights import SUMS, WEIGHTS
from ascschemas.problems import RunError, StoreMismatch
from ascschemas.report import Report
from ascschemas.training import Claim

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One store for all tests of this file; nothing writes into it."""
    return make_store(tmp_path_factory.mktemp("evaluate") / "scenes" / "made_up.zarr")


@pytest.fixture(scope="module")
def run(tmp_path_factory, store):
    """One finished run for all tests of this file."""
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    train(recipes.override(small_recipe(), ["epochs=4"]), store, folder, device="cpu")
    return folder


def test_every_score_is_what_the_network_says_of_the_test_side(run, store):
    report = evaluate(run, store, device="cpu")
    folder = RunFolder(run)
    scorer = recipes.trainer(folder.recipe).scorer(folder, folder.progress().selected, torch.device("cpu"))
    test = np.flatnonzero(store.sides("fold1") == "test")
    guess = scorer([torch.from_numpy(store.read(test))]).argmax(1).numpy()
    right = np.array([folder.data.classes[g] == store.labels[c] for g, c in zip(guess, test, strict=True)])
    assert (report.selected.overall.correct, report.selected.overall.total) == (right.sum(), 24)
    for scores, groups in (
        (report.selected.classes, store.labels),
        (report.selected.devices, store.devices),
        (report.selected.cities, store.cities),
    ):
        counted = {s.name: (s.correct, s.total) for s in scores}
        of = np.array([groups[c] for c in test])
        assert counted == {g: (right[of == g].sum(), (of == g).sum()) for g in sorted(set(of))}
    assert sum(map(sum, report.selected.confusion.counts)) == 24


def test_the_last_epoch_stands_beside_the_selected_one(run, store):
    report = evaluate(run, store, device="cpu")
    progress = RunFolder(run).progress()
    assert (report.selected.epoch, report.last.epoch) == (progress.selected, 4)


def test_the_headline_is_the_mean_over_the_papers_devices(run, store):
    report = evaluate(run, store, device="cpu")
    assert report.selected.device_mean == next(s.accuracy for s in report.selected.devices if s.name == "b")
    assert report.headline_accuracy == report.selected.device_mean
    assert "devices b" in report.headline


def test_without_those_devices_it_is_the_overall_accuracy(tmp_path, store, recipe):
    other = recipe.model_copy(update={"headline_devices": ("b", "s1")})
    train(other, store, tmp_path / "run", device="cpu")
    report = evaluate(tmp_path / "run", store, device="cpu")
    assert report.selected.device_mean is None
    assert report.headline_accuracy == report.selected.overall.accuracy


def test_selecting_on_the_test_side_is_said_in_the_report(tmp_path, store, recipe):
    train(recipes.override(recipe, ["selection.side=test"]), store, tmp_path / "run", device="cpu")
    report = evaluate(tmp_path / "run", store, device="cpu")
    assert "TEST" in report.selection
    assert "TEST" in markdown(report)
    best = max(row.watched_accuracy for row in RunFolder(tmp_path / "run").progress().rows)
    assert report.selected.overall.accuracy == pytest.approx(best)


def test_a_run_under_way_may_be_evaluated_and_the_report_says_so(tmp_path, store, recipe):
    class Stop(Watcher):
        def epoch(self, row, *, selected):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, store, tmp_path / "run", device="cpu", watch=Stop())
    assert "not finished: 1 of 3 epochs" in evaluate(tmp_path / "run", store, device="cpu").selection


def test_another_store_is_refused_with_both_digests(tmp_path, run, store):
    other = make_store(tmp_path / "features" / "other" / "made_up.zarr", excluded=(1,))
    with pytest.raises(StoreMismatch) as refused:
        evaluate(run, other, device="cpu")
    found = refused.value.differences[0]
    assert (found.expected, found.found) == (store.seal.digest[:16], other.seal.digest[:16])


def test_test_clips_without_values_are_named_and_not_scored(tmp_path, recipe):
    store = make_store(tmp_path / "d" / "made_up.zarr", excluded=(0, 20))
    train(recipe, store, tmp_path / "run", device="cpu")
    report = evaluate(tmp_path / "run", store, device="cpu")
    assert report.unscored == (store.ids[0],)
    assert report.selected.overall.total == 23
    assert store.ids[0] in markdown(report)


def test_a_run_without_a_checkpoint_is_refused(tmp_path, store, recipe, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("ascmodels.trainers.supervised.prepared", stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, store, tmp_path / "run", device="cpu")
    with pytest.raises(RunError, match="no checkpoint yet"):
        evaluate(tmp_path / "run", store)


def claim(run, **other):
    """The paper's claim for device b, as if it had been made on the run's own data."""
    data = RunFolder(run).data
    values = papers.load("nguyen2020").claims[1].model_dump() | {k: v for k, v in other.items() if k != "data"}
    here = {"kind": data.dataset_kind, "split": "fold1", "train": 48, "test": 24}
    return Claim.model_validate(values | {"data": values["data"] | here | other.get("data", {})})


def measured(folder, changed=()):
    """What a run was measured on, as if its recipe had been changed so."""
    return replace(Measured.of(folder.data, folder.recipe), changed=changed)


def test_published_numbers_stand_beside_ours(run, store):
    report, folder = evaluate(run, store, device="cpu"), RunFolder(run)
    device = beside(claim(run), report.selected, measured(folder))
    assert (device.comparable, device.ours) == (True, report.selected.device_mean)
    for scope, group, ours in (
        ("overall", "", report.selected.overall.accuracy),
        ("class_mean", "", report.selected.class_mean),
        ("class", "park", report.selected.classes[1].accuracy),
        ("city", "vienna", report.selected.cities[1].accuracy),
        ("device", "z", None),
    ):
        judged = beside(claim(run, scope=scope, group=group), report.selected, measured(folder))
        assert judged.ours == ours


@pytest.mark.parametrize(
    "other", [{"kind": "tau2019_mobile"}, {"split": "fold2"}, {"train": 49}, {"test": 23, "train": 49}]
)
def test_numbers_of_other_data_are_not_comparable_and_say_why(run, store, other):
    report, folder = evaluate(run, store, device="cpu"), RunFolder(run)
    judged = beside(claim(run, data=other), report.selected, measured(folder))
    assert not judged.comparable
    assert "not comparable: another dataset" in judged.remark


def test_numbers_of_a_changed_recipe_are_not_comparable(run, store):
    report, folder = evaluate(run, store, device="cpu"), RunFolder(run)
    assert Measured.of(folder.data, folder.recipe).changed == ("epochs",)
    judged = beside(claim(run), report.selected, Measured.of(folder.data, folder.recipe))
    assert (judged.comparable, judged.remark) == (False, "not comparable: the recipe was changed (epochs)")


@pytest.mark.parametrize("setting", ["seed=3", "trainer.precision=bf16", "window_mib=16", "trainer.accumulate=2"])
def test_what_changes_no_accuracy_beyond_chance_may_be_changed(run, setting):
    folder = RunFolder(run)
    changed = recipes.override(small_recipe(), [setting])
    assert Measured.of(folder.data, changed).changed == ()


def test_a_report_is_written_as_json_words_and_a_picture(run, store):
    report = evaluate(run, store, device="cpu")
    names = [file.name for file in write(report, run)]
    assert names == ["report.json", "report.md", "confusion.png"]
    assert Report.model_validate_json((run / "report.json").read_text()) == report
    assert (run / "confusion.png").read_bytes().startswith(PNG)
    assert (run / "curves.png").read_bytes().startswith(PNG)
    text = (run / "report.md").read_text()
    for word in ("## Per class", "## Per device", "## Per city", "park", "lisbon", "95 % interval", "`epochs` = 4"):
        assert word in text
    assert json.loads((run / "report.json").read_text())["provenance"]["changed"] == {"epochs": "4"}


def test_provenance_names_recipe_store_and_size(run, store, recipe):
    made = evaluate(run, store, device="cpu").provenance
    network = recipes.family(recipe).build((store.layout,), 3)
    assert made.parameters == sum(p.numel() for p in network.parameters())
    assert made.stores == {"made_up": store.seal.digest}
    assert made.fingerprint == RunFolder(run).recipe.fingerprint


def test_clips_of_which_a_run_says_nothing_are_named_and_not_counted_as_the_first_class(tmp_path, run, store):
    damaged = tmp_path / "run"
    shutil.copytree(run, damaged)
    folder = RunFolder(damaged)
    file = folder.checkpoint(folder.progress().selected) / WEIGHTS
    held = load_file(file)
    held["network.dense.bias"].fill_(float("nan"))
    save_file(held, file)
    (file.parent / SUMS).unlink()
    with pytest.raises(RunError, match="24 of 24 clips cannot be scored") as refused:
        evaluate(damaged, store, device="cpu")
    test = np.flatnonzero(store.sides("fold1") == "test")
    assert [d.field for d in refused.value.differences] == [store.ids[c] for c in test[:3]]
