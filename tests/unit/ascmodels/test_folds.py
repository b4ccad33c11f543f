"""Folds by location: whole groups, every clip once, the same for every store and order of clips."""

from types import SimpleNamespace

import numpy as np
import pytest

from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.evaluate import evaluate
from ascmodels.folds import fold, folds
from ascmodels.joining import join
from ascmodels.testing.stores import make_store, scene_clips, small_recipe
from ascmodels.training import require_split, train
from ascschemas.problems import RunError, StoreError, StoreMismatch


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three scenes at six locations each, one clip without values, one without a label."""
    clips = list(scene_clips())
    clips[7] = clips[7].model_copy(update={"label": ""})
    folder = tmp_path_factory.mktemp("folds") / "scenes"
    return make_store(folder / "made_up.zarr", tuple(clips), splits=(), excluded=(3,))


def table(labels, locations, segments=None):
    count = len(labels)
    ids = tuple(f"{i:03}.wav" for i in range(count))
    return SimpleNamespace(
        labels=labels, locations=locations, segments=segments or ("",) * count, ids=ids, place="a table"
    )


def test_each_labelled_clip_tests_in_one_fold_with_its_whole_location(store):
    sides = np.stack([join(store).sides(f"location3_{k}") for k in (1, 2, 3)])
    assert ((sides == "test").sum(axis=0)[np.arange(72) != 7] == 1).all()
    assert ((sides == "train").sum(axis=0)[np.arange(72) != 7] == 2).all()
    assert set(sides[:, 7]) == {"unused"}
    for side in sides:
        tested = {location for location, s in zip(store.locations, side, strict=True) if s == "test"}
        trained = {location for location, s in zip(store.locations, side, strict=True) if s == "train"}
        assert not tested & trained
        assert len(tested) == 6
        assert {location.split("-")[0] for location in tested} == {"bus", "park", "tram"}


def test_the_order_of_clips_and_missing_values_change_no_fold(store, tmp_path):
    clips = scene_clips()
    backwards = make_store(tmp_path / "scenes" / "other.zarr", clips[::-1], splits=())
    whole = make_store(tmp_path / "scenes" / "whole.zarr", clips, splits=(), excluded=(0, 1, 50))
    forwards = dict(zip(whole.ids, folds(whole, 5), strict=True))
    assert forwards == dict(zip(backwards.ids, folds(backwards, 5), strict=True))


def test_clips_without_location_stay_with_their_segment_or_alone():
    labels = ("bus", "tram") * 6
    numbers = folds(table(labels, ("",) * 12, ("a", "a", "b", "b", *[""] * 8)), 2)
    assert numbers[0] == numbers[1]
    assert numbers[2] == numbers[3]
    assert np.bincount(numbers).tolist() == [0, 6, 6]


def test_a_large_location_is_dealt_first_and_others_fill_up():
    labels = ("bus",) * 10
    numbers = folds(table(labels, tuple("abbbbbcdee")), 2)  # sizes a 1, b 5, c 1, d 1, e 2
    assert numbers.tolist() == [2, 1, 1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    "name", ["location5", "location5_0", "location5_6", "location1_1", "location05_1", "location5_1 ", "fold1"]
)
def test_other_names_are_no_folds(name):
    assert fold(name) is None


def test_unknown_names_are_told_what_there_is(store, tmp_path):
    with pytest.raises(StoreError, match=r"no split 'location5_6': did you mean location5_\d") as refused:
        join(store).sides("location5_6")
    assert "location<K>_<k>" in refused.value.todo
    with pytest.raises(StoreError, match=r"did you mean fold1\?") as refused:
        join(make_store(tmp_path / "scenes" / "made_up.zarr")).sides("fold2")
    assert "its splits (fold1)" in refused.value.todo


def test_more_folds_than_locations_are_refused_with_both_numbers(store):
    with pytest.raises(RunError, match="cannot be divided into 30 folds") as refused:
        join(store).sides("location30_1")
    assert [(d.field, d.expected, d.found) for d in refused.value.differences] == [("locations", "at least 30", "18")]


def test_a_run_trains_and_is_evaluated_on_a_fold_that_no_store_holds(store, tmp_path):
    train(recipes.override(small_recipe(), ["epochs=1"]), store, tmp_path / "run", split="location3_2", device="cpu")
    data = RunFolder(tmp_path / "run").data
    assert data.split == "location3_2"
    tested = np.flatnonzero((join(store).sides("location3_2") == "test") & store.usable)
    assert data.clips["test"] == len(tested)
    assert data.clips["train"] + data.clips["validation"] + data.clips["test"] == 70
    assert data.clips["excluded"] == 1
    report = evaluate(tmp_path / "run", store, device="cpu")
    assert (report.provenance.split, report.selected.overall.total) == ("location3_2", len(tested))


def test_a_correction_of_another_split_is_refused_on_a_fold():
    place = SimpleNamespace(absolute="/features/scenes/logmel.zarr")
    correction = SimpleNamespace(split="fold1")
    recipe = SimpleNamespace(correction=correction)
    member = SimpleNamespace(source=SimpleNamespace(place=place, header=SimpleNamespace(recipe=recipe)))
    stores = SimpleNamespace(members=(member,), splits=("fold1",))
    require_split(stores, "fold1")
    with pytest.raises(StoreMismatch, match="another split than location5_1") as refused:
        require_split(stores, "location5_1")
    assert [(d.expected, d.found) for d in refused.value.differences] == [("location5_1", "fold1")]
    assert "--split of the correction" in refused.value.todo
    assert "ascfeat correct" not in refused.value.todo  # which knows no folds
    with pytest.raises(StoreMismatch, match="another split than fold2") as refused:
        require_split(stores, "fold2")
    assert "ascfeat correct --split fold2" in refused.value.todo
