"""The TAU layout with all, some or none of its lists."""

import pytest

from ascfeat.datasets import open_dataset
from ascfeat.datasets.tau import tau_name
from ascschemas.problems import DatasetError

HEAD = "filename\tscene_label\tidentifier\tsource_label\n"
TRAIN = ("audio/bus-paris-1-1-a.wav", "audio/bus-paris-1-1-b.wav", "audio/park-lyon-2-2-a.wav")
TEST = ("audio/bus-milan-3-3-a.wav", "audio/park-milan-4-4-a.wav")
UNUSED = ("audio/park-milan-5-5-a.wav",)


def meta(*names):
    return HEAD + "".join(f"{n}\t{n[6:].split('-')[0]}\t{'-'.join(n.split('-')[1:3])}\t{n[-5]}\n" for n in names)


def names(some, head="filename\n"):
    return head + "".join(f"{n}\n" for n in some)


def labelled(some, head="filename\tscene_label\n"):
    return head + "".join(f"{n}\t{n[6:].split('-')[0]}\n" for n in some)


SETUP = {"evaluation_setup/fold1_train.csv": labelled(TRAIN), "evaluation_setup/fold1_evaluate.csv": labelled(TEST)}


def test_whole_layout(lay):
    root = lay({"meta.csv": meta(*TRAIN, *TEST, *UNUSED), **SETUP, "evaluation_setup/fold1_test.csv": names(TEST)})
    _, manifest = open_dataset(root)
    clip = manifest.clips[1]
    assert (clip.label, clip.device, clip.city, clip.location, clip.segment) == (
        "bus",
        "b",
        "paris",
        "paris-1",
        "bus-paris-1-1",
    )
    (split,) = manifest.splits
    assert (split.name, split.train, split.test, split.origin) == ("fold1", TRAIN, TEST, "official")
    assert manifest.sides(split)[-1] == "unused"
    assert (manifest.kind, manifest.notes) == ("scenes", ())


def test_crlf_and_headerless_text_lists_of_2018(lay):
    crlf = {
        "meta.csv": meta(*TRAIN, *TEST).replace("\n", "\r\n"),
        "evaluation_setup/fold1_train.txt": labelled(TRAIN, head="").replace("\n", "\r\n"),
        "evaluation_setup/fold1_test.txt": names(TEST, head="").replace("\n", "\r\n"),
    }
    _, manifest = open_dataset(lay(crlf))
    assert (manifest.splits[0].train, manifest.splits[0].test) == (TRAIN, TEST)


def test_without_evaluate_the_test_list_joined_with_meta_is_the_test_side(lay):
    root = lay({"meta.csv": meta(*TRAIN, *TEST), **SETUP, "evaluation_setup/fold1_test.csv": names(TEST[:1])})
    (root / "evaluation_setup/fold1_evaluate.csv").unlink()
    assert open_dataset(root)[1].splits[0].test == TEST[:1]


def test_lists_of_one_side_that_differ_are_noted(lay):
    root = lay({"meta.csv": meta(*TRAIN, *TEST), **SETUP, "evaluation_setup/fold1_test.csv": names(TEST[:1])})
    _, manifest = open_dataset(root)
    assert manifest.splits[0].test == TEST
    assert "differ in 1 clips; the latter counts" in manifest.notes[0]


def test_missing_columns_come_from_the_file_name(lay):
    whole = open_dataset(lay({"meta.csv": meta(*TRAIN, *TEST), **SETUP}, name="whole"))[1]
    bare = open_dataset(lay({"meta.csv": names((*TRAIN, *TEST)), **SETUP}, name="bare"))[1]
    assert bare.clips == whole.clips


def test_without_meta_the_lists_say_which_clips_there_are(lay):
    _, manifest = open_dataset(lay({**SETUP, "evaluation_setup/fold1_test.csv": names(TEST)}))
    assert {clip.id: clip.label for clip in manifest.clips}[TEST[0]] == "bus"
    assert len(manifest.clips) == 5
    assert manifest.notes == ("There is no meta.csv; the clips are those that evaluation_setup lists.",)


def test_audio_alone_is_described_by_its_names_and_split_by_location(lay):
    _, manifest = open_dataset(lay({}, *TRAIN, *TEST, *UNUSED))
    assert (manifest.kind, manifest.classes, len(manifest.clips)) == ("scenes", ("bus", "park"), 6)
    assert manifest.splits[0].origin.startswith("made by ascfeat: 5 folds, by location")
    assert "no meta.csv and no evaluation_setup" in manifest.notes[0]


def test_evaluation_set_without_labels(lay):
    clips = tuple(f"audio/{n}.wav" for n in range(3))
    _, manifest = open_dataset(lay({"evaluation_setup/test.csv": names(clips)}, *clips))
    assert (manifest.classes, [c.id for c in manifest.clips]) == ((), list(clips))
    assert [(s.name, s.train, s.test) for s in manifest.splits] == [("evaluation", (), clips)]
    assert "3 of 3 clips have no label, first audio/0.wav." in manifest.notes


def test_second_fold_of_a_lab(lay):
    own = {"evaluation_setup/fold2_train.csv": labelled(TEST), "evaluation_setup/fold2_evaluate.csv": labelled(TRAIN)}
    _, manifest = open_dataset(lay({"meta.csv": meta(*TRAIN, *TEST), **SETUP, **own}))
    assert [(s.name, s.train) for s in manifest.splits] == [("fold1", TRAIN), ("fold2", TEST)]


def test_label_that_a_list_gives_otherwise_is_noted(lay):
    root = lay({"meta.csv": meta(*TRAIN, *TEST).replace("\tbus\t", "\ttram\t", 1), **SETUP})
    _, manifest = open_dataset(root)
    assert manifest.clips[0].label == "tram"
    assert manifest.notes == (
        "evaluation_setup/fold1_train.csv gives 1 clips another label than meta.csv, which counts; "
        "first audio/bus-paris-1-1-a.wav.",
    )


def test_every_wrong_line_of_every_list_is_named_at_once(lay):
    wrong = {"meta.csv": meta(*TRAIN, *TEST, TRAIN[0]) + "../bus-paris-1-1-c.wav\tbus\tparis-1\tc\n", **SETUP}
    wrong["evaluation_setup/fold1_train.csv"] += "audio/bus-paris-9-9-a.wav\tbus\n"
    with pytest.raises(DatasetError) as caught:
        open_dataset(lay(wrong))
    assert [d.field for d in caught.value.differences] == [
        "meta.csv line 7",
        "meta.csv line 8",
        "evaluation_setup/fold1_train.csv line 5",
    ]


def test_clips_that_v2_of_2020_removed_may_stand_in_its_lists(lay):
    gone = "audio/airport-barcelona-1-87-c.wav"
    lists = {**SETUP, "evaluation_setup/fold1_train.csv": labelled((*TRAIN, gone))}
    root = lay({"meta.csv": meta(*TRAIN, *TEST), **lists}, name="TAU-urban-acoustic-scenes-2020-mobile-development")
    _, manifest = open_dataset(root)
    assert (manifest.kind, manifest.splits[0].train) == ("tau2020_mobile", TRAIN)
    assert "lists 1 clips that this version of the set no longer has" in manifest.notes[0]
    with pytest.raises(DatasetError, match="fold1_train"):
        open_dataset(root, "scenes")


def test_clips_that_v2_of_2020_removed_are_clips_of_v1(lay):
    gone = "audio/airport-barcelona-1-87-c.wav"
    lists = {**SETUP, "evaluation_setup/fold1_train.csv": labelled((*TRAIN, gone))}
    root = lay({"meta.csv": meta(*TRAIN, gone, *TEST), **lists})
    assert open_dataset(root, "tau2020_mobile")[1].splits[0].train == (*TRAIN, gone)


@pytest.mark.parametrize(
    ("path", "segment", "device"),
    [
        ("audio/metro_station-vienna-1-2-s6.wav", "metro_station-vienna-1-2", "s6"),
        ("audio/tram-lyon-1-2-3-a.WAV", "tram-lyon-1-2-3", "a"),
    ],
)
def test_names_with_five_or_six_fields(path, segment, device):
    name = tau_name(path)
    assert name is not None
    assert (name.segment, name.device) == (segment, device)


@pytest.mark.parametrize("path", ["audio/1.wav", "a-b-c-d.wav", "a-b--d-e.wav", "a-b-c-d-e-f-g.wav"])
def test_other_names_say_nothing(path):
    assert tau_name(path) is None
