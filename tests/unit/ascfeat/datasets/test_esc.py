"""ESC-50 and ESC-10 in both of their layouts."""

import pytest

from ascfeat.datasets import open_dataset
from ascschemas.problems import DatasetError

ESC50 = """filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,True,100032,A
1-100210-A-36.wav,1,36,vacuum_cleaner,False,100210,A
2-100210-B-0.wav,2,0,dog,True,100211,A
"""
ESC10 = "filename,fold,target,category,src_file\n1-100032-A.ogg,1,0,dog,100032\n2-7-A.ogg,2,1,rain,7\n"


def test_esc50(lay):
    _, manifest = open_dataset(lay({"meta/esc50.csv": ESC50}))
    clip = manifest.clips[0]
    assert (manifest.kind, clip.id, clip.label, clip.location) == ("esc50", "audio/1-100032-A-0.wav", "dog", "100032")
    assert [(s.name, s.origin, len(s.train), len(s.test)) for s in manifest.splits] == [
        ("fold1", "official", 1, 2),
        ("fold2", "official", 2, 1),
    ]


def test_esc10_is_the_marked_part_of_esc50_when_asked_for(lay):
    _, manifest = open_dataset(lay({"meta/esc50.csv": ESC50}), "esc10")
    assert (manifest.kind, manifest.classes, len(manifest.clips)) == ("esc10", ("dog",), 2)
    assert manifest.notes == ("ESC-10 is the rows of meta/esc50.csv whose column esc10 is True.",)


def test_esc10_on_its_own(lay):
    _, manifest = open_dataset(lay({"meta.csv": ESC10}))
    assert (manifest.kind, manifest.classes) == ("esc10", ("dog", "rain"))
    assert manifest.splits[1].test == ("audio/2-7-A.ogg",)


def test_a_clip_without_a_name_and_one_named_twice_are_problems(lay):
    wrong = ESC10 + ",1,0,dog,1\n1-100032-A.ogg,1,0,dog,100032\n"
    with pytest.raises(DatasetError) as caught:
        open_dataset(lay({"meta.csv": wrong}))
    assert [d.found for d in caught.value.differences] == [
        "nothing",
        "audio/1-100032-A.ogg again, after meta.csv line 2",
    ]


def test_another_folder_is_not_esc10(lay):
    with pytest.raises(DatasetError, match="is not ESC-10"):
        open_dataset(lay({"meta.csv": "filename,label\na.wav,b\n"}), "esc10")
