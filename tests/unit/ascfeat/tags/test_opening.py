"""Tags through extraction: into a store, with its recipe, its reasons, and the refusal of others."""

import subprocess

import numpy as np
import pytest
import zarr

from ascfeat.extract import features_of, run
from ascfeat.jobs import prepare
from ascfeat.recipes import load_recipe
from ascfeat.store import open_store
from ascfeat.tags import tag_table
from ascschemas.base import Parameters
from ascschemas.problems import RecipeError, StoreMismatch, TagsError

TAGS = load_recipe("tags")
NAMES = ("Speech", "Music", "2.5")


def filled(dataset, tags, folder, recipes=(TAGS,)):
    tree, manifest = dataset
    return run(tree, manifest, prepare(tree, manifest, recipes, folder, device="cpu", tags=tags), device="cpu")


@pytest.fixture
def table(dataset, values):
    return tag_table(values, NAMES, [c.id for c in dataset[1].clips])


def test_a_store_holds_the_rows_and_says_where_they_came_from(dataset, table, values, tmp_path) -> None:
    store = open_store(filled(dataset, table, tmp_path)[0].place)
    np.testing.assert_array_equal(store.read(range(10)), values)
    assert store.header.recipe.representation.values() == {"names": list(NAMES), "source": table.digest}
    assert store.layout.axes[0].values == NAMES
    assert zarr.open_group(store.place.path)["tag"][:].tolist() == list(NAMES)
    mean, variance = store.statistics()
    np.testing.assert_array_equal(mean, values.astype(np.float64))
    np.testing.assert_array_equal(variance, np.zeros((10, 3)))
    assert all(r.source and r.source_bytes for r in store.records()), "recordings are read and known"


def test_beside_computed_features_they_change_nothing(dataset, recipe, csv, tmp_path) -> None:
    both = filled(dataset, csv(), tmp_path / "both", [recipe, TAGS])
    alone = filled(dataset, None, tmp_path / "alone", [recipe])
    assert open_store(both[0].place).seal == open_store(alone[0].place).seal


def test_clips_without_a_row_or_with_infinite_tags_are_excluded_with_their_reasons(dataset, csv, tmp_path) -> None:
    tree, _ = dataset
    (tree.root / "audio/02.wav").write_bytes(b"")
    path = csv("clip,a,b", *(f"{i:02}.wav,{i},{'nan' if i == 5 else '1e300' if i == 6 else i}" for i in range(9)))
    (outcome,) = filled(dataset, path, tmp_path / "f")
    found = {clip: (r.excluded, r.detail) for clip, r in outcome.excluded.items()}
    assert found == {
        "audio/02.wav": ("empty", "is empty: 0 bytes."),
        "audio/05.wav": ("non-finite", "has tags that are not finite: b is nan."),
        "audio/06.wav": ("non-finite", "has tags that are not finite: b is inf."),
        "audio/09.wav": ("no-tags", "has no row in the tags."),
    }
    store = open_store(outcome.place)
    assert store.usable.sum() == 6
    mean, variance = store.statistics()
    assert (np.isnan(mean).all(axis=1) == ~store.usable).all()
    assert (np.isnan(variance).all(axis=1) == ~store.usable).all()


def test_the_same_tags_again_do_nothing_and_others_are_refused(dataset, table, values, tmp_path) -> None:
    filled(dataset, table, tmp_path)
    assert filled(dataset, table, tmp_path)[0].computed == 0
    other = tag_table(values + 1, NAMES, [c.id for c in dataset[1].clips])
    with pytest.raises(StoreMismatch, match=r"representation\.source"):
        filled(dataset, other, tmp_path)


def test_a_callable_sees_the_decoded_waveform(dataset, tmp_path) -> None:
    def level(waveform, rate):
        assert waveform.shape == (1, 8000)
        return [waveform.std(), rate]

    store = open_store(filled(dataset, level, tmp_path)[0].place)
    plain = open_store(filled(dataset, None, tmp_path, [load_recipe("waveform")])[0].place)
    np.testing.assert_allclose(store.read(range(10))[:, 0], plain.read(range(10))[:, 0].std(axis=1), rtol=1e-6)


def test_a_callable_that_changes_its_mind_stops_the_job(dataset, tmp_path) -> None:
    def fickle(waveform, rate):
        return [1.0, 2.0] if waveform.any() else [1.0]

    with pytest.raises(TagsError, match=r"of audio/00\.wav .*\n.*expected \(1,\) .*found \(2,\)"):
        filled(dataset, fickle, tmp_path)


def test_what_is_missing_or_too_much_is_said(dataset, recipe, table, tmp_path) -> None:
    with pytest.raises(RecipeError, match="was not told where they come from"):
        filled(dataset, None, tmp_path)
    with pytest.raises(RecipeError, match="no recipe takes them: small"):
        filled(dataset, table, tmp_path, [recipe])


def test_a_recipe_may_say_which_tags_it_wants(dataset, table, tmp_path) -> None:
    def wanting(**said):
        return TAGS.model_copy(update={"representation": Parameters(kind="tags", **said)})

    assert filled(dataset, table, tmp_path, [wanting(source=table.digest, names=NAMES)])[0].computed == 10
    with pytest.raises(TagsError, match=r"(?s)source +expected 0000.*names +expected \['a'\]"):
        filled(dataset, table, tmp_path, [wanting(source="0" * 64, names=("a",))])


def test_files_outside_a_dataset_have_no_tags(dataset, table, tmp_path) -> None:
    store = open_store(filled(dataset, table, tmp_path)[0].place)
    with pytest.raises(TagsError, match="cannot be made from recordings alone"):
        list(features_of([dataset[0].root / "audio/00.wav"], store.header))


def test_a_recipe_of_tags_may_ask_for_any_decoding(tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\ndecode: {sample_rate: 16000}\nrepresentation: {kind: tags}\n")
    assert load_recipe(str(tmp_path / "mine.yaml")).decode.sample_rate == 16_000


@pytest.mark.usefixtures("quick")
def test_the_command_takes_a_callable_of_the_current_folder(dataset, tmp_path) -> None:
    tree, manifest = dataset
    rows = "\n".join(f"{c.id},{c.label}" for c in manifest.clips)
    (tree.root / "list.csv").write_text(f"filename,label\n{rows}\n")
    (tmp_path / "mine.py").write_text("def level(x, rate):\n    return [x.std()]\n")
    command = ["ascfeat", "extract", "set", "--recipe", "tags"]
    done = subprocess.run([*command, "--tags", "mine:level"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "10 clips of 1, tag value, by none" in done.stdout
    assert open_store(tmp_path / "features/set/tags.zarr").usable.all()
    without = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (without.returncode, "Add --tags SOURCE" in without.stderr) == (2, True)
