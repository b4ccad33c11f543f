"""Sides: whole locations are held off, the same ones for a seed, and what cannot be trained on is refused."""

from collections import Counter

import numpy as np
import pytest

from ascmodels import recipes
from ascmodels.sides import divide, group_of, held_off
from ascmodels.testing.stores import make_store, scene_clips, scene_split
from ascschemas.dataset import Clip, Split
from ascschemas.problems import RunError, StoreError


def test_no_location_is_on_two_sides_and_every_class_on_all(store, recipe):
    sides = divide(store, "fold1", recipe)
    places = [{store.locations[c] for c in side} for side in (sides.train, sides.validation, sides.test)]
    assert sum(len(p) for p in places) == len(set.union(*places))
    for side in (sides.train, sides.validation, sides.test):
        assert {store.labels[c] for c in side} == {"bus", "park", "tram"}
    assert sorted(np.concatenate([sides.train, sides.validation])) == list(
        np.flatnonzero(store.sides("fold1") == "train")
    )
    assert set(sides.held_off) == places[1]


def test_a_seed_decides_which(store, recipe):
    held = [divide(store, "fold1", recipes.override(recipe, [f"seed={s}"])).held_off for s in (0, 0, 1, 2, 3)]
    assert held[0] == held[1]
    assert len(set(held)) > 1


@pytest.mark.parametrize(("fraction", "groups"), [(0.1, 2), (0.25, 5), (0.5, 10)])
def test_about_the_fraction_of_each_class_is_held(tmp_path, fraction, groups):
    store = make_store(tmp_path / "d" / "f.zarr", scene_clips(locations=20))
    held = held_off(store, np.arange(len(store.ids)), fraction, seed=0)
    assert Counter(name.split("-")[0] for name in held) == {"bus": groups, "park": groups, "tram": groups}


def test_parallel_recordings_stay_together_without_locations(tmp_path):
    clips = tuple(c.model_copy(update={"location": ""}) for c in scene_clips())
    split = scene_split(scene_clips())
    store = make_store(tmp_path / "d" / "f.zarr", clips, splits=(split,))
    whole = np.flatnonzero(store.sides("fold1") == "train")
    held = held_off(store, whole, 0.3, seed=0)
    assert held <= set(store.segments)
    assert {group_of(store, int(c)) for c in whole} - held


def test_without_locations_and_segments_every_clip_is_its_own_group(tmp_path):
    bare = {"location": "", "segment": ""}
    store = make_store(
        tmp_path / "d" / "f.zarr",
        tuple(c.model_copy(update=bare) for c in scene_clips()),
        splits=(scene_split(scene_clips()),),
    )
    assert held_off(store, np.arange(len(store.ids)), 0.3, seed=0) <= set(store.ids)


def shared_place(label, place, n):
    return Clip(id=f"{label}-{place}-{n}.wav", label=label, location=place)


def test_a_class_keeps_clips_to_train_on_whatever_locations_it_shares(tmp_path):
    clips = [shared_place("bus", place, n) for place in "xyz" for n in range(2)]
    clips += [shared_place("park", "x", n) for n in range(4)]
    tested = [shared_place(label, "t", 0) for label in ("bus", "park")]
    split = Split(name="s", train=tuple(c.id for c in clips), test=tuple(c.id for c in tested))
    store = make_store(tmp_path / "d" / "f.zarr", (*clips, *tested), splits=(split,))
    for seed in range(8):
        held = held_off(store, np.arange(len(clips)), 0.5, seed)
        assert held
        assert "x" not in held


def test_the_test_side_and_no_fraction_hold_nothing_off(store, recipe):
    whole = np.flatnonzero(store.sides("fold1") == "train")
    for settings in (["selection.side=test"], ["selection.side=last", "selection.fraction=0"]):
        changed = recipes.override(recipe, settings)
        sides = divide(store, "fold1", changed)
        np.testing.assert_array_equal(sides.train, whole)
        assert not len(sides.validation)
    assert len(divide(store, "fold1", recipes.override(recipe, ["selection.side=test"])).watched(changed)) == 0


def test_excluded_clips_are_on_no_side(tmp_path, recipe):
    store = make_store(tmp_path / "d" / "made_up.zarr", excluded=(0, 30))
    sides = divide(store, "fold1", recipe)
    assert sides.excluded.tolist() == [0, 30]
    assert not {0, 30} & {int(c) for s in (sides.train, sides.validation, sides.test) for c in s}


def test_an_unknown_split_names_the_known_ones(store, recipe):
    with pytest.raises(StoreError, match="fold1"):
        divide(store, "fold2", recipe)


def problems(tmp_path, recipe, clips, split):
    store = make_store(tmp_path / "d" / "made_up.zarr", clips, splits=(split,))
    with pytest.raises(RunError) as refused:
        divide(store, split.name, recipe)
    return {d.field: (d.expected, d.found) for d in refused.value.differences}


def test_an_empty_side_is_refused(tmp_path, recipe):
    clips = scene_clips()
    found = problems(tmp_path, recipe, clips, Split(name="s", train=(), test=tuple(c.id for c in clips)))
    assert found["training side"] == ("usable clips", "none")


def test_missing_labels_and_a_single_class_are_refused_together(tmp_path, recipe):
    labels = {"bus": "bus", "park": "", "tram": "bus"}
    clips = tuple(c.model_copy(update={"label": labels[c.label]}) for c in scene_clips())
    found = problems(tmp_path, recipe, clips, scene_split(scene_clips()))
    assert found["classes"] == ("at least 2", "bus")
    assert found["labels"][1].startswith("24 clips without: audio/park-lisbon-")
    assert found["labels"][1].endswith("and 21 more")


def test_a_class_that_is_only_tested_is_refused(tmp_path, recipe):
    clips = scene_clips()
    train = tuple(c.id for c in clips if c.label != "tram")
    test = tuple(c.id for c in clips if c.label == "tram")
    found = problems(tmp_path, recipe, clips, Split(name="s", train=train, test=test))
    assert found["classes"][1] == "1 classes only tested: tram"


def test_a_batch_larger_than_the_training_side_is_refused(store, recipe):
    with pytest.raises(RunError, match="at most 36"):
        divide(store, "fold1", recipes.override(recipe, ["batch_size=64"]))


def test_a_trainer_without_batches_needs_no_full_one(store, recipe):
    large = recipes.override(recipe, ["batch_size=64"])
    assert len(divide(store, "fold1", large, batched=False).train) == 36


def test_some_devices_alone_may_train_and_all_test(store, recipe):
    some = divide(store, "fold1", recipes.override(recipe, ["train_devices=[a]"]))
    everything = divide(store, "fold1", recipe)
    assert {store.devices[c] for side in (some.train, some.validation) for c in side} == {"a"}
    assert some.test.tolist() == everything.test.tolist()
    assert len({store.devices[c] for c in everything.train}) > 1
    with pytest.raises(RunError) as refused:
        divide(store, "fold1", recipes.override(recipe, ["train_devices=[a, z]"]))
    (row,) = refused.value.differences
    assert (row.field, row.found) == ("train_devices", "z")
    assert row.expected.startswith("a, ")


@pytest.mark.parametrize("sampler", ["device", "class_device"])
def test_balance_of_devices_that_nobody_names_is_refused(tmp_path, recipe, sampler):
    clips = tuple(c.model_copy(update={"device": ""}) for c in scene_clips(devices=("a",)))
    store = make_store(tmp_path / "d" / "f.zarr", clips)
    with pytest.raises(RunError) as refused:
        divide(store, "fold1", recipes.override(recipe, [f"sampler={sampler}"]))
    (row,) = refused.value.differences
    assert (row.field, row.expected) == ("sampler", "each or class")
