"""Runs that vote: the majority of their decisions over the same clips, pooled over folds, refused where they differ."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from ascmodels import ensembles, papers, recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.ensemble import decided, ensemble
from ascmodels.ensemble_report import markdown, write
from ascmodels.evaluate import evaluate
from ascmodels.joining import join
from ascmodels.testing.stores import layout, make_store, scene_clips, scene_split, small_recipe
from ascmodels.training import train
from ascschemas.dataset import Split
from ascschemas.ensemble import Ensemble, EnsembleReport
from ascschemas.problems import RecipeError, RunError, StoreMismatch


class Runs:
    """Runs of quick models, trained once each and kept for all tests of this file."""

    def __init__(self, folder):
        self.folder, self.stores, self.made = folder, {}, {}
        clips = scene_clips()
        swapped = Split(name="fold2", train=scene_split(clips).test, test=scene_split(clips).train)
        splits = (scene_split(clips), swapped)
        self.stores["one"] = make_store(folder / "scenes" / "one.zarr", clips, splits=splits, excluded=(2,))
        backwards = layout(bands=30, frames=8)
        self.stores["two"] = make_store(
            folder / "scenes" / "two.zarr", clips[::-1], splits=splits, excluded=(len(clips) - 3,), shape=backwards
        )

    def __call__(self, store="one", split="fold1", *settings, name="small"):
        key = (store, split, settings, name)
        if key not in self.made:
            asked = ["family.kind=pooled", f"features={store}", "epochs=1", "batch_size=8", *settings]
            recipe = recipes.override(small_recipe(), asked)
            own = {} if name == "small" else {"sources": dict.fromkeys(recipe.sources, "ours")}
            recipe = recipe.model_copy(update={"name": name, "headline_devices": (), **own})
            out = self.folder / "runs" / str(len(self.made))
            train(recipe, self.stores[store], out, split=split, device="cpu")
            self.made[key] = out
        return self.made[key], self.stores[store]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("ensemble"))


def of_clips(path, store):
    """What a run says of each clip of its test side, by the clip's name."""
    folder = RunFolder(path)
    scorer = recipes.trainer(folder.recipe).scorer(folder, folder.progress().selected, torch.device("cpu"))
    test = np.flatnonzero((join(store).sides(folder.data.split) == "test") & store.usable)
    said = scorer([torch.from_numpy(store.read(test))]).numpy()
    return {store.ids[c]: row for c, row in zip(test, said, strict=True)}


def by_hand(rows, vote):
    """The class of one clip, of what each run says of it."""
    total = np.sum(rows, axis=0, dtype=np.float64)
    votes = Counter(int(np.argmax(row)) for row in rows) if vote == "majority" else Counter()
    return max(range(len(total)), key=lambda k: (votes[k], total[k]))


@pytest.mark.parametrize("vote", ["majority", "mean"])
def test_runs_decide_as_counting_by_hand_does(vote):
    said = [np.random.default_rng(i).dirichlet(np.ones(4), 300).astype(np.float32) for i in range(6)]
    expected = [by_hand([s[i] for s in said], vote) for i in range(300)]
    assert decided(said, vote).tolist() == expected


def test_ties_go_to_the_larger_sum_of_probabilities():
    sure, unsure, other = ([[0.9, 0.1, 0]], [[0.3, 0.5, 0.2]], [[0, 0.45, 0.55]])
    said = [np.array(rows, dtype=np.float32) for rows in (sure, unsure)]
    assert decided(said, "majority").tolist() == [0]  # one vote each, 1.2 against 0.6
    three = [*said, np.array(other, dtype=np.float32)]
    assert decided(three, "majority").tolist() == [0]  # one vote each: 1.2, 1.05, 0.75
    two_to_one = [*said, said[1]]
    assert decided(two_to_one, "majority").tolist() == [1]
    assert decided(two_to_one, "mean").tolist() == [0]  # 1.5 against 1.1


@pytest.mark.parametrize("vote", ["majority", "mean"])
def test_the_report_counts_the_vote_over_stores_of_other_orders(runs, vote):
    three = [runs(), runs("two"), runs("one", "fold1", "seed=1", "epochs=2")]
    report = ensemble(three, vote=vote, device="cpu")
    said = [of_clips(*run) for run in three]
    store = runs.stores["one"]
    label = dict(zip(store.ids, store.labels, strict=True))
    classes = RunFolder(three[0][0]).data.classes
    right = {clip: classes[by_hand([s[clip] for s in said], vote)] == label[clip] for clip in said[0]}
    assert (report.scores.overall.correct, report.scores.overall.total) == (sum(right.values()), len(right))
    for score in report.scores.classes:
        assert score.correct == sum(r for clip, r in right.items() if label[clip] == score.name)
    assert sum(map(sum, report.scores.confusion.counts)) == len(right)
    assert (report.split, report.dataset, report.vote) == ("fold1", "scenes", vote)
    assert (report.published, report.claims) == ("", ())
    assert report.unscored == (store.ids[2],)


def test_each_runs_own_accuracy_is_what_evaluate_says(runs):
    two = [runs(), runs("two")]
    report = ensemble(two, device="cpu")
    for (path, store), voter, model in zip(two, report.voters, report.models, strict=True):
        alone = evaluate(path, store, device="cpu")
        assert (voter.run, voter.epoch) == (str(path), alone.selected.epoch)
        assert voter.overall == model.overall == alone.selected.overall
        assert voter.class_mean == pytest.approx(alone.selected.class_mean)
        assert voter.provenance.stores == alone.provenance.stores


def test_folds_vote_one_by_one_and_are_scored_together(runs):
    by_fold = [[runs(s, f"location2_{k}") for s in ("two", "one")] for k in (2, 1)]
    report = ensemble([by_fold[0][0], *by_fold[1], by_fold[0][1]], device="cpu")
    store, label = runs.stores["one"], dict(zip(runs.stores["one"].ids, runs.stores["one"].labels, strict=True))
    classes, right = RunFolder(by_fold[0][0][0]).data.classes, {}
    for members in by_fold:
        said = [of_clips(*run) for run in members]
        right |= {clip: classes[by_hand([s[clip] for s in said], "majority")] == label[clip] for clip in said[0]}
    assert len(right) == len(store.ids) - 1
    assert (report.scores.overall.correct, report.scores.overall.total) == (sum(right.values()), len(right))
    assert (report.split, len(report.models), len(report.voters)) == ("location2", 2, 4)
    of_one = [v for v in report.voters if v.provenance.stores.keys() == {"one"}]
    alone = next(m for m in report.models if m.overall.correct == sum(v.overall.correct for v in of_one))
    assert alone.overall.total == len(right)


def test_one_model_in_all_folds_is_a_cross_validation(runs):
    report = ensemble([runs("one", f"location2_{k}") for k in (1, 2)], device="cpu")
    assert report.scores.overall == report.models[0].overall
    assert report.scores.overall.total == len(runs.stores["one"].ids) - 1


def published(name, runs, split, test):
    store = runs.stores["one"]
    data = {"title": "Scenes", "kind": store.header.dataset_kind, "split": split, "train": 72 - test, "test": test}
    claim = {"scope": "class_mean", "value": 70, "data": data, "source": "Table 1"}
    values = {"name": name, "title": f"Paper {name}", "members": ["a", "b"], "vote": "majority", "claims": [claim]}
    return Ensemble.model_validate(values)


def test_a_published_number_stands_beside_the_ensemble_of_its_recipes_only(runs, monkeypatch):
    five = published("five", runs, "location2", 36)
    monkeypatch.setattr(ensembles, "published", lambda: (five,))
    members = {(k, name): runs("one", f"location2_{k}", name=name) for k in (1, 2) for name in ("a", "b")}
    report = ensemble([*members.values()], device="cpu")
    assert (report.published, report.claims[0].comparable) == ("Paper five", True)
    assert report.claims[0].ours == report.scores.class_mean
    assert ensemble([*members.values()], vote="mean", device="cpu").claims == ()
    assert ensemble([members[1, "a"], members[2, "a"]], device="cpu").claims == ()
    one_fold = ensemble([members[1, "a"], members[1, "b"]], device="cpu")
    assert not one_fold.claims[0].comparable
    assert one_fold.claims[0].remark == "not comparable: one fold of 2, and the published number is of all"
    other = ensemble([runs("one", "fold1", name=name) for name in ("a", "b")], device="cpu")
    assert not other.claims[0].comparable
    assert "another dataset (made_up, fold1)" in other.claims[0].remark


def test_a_published_number_does_not_stand_for_changed_members(runs, monkeypatch):
    monkeypatch.setattr(ensembles, "published", lambda: (published("five", runs, "location2", 36),))
    members = [runs("one", f"location2_{k}", name=name) for k in (1, 2) for name in ("a", "b")]
    said = RunFolder(members[0][0]).path / "config.json"
    before = said.read_text()
    said.write_text(before.replace('"batch_size": "ours"', '"batch_size": "command line"'))
    try:
        claim = ensemble(members, device="cpu").claims[0]
    finally:
        said.write_text(before)
    assert (claim.comparable, claim.remark) == (False, "not comparable: the recipe was changed (batch_size)")


def test_a_claim_of_five_folds_holds_for_as_many_clips_only(runs, monkeypatch):
    monkeypatch.setattr(ensembles, "published", lambda: (published("more", runs, "location2", 37),))
    members = [runs("one", f"location2_{k}", name=name) for k in (1, 2) for name in ("a", "b")]
    assert ensemble(members, device="cpu").claims[0].comparable  # 72 clips on both sides
    more = published("more", runs, "location2", 36)
    data = more.claims[0].data.model_copy(update={"train": 37})
    more = more.model_copy(update={"claims": (more.claims[0].model_copy(update={"data": data}),)})
    monkeypatch.setattr(ensembles, "published", lambda: (more,))
    assert "(72 clips, not 73)" in ensemble(members, device="cpu").claims[0].remark


def test_runs_of_other_splits_are_refused_with_them(runs):
    with pytest.raises(RunError, match="not trained on one split") as refused:
        ensemble([runs(), runs("one", "fold2"), runs("one", "location2_1")], device="cpu")
    assert [(d.expected, d.found) for d in refused.value.differences] == [("fold1", "fold2"), ("fold1", "location2_1")]
    with pytest.raises(RunError, match="not trained on one split"):
        ensemble([runs("one", "location2_1"), runs("one", "location3_2")], device="cpu")
    with pytest.raises(RunError, match="not trained on one split"):  # a fold is missing
        ensemble([runs("one", "location3_1"), runs("one", "location3_2")], device="cpu")


def test_folds_of_other_models_are_refused_with_what_differs(runs):
    with pytest.raises(RunError, match="do not answer the same question") as refused:
        ensemble([runs("one", "location2_1"), runs("one", "location2_2", "batch_size=4")], device="cpu")
    (row,) = refused.value.differences
    assert row.field.endswith(":.batch_size")
    assert (row.expected, row.found) == ("8", "4")
    with pytest.raises(RunError) as refused:
        ensemble([runs("one", "location2_1"), runs("one", "location2_2"), runs("two", "location2_2")], device="cpu")
    assert [(d.field, d.found) for d in refused.value.differences] == [("runs of location2_2", "2")]


def test_runs_tested_on_other_clips_or_labels_are_refused_with_the_clips(runs, tmp_path):
    clips = list(scene_clips())
    tested = sorted({*scene_split(tuple(clips)).test})
    at = [c.id for c in clips].index(tested[0])
    clips[at] = clips[at].model_copy(update={"label": "tram"})
    excluded = tuple(i for i, c in enumerate(clips) if c.id in tested[1:6])
    store = make_store(tmp_path / "scenes" / "made_up.zarr", tuple(clips), excluded=excluded)
    recipe = recipes.override(small_recipe(), ["family.kind=pooled", "epochs=1"])
    train(recipe, store, tmp_path / "run", device="cpu")
    with pytest.raises(RunError, match="do not answer the same question") as refused:
        ensemble([runs(), (tmp_path / "run", store)], device="cpu")
    rows = [(d.field.split(" tested by ")[0], d.expected, d.found) for d in refused.value.differences]
    assert rows[0] == (tested[0], "bus", "tram")
    assert rows[1][1:] == ("bus", "not tested")
    assert len(rows) == 4
    assert rows[3][2].endswith("clips more")


def test_runs_of_other_classes_are_refused_with_them(runs, tmp_path):
    clips = tuple(c.model_copy(update={"label": {"tram": "metro"}.get(c.label, c.label)}) for c in scene_clips())
    store = make_store(tmp_path / "scenes" / "made_up.zarr", clips, splits=(scene_split(clips),))
    train(recipes.override(small_recipe(), ["family.kind=pooled", "epochs=1"]), store, tmp_path / "run", device="cpu")
    with pytest.raises(RunError) as refused:
        ensemble([runs(), (tmp_path / "run", store)], device="cpu")
    row = refused.value.differences[0]
    assert (row.field, row.expected, row.found) == (
        f"classes of {tmp_path / 'run'}",
        "bus, park, tram",
        "bus, metro, park",
    )


def test_one_run_a_run_twice_and_another_store_are_refused(runs):
    with pytest.raises(RunError, match="cannot vote") as refused:
        ensemble([runs()], device="cpu")
    assert [(d.expected, d.found) for d in refused.value.differences] == [("at least 2", "1")]
    path, store = runs()
    with pytest.raises(RunError, match="cannot vote") as refused:
        ensemble([(path, store), (path / ".." / path.name, store)], device="cpu")
    assert refused.value.differences[0].found == "2 times"
    with pytest.raises(StoreMismatch, match="not the store"):
        ensemble([runs(), (path, runs.stores["two"])], device="cpu")


def test_a_report_is_written_where_no_run_is(runs, tmp_path):
    two = [runs(), runs("two")]
    report = ensemble(two, device="cpu")
    files = write(report, tmp_path / "a" / "vote")
    assert [f.name for f in files] == ["report.json", "report.md", "confusion.png"]
    assert EnsembleReport.model_validate_json(files[0].read_text()) == report
    assert json.loads(files[0].read_text())["vote"] == "majority"
    text = files[1].read_text()
    assert text == markdown(report)
    assert str(two[1][0]) in text
    assert "| together |" in text
    assert "family.kind = pooled" in text
    assert files[2].read_bytes().startswith(b"\x89PNG")
    with pytest.raises(RunError, match="is a run folder"):
        write(report, two[0][0])
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="No report can be kept"):
        write(report, tmp_path / "file" / "vote")


def test_the_published_ensemble_is_table_2_and_table_3_of_huang2019():
    (huang,) = [e for e in ensembles.published() if e.name == "huang2019"]
    assert len({*huang.members} & {*papers.names()}) == 6
    assert ensembles.of(huang.members[::-1], "majority") == huang
    assert ensembles.of(huang.members[1:], "majority") is None
    first, *classes = huang.claims
    assert (first.scope, first.value) == ("class_mean", 73.86)
    assert {c.group: c.value for c in classes} == {
        "airport": 78.3, "bus": 91.0, "metro": 67.1, "metro_station": 67.1, "park": 90.7, "public_square": 54.2,
        "shopping_mall": 69.2, "street_pedestrian": 61.0, "street_traffic": 91.1, "tram": 67.9,
    }  # fmt: skip
    assert {(c.data.kind, c.data.split, c.data.train + c.data.test) for c in huang.claims} == {
        ("tau2019", "location5", 14_400)
    }


TABLE_2 = {
    "huang2019_mfcc": (63.2, False, None, 2),
    "huang2019_mfcc_stap": (69.6, True, None, 2),
    "huang2019_mfcc_stap_mixup": (71.1, True, 0.2, 2),
    "huang2019_cqt_mfcc": (68.8, False, None, 1),
    "huang2019_cqt_mfcc_stap": (68.1, True, None, 1),
    "huang2019_hpss_stap_mixup": (65.5, True, 0.2, 2),
}


@pytest.mark.parametrize("name", TABLE_2)
def test_the_six_models_of_huang2019_are_the_paper_to_the_letter(name):
    recipe, (value, attention, mixup, stride) = papers.load(name), TABLE_2[name]
    values = recipe.hyper_parameters
    assert (recipe.claims[0].value, recipe.claims[0].plus_minus, len(recipe.claims)) == (value, 0.5, 1)
    assert (recipe.claims[0].scope, recipe.claims[0].data.split) == ("class_mean", "location5")
    assert values["family.attention"] is attention
    assert values["family.time_stride"] == stride
    assert values["family.widths"] == ([64, 128, 256, 512] if stride == 2 else [64, 128, 256, 256])
    assert values.get("augmentation.mixup.alpha") == mixup
    assert values.get("augmentation.mixup.share") == ("batch" if mixup else None)
    expected = {
        "objective.kind": "cross_entropy",
        "family.mask_gain": 1.0,
        "optimiser.kind": "adam",
        "optimiser.lr": 1e-4,
        "optimiser.weight_decay.value": 5e-4,
        "optimiser.weight_decay.form": "decoupled",
        "batch_size": 256,
        "epochs": 100,
        "early_stopping": 20,
        "selection.side": "validation",
        "selection.monitor": "accuracy",
        "vote": "majority",
    }
    assert {key: values[key] for key in expected} == expected
    features = {"cqt": ("cqt_patches", "mfcc_patches_fine"), "hps": ("hpss_mfcc_patches",), "mfc": ("mfcc_patches",)}
    assert recipe.features == features[name.removeprefix("huang2019_")[:3]]


def test_what_is_no_ensemble_is_refused():
    with pytest.raises(RecipeError, match="here is not an ensemble"):
        ensembles.read("name: one\n", "here")
