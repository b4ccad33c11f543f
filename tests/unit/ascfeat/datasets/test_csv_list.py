"""Any list with a file and a label column."""

import pytest

from ascfeat.datasets import open_dataset
from ascfeat.datasets.csv_list import LIST_BYTES
from ascschemas.problems import DatasetError

LIST = "filename,label,device,city,location,fold\n" + "".join(
    f"{n}-{d}.wav,{('bus', 'park')[n % 2]},{d},oslo,oslo-{n},{n % 2 + 1}\n" for n in range(4) for d in "ab"
)


def test_every_column_is_read(lay):
    _, manifest = open_dataset(lay({"dataset.csv": LIST}))
    clip = manifest.clips[1]
    assert (manifest.kind, len(manifest.clips)) == ("csv", 8)
    assert (clip.id, clip.label, clip.device, clip.city, clip.location) == ("0-b.wav", "bus", "b", "oslo", "oslo-0")
    assert clip.segment == "0"
    assert [(s.name, s.origin) for s in manifest.splits] == [
        ("fold1", "made from a column of dataset.csv"),
        ("fold2", "made from a column of dataset.csv"),
    ]


def test_without_folds_some_are_made_by_location(lay):
    rows = [line.rsplit(",", 1)[0] for line in LIST.splitlines()]
    _, manifest = open_dataset(lay({"list.tsv": "\n".join(rows).replace(",", "\t")}))
    assert len(manifest.splits) == 4
    assert "by location" in manifest.splits[0].origin


def test_paths_are_found_inside_audio(lay):
    root = lay({"labels.csv": "path;class\nmy bus.WAV;bus\npark é.wav;park\n"}, "audio/my bus.WAV", "audio/park é.wav")
    tree, manifest = open_dataset(root)
    assert [clip.id for clip in manifest.clips] == ["audio/my bus.WAV", "audio/park é.wav"]
    assert all(tree.exists(clip.id) for clip in manifest.clips)
    assert manifest.notes == ("The paths in labels.csv are relative to audio/",)


def test_windows_paths_are_read(lay):
    root = lay({"labels.csv": "filename,label\nclips\\a.wav,bus\n"}, "clips/a.wav")
    assert open_dataset(root)[1].clips[0].id == "clips/a.wav"


def test_names_in_the_tau_form_complete_the_list_only_where_they_start_with_the_label(lay):
    text = "filename,label\nbus-paris-1-2-a.wav,bus\n2024-01-02-site-3.wav,park\n"
    first, second = open_dataset(lay({"labels.csv": text}))[1].clips
    assert (first.device, first.location) == ("a", "paris-1")
    assert (second.device, second.location, second.segment) == ("", "", "")


def test_other_text_files_do_not_disturb(lay):
    other = {
        "README.txt": 'It is "open',
        "licence.txt": "café".encode("latin-1"),
        "durations.csv": "filename,seconds\n",
    }
    assert open_dataset(lay({"dataset.csv": LIST, **other}))[1].kind == "csv"


def test_huge_text_files_are_not_read(lay):
    root = lay({"dataset.csv": LIST})
    with (root / "features.csv").open("wb") as file:
        file.write(b"filename,label\n")
        file.truncate(LIST_BYTES + 1)
    assert open_dataset(root)[1].kind == "csv"


def test_two_lists_are_an_error_that_names_both(lay):
    with pytest.raises(DatasetError, match=r"2 lists of recordings: test\.csv, train\.csv"):
        open_dataset(lay({"train.csv": "filename,label\na,b\n", "test.csv": "filename,label\na,b\n"}))


def test_unreadable_list_with_a_usual_name_is_an_error(lay):
    with pytest.raises(DatasetError, match=r"labels\.csv in .* is not UTF-8"):
        open_dataset(lay({"labels.csv": "filename,label\né.wav,bus\n".encode("latin-1")}))


def test_no_list_at_all(lay):
    with pytest.raises(DatasetError, match="holds no list of recordings"):
        open_dataset(lay({}), "csv")


def test_rows_without_a_label_are_clips_without_one(lay):
    _, manifest = open_dataset(lay({"labels.csv": "filename,label\na.wav,bus\nb.wav\n"}))
    assert [clip.label for clip in manifest.clips] == ["bus", ""]


def test_a_fold_for_every_clip_is_refused_where_it_would_fill_memory(lay, monkeypatch):
    monkeypatch.setattr("ascfeat.datasets.csv_list.FOLD_ENTRIES", 20)
    rows = "".join(f"{i}.wav,bus,{{}}\n".format(i) for i in range(5))
    assert len(open_dataset(lay({"dataset.csv": "filename,label,fold\n" + rows[: len(rows) // 5 * 4]}))[1].splits) == 4
    with pytest.raises(DatasetError, match="puts its 5 recordings into 5 folds") as caught:
        open_dataset(lay({"dataset.csv": "filename,label,fold\n" + rows}))
    assert "at most 4 for so many clips" in caught.value.todo
