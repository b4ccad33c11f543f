"""The demo dataset is whole, repeatable, and never in the way of somebody else's files."""

import numpy as np
import pytest

from ascfeat import demo
from ascfeat.audio import decode
from ascfeat.datasets import open_dataset
from ascfeat.doctor import check
from ascschemas.problems import DatasetError, RecipeError

SMALL = {"per_scene": 6, "seconds": 0.25, "scenes": 2, "sample_rate": 16_000}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "scenes"
    return demo.make(out, **SMALL)


def contents(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_it_is_a_scene_dataset_without_any_finding(small):
    report = check(small.root)
    assert (report.kind, report.fit, report.findings) == ("scenes", True, ())
    assert str(report.audio) == "16000 Hz, 1 channel, 0.25 s"
    assert small.clips == report.clips


def test_every_class_is_on_both_sides_and_three_devices_record(small):
    _, manifest = open_dataset(small.root)
    sides = manifest.sides(manifest.splits[0])
    assert {(c.label, side) for c, side in zip(manifest.clips, sides, strict=True)} == {
        (label, side) for label in small.classes for side in ("train", "test")
    }
    assert {c.device for c in manifest.clips} == {"a", "b", "c"}
    segments = {d: {c.segment for c in manifest.clips if c.device == d} for d in "abc"}
    assert segments["b"] == segments["c"] < segments["a"]


def test_the_same_settings_make_the_same_bytes_and_another_seed_other_ones(small, tmp_path):
    again = demo.make(tmp_path / "again", **SMALL)
    other = demo.make(tmp_path / "other", **SMALL, seed=1)
    assert contents(again.root) == contents(small.root)
    audio = [{k: v for k, v in contents(m.root).items() if k.endswith(".wav")} for m in (again, other)]
    assert not set(audio[0].values()) & set(audio[1].values())


def test_devices_hear_the_same_moment_through_other_responses(small):
    tree, manifest = open_dataset(small.root)
    by = {(c.segment, c.device): decode(tree.read(c.id), c.id).samples[0] for c in manifest.clips}
    segment = next(s for s, d in by if d == "b")
    original, copy = (by[segment, d] for d in "ab")
    assert not np.array_equal(original, copy)
    assert np.corrcoef(original, copy)[0, 1] > 0.2


def test_made_again_there_is_nothing_to_do(small):
    before = contents(small.root)
    assert small.new
    assert not demo.make(small.root, **SMALL).new
    assert contents(small.root) == before


def test_another_demo_is_replaced_and_a_damaged_one_repaired(tmp_path):
    out = tmp_path / "scenes"
    demo.make(out, **SMALL)
    next((out / "audio").iterdir()).unlink()
    assert demo.make(out, **SMALL).new
    assert demo.make(out, **SMALL, seed=1).new
    assert check(out).fit
    assert [p.name for p in tmp_path.iterdir()] == ["scenes"]


@pytest.mark.parametrize("file", ["thesis.tex", "meta.csv"])
def test_folder_of_somebody_else_is_refused_and_untouched(tmp_path, file):
    (tmp_path / file).write_text("mine")
    with pytest.raises(DatasetError, match="is not empty and not a demo dataset"):
        demo.make(tmp_path, **SMALL)
    assert contents(tmp_path) == {file: b"mine"}


def test_demo_with_somebody_elses_file_is_not_replaced(tmp_path):
    demo.make(tmp_path / "scenes", **SMALL)
    (tmp_path / "scenes" / "notes.txt").write_text("mine")
    assert not demo.make(tmp_path / "scenes", **SMALL).new
    with pytest.raises(DatasetError, match=r"it holds notes\.txt"):
        demo.make(tmp_path / "scenes", **SMALL, seed=1)


def test_file_of_that_name_is_refused(tmp_path):
    (tmp_path / "scenes").write_text("mine")
    with pytest.raises(DatasetError, match="a file"):
        demo.make(tmp_path / "scenes", **SMALL)


def test_stopped_run_leaves_no_folder(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.make(tmp_path / "scenes", **SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_settings_out_of_range_are_named_together(tmp_path):
    with pytest.raises(RecipeError) as caught:
        demo.make(tmp_path / "x", per_scene=1, scenes=99, parallel=1.5)
    assert all(word in str(caught.value) for word in ("per_scene is 1", "scenes is 99", "parallel is 1.5"))
    assert not (tmp_path / "x").exists()


def test_no_parallel_recordings_and_all_of_them(tmp_path):
    assert demo.make(tmp_path / "none", **SMALL, parallel=0).clips == 12
    assert demo.make(tmp_path / "all", **SMALL, parallel=1).clips == 36
