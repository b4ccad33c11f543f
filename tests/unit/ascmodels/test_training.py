"""What a run needs before it starts: a sealed store of the right features, one split, a device."""

import json

import pytest

from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.evaluate import evaluate
from ascmodels.families.xception_multiscale import XceptionMultiscale
from ascmodels.report import markdown
from ascmodels.testing.stores import make_store, scene_clips, scene_split
from ascmodels.testing.trainers import Notes
from ascmodels.training import require, train
from ascschemas.base import Parameters
from ascschemas.correction import Correction, Grid
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError, RunError, StoreError, StoreMismatch
from ascschemas.recipe import Patches


def test_a_run_folder_says_everything_that_made_it(tmp_path, store, recipe):
    watch = Notes()
    done = train(recipe, store, tmp_path / "run", device="cpu", watch=watch)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names >= {"config.json", "data.json", "environment.json", "curves.csv", "curves.png", "finished.json"}
    folder = RunFolder(tmp_path / "run")
    assert folder.recipe == recipe
    assert folder.data.stores[0].digest == store.seal.digest
    assert folder.data.clips == {"train": 36, "validation": 12, "test": 24, "excluded": 0}
    assert folder.data.classes == ("bus", "park", "tram")
    assert len(folder.data.held_off) == 3
    assert "36 training clips of fold1" in folder.data.normalisation
    assert (done.last, done.stopped) == (3, "epochs")
    session = json.loads((tmp_path / "run" / "environment.json").read_text())["sessions"][0]
    assert {"torch", "numpy", "ascfeat"} <= set(session["software"])
    assert "36 train, 12 validation, 24 test" in watch.notes[0]


def test_progress_is_told_batch_by_batch(tmp_path, store, recipe):
    watch = Notes()
    train(recipe, store, tmp_path / "run", device="cpu", watch=watch)
    assert [(m.epoch, m.batch, m.batches) for m in watch.moments[:4]] == [(1, 1, 3), (1, 2, 3), (1, 3, 3), (2, 1, 3)]
    assert all(m.clips_per_second > 0 for m in watch.moments)
    assert watch.moments[0].seconds_left > 0
    assert watch.moments[-1].seconds_left == 0


def test_a_finished_run_is_left_as_it_is(tmp_path, store, recipe):
    first = train(recipe, store, tmp_path / "run", device="cpu")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file() and p.name != ".lock"}
    watch = Notes()
    assert train(recipe, store, tmp_path / "run", device="cpu", watch=watch) == first
    assert "nothing to do" in watch.notes[-1]
    assert {p: p.stat().st_mtime_ns for p in before} == before
    with pytest.raises(RunError, match="epochs"):
        train(recipes.override(recipe, ["epochs=4"]), store, tmp_path / "run", device="cpu", resume=True)


def test_curves_that_were_never_drawn_are_drawn_by_the_same_command(tmp_path, store, recipe):
    train(recipe, store, tmp_path / "run", device="cpu")
    (tmp_path / "run" / "curves.png").unlink()
    train(recipe, store, tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "curves.png").is_file()


def test_an_unfinished_store_is_refused(tmp_path, recipe):
    store = make_store(tmp_path / "d" / "made_up.zarr", seal=False)
    with pytest.raises(StoreError, match="not finished"):
        train(recipe, store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_features_are_refused_with_both_names(tmp_path, recipe):
    with pytest.raises(StoreMismatch) as refused:
        train(recipe, make_store(tmp_path / "d" / "other.zarr"), tmp_path / "run")
    assert (refused.value.differences[0].expected, refused.value.differences[0].found) == ("made_up", "other")


def test_other_values_under_the_same_name_are_refused_by_field(tmp_path, store, recipe):
    """A stale store is never trained from because its name is right."""
    found = store.header.recipe
    changed = {**found.representation.model_dump(), "n_mels": 128}
    expected = found.model_copy(update={"representation": type(found.representation).model_validate(changed)})
    with pytest.raises(StoreMismatch) as refused:
        train(recipe, store, tmp_path / "run", features=[expected])
    assert [d.field for d in refused.value.differences] == ["representation.n_mels"]
    assert not (tmp_path / "run").exists()


def test_of_several_splits_fold1_is_meant_and_any_other_must_be_named(tmp_path, recipe):
    clips = scene_clips()
    splits = (scene_split(clips, "fold2"), scene_split(clips, "fold1"))
    store = make_store(tmp_path / "d" / "made_up.zarr", clips, splits=splits)
    train(recipe, store, tmp_path / "run", device="cpu")
    assert RunFolder(tmp_path / "run").data.split == "fold1"
    train(recipe, store, tmp_path / "run2", split="fold2", device="cpu")
    assert RunFolder(tmp_path / "run2").data.split == "fold2"
    splits = tuple(scene_split(clips, f"fold{n}") for n in (2, 3))
    with pytest.raises(RunError, match="fold2, fold3"):
        train(recipe, make_store(tmp_path / "e" / "made_up.zarr", clips, splits=splits), tmp_path / "run3")


def test_no_split_at_all_is_said(tmp_path, recipe):
    with pytest.raises(RunError, match="has 0 splits"):
        train(recipe, make_store(tmp_path / "d" / "made_up.zarr", splits=()), tmp_path / "run")


def test_a_device_that_is_not_there_is_refused_with_those_that_are(tmp_path, store, recipe):
    with pytest.raises(RunError) as refused:
        train(recipe, store, tmp_path / "run", device="cuda:9")
    assert refused.value.differences[0].expected.startswith("cpu")


@pytest.mark.parametrize("shape", [
    {"channel": 2, "time": 400},
    {"tag": 80},
    {"channel": 2, "component": 2, "coefficient": 40, "time": 40},
    {"channel": 1, "frequency": 200},
    {"channel": 1, "frequency": 20, "time": 40},
])  # fmt: skip
def test_features_that_the_family_cannot_take_are_refused_before_anything_is_written(tmp_path, recipe, shape):
    layout = Layout(axes=tuple(Axis(name=n, size=s) for n, s in shape.items()), quantity="any")
    store = make_store(tmp_path / "d" / "made_up.zarr", shape=layout)
    with pytest.raises(RecipeError, match="five_conv cannot take") as refused:
        train(recipe, store, tmp_path / "run", device="cpu")
    (difference,) = refused.value.differences
    small = len(shape) == 3
    assert difference.field == ("frequency" if small else "axes")
    assert difference.found == ("20" if small else ", ".join(shape))
    assert refused.value.todo
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_tags_expects_no_tags_in_particular_unless_it_says_which(tmp_path, recipe):
    """Names and source are filled in by extraction; training must not take them for another recipe."""
    store = make_store(tmp_path / "d" / "made_up.zarr")
    filled = Parameters.model_validate({"kind": "tags", "names": ["a", "b"], "source": "1" * 64})
    made = store.header.recipe.model_copy(update={"representation": filled})
    store.header = store.header.model_copy(update={"recipe": made})

    def expecting(**said):
        kind = Parameters.model_validate({"kind": "tags", "names": [], "source": None} | said)
        return made.model_copy(update={"representation": kind})

    require("small", "made_up", store, expecting())
    require("small", "made_up", store, expecting(names=["a", "b"]))
    with pytest.raises(StoreMismatch) as refused:
        require("small", "made_up", store, expecting(source="2" * 64))
    assert [d.field for d in refused.value.differences] == ["representation.source"]


def test_a_store_of_another_name_counts_by_its_values(tmp_path, recipe):
    """A library may call it otherwise; without known values only the name can tell."""
    store = make_store(tmp_path / "d" / "renamed.zarr")
    theirs = store.header.recipe
    ours = theirs.model_copy(update={"name": "made_up"})
    require("small", "made_up", store, ours)
    other = theirs.representation.model_copy(update={"kind": "another"})
    cut = ours.model_copy(update={"patches": Patches(width=2, hop=1)})
    for expected in (None, ours.model_copy(update={"representation": other}), cut):
        with pytest.raises(StoreMismatch) as refused:
            require("small", "made_up", store, expected)
        assert [d.field for d in refused.value.differences] == ["recipe"]


def corrected(tmp_path, name="made_up+ref_ab", split="fold1"):
    grid = Grid(sample_rate=8000, n_fft=16, win_length=16, hop_length=8, window="hann", remove_dc=False)
    factors = {device: [1.0] * grid.bins for device in "ab"}
    correction = Correction.of(factors, reference="ab", method="mean", split=split, grid=grid)
    return make_store(tmp_path / "scenes" / f"{name}.zarr", correction=correction)


def test_corrected_spectra_are_trained_on_where_they_are_asked_for_and_named_in_the_report(tmp_path, recipe):
    store = corrected(tmp_path)
    asked = recipes.override(recipe, ["features=made_up+ref_ab", "epochs=1"])
    train(asked, store, tmp_path / "run", device="cpu")
    report = evaluate(tmp_path / "run", store, device="cpu")
    (words,) = report.provenance.corrections.values()
    assert (words["reference"], words["split"]) == ("a, b", "fold1")
    assert "spectra corrected by device (reference a, b" in markdown(report)


def test_corrected_spectra_and_others_are_not_taken_for_each_other(tmp_path, recipe, store):
    renamed = corrected(tmp_path, "made_up")
    with pytest.raises(StoreMismatch) as refused:
        train(recipe, renamed, tmp_path / "run", device="cpu")
    assert [(d.field, d.expected, d.found) for d in refused.value.differences] == [
        ("correction", "none", "reference a, b")
    ]
    plain = make_store(tmp_path / "plain" / "made_up+ref_ab.zarr")
    with pytest.raises(StoreMismatch) as refused:
        train(recipes.override(recipe, ["features=made_up+ref_ab"]), plain, tmp_path / "run", device="cpu")
    assert [d.field for d in refused.value.differences] == ["correction"]
    assert not (tmp_path / "run").exists()


def test_a_correction_of_another_split_is_refused(tmp_path, recipe):
    store = corrected(tmp_path, split="fold2")
    asked = recipes.override(recipe, ["features=made_up+ref_ab"])
    with pytest.raises(StoreMismatch, match="another split") as refused:
        train(asked, store, tmp_path / "run", device="cpu")
    (row,) = refused.value.differences
    assert (row.expected, row.found) == ("fold1", "fold2")


def test_clips_cut_shorter_than_the_layers_need_are_refused_before_anything_is_written(tmp_path, store, recipe):
    short = recipes.override(recipe, ["augmentation.crop.length=20"])
    with pytest.raises(RecipeError, match="five_conv cannot take clips that are cut this short") as refused:
        train(short, store, tmp_path / "run", device="cpu")
    (difference,) = refused.value.differences
    assert (difference.field, difference.expected, difference.found) == (
        "augmentation.crop.length", "more, up to 25", "20",
    )  # fmt: skip
    assert not (tmp_path / "run").exists()
    train(recipes.override(recipe, ["augmentation.crop.length=21", "epochs=1"]), store, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(("setting", "match"), [
    ("family.widths=[1000000000,1000000000,8,8,8]", "does not fit into the memory"),
    ("objective.alpha={bus: 1, park: 1}", "weighs other classes"),
])  # fmt: skip
def test_what_no_network_can_be_trained_on_is_refused_before_anything_is_written(
    tmp_path, store, recipe, setting, match
):
    with pytest.raises(RecipeError, match=match) as refused:
        train(recipes.override(recipe, [setting]), store, tmp_path / "run", device="cpu")
    assert refused.value.differences
    assert refused.value.todo
    assert not (tmp_path / "run").exists()


def test_an_empty_name_is_no_split_and_never_the_default(tmp_path, store, recipe):
    with pytest.raises(StoreError, match="no split ''"):
        train(recipe, store, tmp_path / "run", split="", device="cpu")


@pytest.mark.parametrize(("settings", "fields"), [
    (["batch_size=5"], ["batch_size"]),
    (["batch_size=4", "trainer.accumulate=3"], ["batch_size", "trainer.accumulate"]),
])  # fmt: skip
def test_batches_that_come_to_one_clip_are_refused_where_norms_need_two(tmp_path, store, recipe, settings, fields):
    small = XceptionMultiscale.presets()["small"]
    wide = recipes.resolve(
        recipe.model_copy(
            update={"family": Parameters.model_validate({"kind": "xception_multiscale", **small.model_dump()})}
        )
    )
    lone = make_store(tmp_path / "lone" / "made_up.zarr", shape=small.smallest()[0])
    with pytest.raises(RecipeError, match="cannot be trained on a single clip") as refused:
        train(recipes.override(wide, settings), lone, tmp_path / "run", device="cpu")
    assert [d.field for d in refused.value.differences] == fields
    assert not (tmp_path / "run").exists()
    if fields == ["batch_size"]:
        assert "batch_size=6" in refused.value.todo
        train(recipes.override(wide, ["batch_size=6", "epochs=1"]), lone, tmp_path / "run", device="cpu")


def test_a_validation_side_far_larger_than_asked_for_is_said(tmp_path, store, recipe):
    for fraction, said in (("0.05", True), ("0.15", False)):
        watch = Notes()
        asked = recipes.override(recipe, [f"selection.fraction={fraction}", "epochs=1"])
        train(asked, store, tmp_path / fraction, device="cpu", watch=watch)
        assert ("The validation side takes 25% of the training side, not 5%" in watch.notes[0]) is said


def test_labels_of_a_second_head_are_refused_where_the_network_has_one(tmp_path, recipe):
    tags = tuple(c.model_copy(update={"label": f"{c.label},{c.city}"}) for c in scene_clips())
    store = make_store(tmp_path / "tags" / "made_up.zarr", tags)
    values = recipe.model_dump(mode="json") | {"objective": {"kind": "binary_cross_entropy", "second_head": "b"}}
    with pytest.raises(RecipeError, match="five_conv has no second head") as refused:
        train(recipes.validated(values, "mine"), store, tmp_path / "run", device="cpu")
    (difference,) = refused.value.differences
    assert (difference.field, difference.found) == ("objective.second_head", "b")
    assert not (tmp_path / "run").exists()
