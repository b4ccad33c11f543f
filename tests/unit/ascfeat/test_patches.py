"""Patches: views where they can be, in a documented order, refused where they cannot be cut."""

import numpy as np
import pytest

from ascfeat.extract import run
from ascfeat.jobs import prepare
from ascfeat.patches import check, count, cut
from ascfeat.store import open_store
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError, StoreError
from ascschemas.recipe import Patches

PATCHES = Patches(width=8, hop=4)


def layout(**axes: int) -> Layout:
    return Layout(axes=tuple(Axis(name=n, size=s) for n, s in axes.items()), quantity="any")


def test_they_are_a_view_that_nobody_can_write_through() -> None:
    x = np.arange(2 * 3 * 4 * 20, dtype=np.float32).reshape(2, 3, 4, 20)
    found = cut(x, PATCHES)
    assert np.shares_memory(found, x)
    assert not found.flags.writeable
    assert not np.shares_memory(cut(x, Patches(width=8, hop=4, resize=5)), x)


def test_flattened_they_run_over_channels_slowest_then_components_then_time() -> None:
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 20)).astype(np.float32)  # channel, component, row, time
    flat = cut(x, PATCHES).reshape(-1, 4, 8)
    assert count(layout(channel=3, component=2, coefficient=4, time=20), PATCHES) == (4, len(flat)) == (4, 24)
    for number, patch in enumerate(flat):
        channel, component, start = number // 8, number // 4 % 2, 4 * (number % 4)
        np.testing.assert_array_equal(patch, x[channel, component, :, start : start + 8])


@pytest.mark.parametrize(("axes", "words"), [
    ({"channel": 1, "time": 99}, "found channel, time"),
    ({"channel": 1, "frequency": 99}, "found channel, frequency"),
    ({"tag": 80}, "found tag"),
    ({"channel": 1, "frequency": 9, "time": 7}, "expected at most 7 frames  found 8"),
])  # fmt: skip
def test_what_cannot_be_cut_is_refused_with_both_values(axes: dict[str, int], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        check(layout(**axes), PATCHES)


def test_as_wide_as_the_clip_is_one_patch() -> None:
    check(layout(channel=1, frequency=9, time=8), PATCHES)
    assert cut(np.zeros((1, 9, 8), "f"), PATCHES).shape == (1, 1, 9, 8)
    with pytest.raises(RecipeError, match="at most 7"):
        cut(np.zeros((1, 9, 7), "f"), PATCHES)


def test_a_store_cuts_as_its_recipe_says(dataset, recipe, tmp_path) -> None:
    tree, manifest = dataset
    cutting = recipe.model_copy(update={"patches": Patches(width=20, hop=10, resize=24)})
    store = open_store(run(tree, manifest, prepare(tree, manifest, [cutting], tmp_path), device="cpu")[0].place)
    found = store.patches([7, 2])
    assert found.shape == (2, 1, 5, 24, 20)  # 63 frames
    np.testing.assert_array_equal(found, cut(store.read([7, 2]), cutting.patches))


def test_a_store_without_patches_says_so(dataset, recipe, tmp_path) -> None:
    tree, manifest = dataset
    store = open_store(run(tree, manifest, prepare(tree, manifest, [recipe], tmp_path), device="cpu")[0].place)
    with pytest.raises(StoreError, match="its recipe small names none"):
        store.patches([0])


def test_patches_wider_than_the_clips_are_refused_before_anything_is_written(dataset, recipe, tmp_path) -> None:
    tree, manifest = dataset
    wide = recipe.model_copy(update={"patches": Patches(width=64, hop=1)})
    with pytest.raises(RecipeError, match=r"patches\.width .*at most 63 frames .*found 64"):
        prepare(tree, manifest, [wide], tmp_path / "features")
    assert not (tmp_path / "features").exists()
