"""What is listed becomes a manifest, or one error that names every problem."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascfeat.datasets.listing import Listed, ListedSide, assemble, clips_of, posix, safe_name, splits_of
from ascfeat.datasets.tree import Tree
from ascschemas.dataset import Manifest
from ascschemas.problems import DatasetError


def listed(*paths):
    return [Listed(path, f"meta.csv line {n}", label="bus") for n, path in enumerate(paths, start=2)]


@pytest.mark.parametrize(
    "path", ["../x.wav", "/etc/passwd", "a/../../x.wav", r"..\x.wav", "", "a\0b.wav", "\udce9.wav"]
)
def test_paths_outside_the_folder_are_problems(path):
    clips, problems = clips_of(listed("a.wav", path))
    assert [clip.id for clip in clips] == ["a.wav"]
    assert [(p.field, p.expected) for p in problems] == [("meta.csv line 3", "a file inside the dataset folder")]
    problems[0].found.encode()


@pytest.mark.parametrize("again", ["audio/a.wav", "./audio/a.wav", "audio//a.wav", r"audio\a.wav"])
def test_one_file_listed_twice_is_a_problem_however_it_is_written(again):
    _, problems = clips_of(listed("audio/a.wav", again))
    assert problems[0].found == "audio/a.wav again, after meta.csv line 2"


def test_unknown_clip_in_a_split_is_a_problem_and_a_repeated_one_a_note():
    clips, _ = clips_of(listed("a.wav", "b.wav"))
    side = ListedSide("fold1", "train", (("a.wav", "t line 1"), ("a.wav", "t line 2"), ("c.wav", "t line 3")))
    splits, problems, notes = splits_of([side], clips)
    assert splits[0].train == ("a.wav", "c.wav")
    assert [(p.field, p.found) for p in problems] == [("t line 3", "c.wav")]
    assert notes == ("fold1 train lists 1 clips again, first a.wav; each counts once.",)


def test_all_problems_come_in_one_error(lay):
    _, problems = clips_of(listed(*[f"../{n}.wav" for n in range(30)]))
    with pytest.raises(DatasetError) as caught:
        assemble(Tree(lay({})), "csv", clips=(), problems=problems)
    assert "30 entries that cannot be meant, of which the first 20 follow" in caught.value.what
    assert len(caught.value.differences) == 20
    assert "../19.wav" in str(caught.value)


def test_nothing_listed_is_an_error(lay):
    with pytest.raises(DatasetError, match="name no recording"):
        assemble(Tree(lay({})), "csv", clips=())


def test_folder_with_an_unsafe_name_is_renamed_with_a_note(lay):
    clips, _ = clips_of(listed("a.wav"))
    manifest = assemble(Tree(lay({}, name="szenen für mich")), "csv", clips=clips)
    assert manifest.dataset == "szenen_f_r_mich-79eef9"
    assert manifest.notes == ("The dataset is called szenen_f_r_mich-79eef9, after its folder szenen für mich.",)


@given(st.text())
def test_any_folder_name_gives_a_legal_dataset_name(name):
    Manifest(dataset=safe_name(name), kind="csv", clips=())


@given(st.text(alphabet="ab./\\", max_size=12))
def test_a_path_is_normal_after_one_pass(path):
    assert posix(posix(path)) == posix(path)


def test_problems_are_not_looked_for_without_end(lay, monkeypatch):
    monkeypatch.setattr("ascfeat.datasets.listing.MOST_PROBLEMS", 5)
    clips, problems = clips_of(listed("a.wav", *[".."] * 50))
    assert len(problems) == 5
    with pytest.raises(DatasetError, match="5 entries or more that cannot be meant"):
        assemble(Tree(lay({})), "csv", clips=clips, problems=problems)
    side = ListedSide("fold1", "train", tuple(("x.wav", f"line {i}") for i in range(50)))
    assert len(splits_of([side], clips)[1]) == 5
