"""FSDKaggle2019 as Zenodo and as Kaggle lay it out, whole and in parts."""

import pytest

from ascfeat.datasets import open_dataset
from ascschemas.problems import DatasetError

CURATED = "fname,labels,freesound_id,license\n" + "".join(
    f"c{n}.wav,{('Bark', 'Rain', chr(34) + 'Rain,Bark' + chr(34))[n % 3]},{n},CC0\n" for n in range(15)
)
NOISY = "fname,labels,flickr_video_URL,license\nn0.wav,Bark,http://x,CC-BY\nn1.wav,Rain,http://y,CC-BY\n"
TEST = 'fname,labels,usage,freesound_id,license\nt0.wav,"Bark,Rain",Private,1,CC0\nt1.wav,Rain,Public,2,CC0\n'
META = "FSDKaggle2019.meta/"
AUDIO = "FSDKaggle2019.audio_"
POST = "_post_competition.csv"
ZENODO = {f"{META}train_curated{POST}": CURATED, f"{META}train_noisy{POST}": NOISY, f"{META}test{POST}": TEST}
SOME = (f"{AUDIO}train_curated/c0.wav", f"{AUDIO}train_noisy/n0.wav", f"{AUDIO}test/t0.wav")


def test_zenodos_layout(lay):
    _, manifest = open_dataset(lay(ZENODO, *SOME))
    assert (manifest.kind, len(manifest.clips), manifest.notes) == ("fsdkaggle2019", 19, ())
    first, mixed, noisy, test = (manifest.clips[i] for i in (0, 2, 15, 17))
    assert (first.id, first.label, first.device) == (f"{AUDIO}train_curated/c0.wav", "Bark", "curated")
    assert (mixed.label, noisy.device, noisy.id) == ("Rain,Bark", "noisy", f"{AUDIO}train_noisy/n0.wav")
    assert (test.label, test.device) == ("Bark,Rain", "test")


def test_folds_are_of_curated_clips_and_noisy_ones_always_train(lay):
    _, manifest = open_dataset(lay(ZENODO, *SOME))
    assert [s.name for s in manifest.splits] == ["fold1", "fold2", "fold3", "fold4", "fold5", "official"]
    curated, noisy, test = ({c.id for c in manifest.clips if c.device == part} for part in ("curated", "noisy", "test"))
    folds = manifest.splits[:5]
    assert sorted(clip for fold in folds for clip in fold.test) == sorted(curated)
    for fold in folds:
        assert {*fold.train} == (curated - {*fold.test}) | noisy
        first_tags = {"Bark": 0, "Rain": 0}
        for clip in manifest.clips:
            if clip.id in fold.test:
                first_tags[clip.label.split(",")[0]] += 1
        assert first_tags == {"Bark": 1, "Rain": 2}
        assert fold.origin.startswith("made by ascfeat")
    official = manifest.splits[5]
    assert ({*official.train}, {*official.test}, official.origin) == (curated | noisy, test, "official")


def test_kaggles_layout_has_no_labels_to_test_with(lay):
    lists = {"train_curated.csv": CURATED, "train_noisy.csv": NOISY, "sample_submission.csv": "fname,Bark\nt0.wav,0\n"}
    _, manifest = open_dataset(lay(lists, "train_curated/c0.wav", "train_noisy/n0.wav", "test/t0.wav"))
    assert (manifest.kind, len(manifest.clips)) == ("fsdkaggle2019", 17)
    assert manifest.clips[0].id == "train_curated/c0.wav"
    assert [s.name for s in manifest.splits] == ["fold1", "fold2", "fold3", "fold4", "fold5"]
    assert manifest.notes == ("The test part is left out: there is no list of it.",)


def test_a_part_that_was_not_downloaded_is_left_out_with_a_note(lay):
    _, manifest = open_dataset(lay(ZENODO, SOME[0]))
    assert {c.device for c in manifest.clips} == {"curated"}
    why = "its list has no labels, or there is no folder of it"
    assert sorted(manifest.notes) == [f"The {p} part is left out: {why}." for p in ("noisy", "test")]


def test_clips_that_are_known_to_be_wrong_are_on_no_side(lay):
    lists = {f"{META}train_curated{POST}": CURATED + "1d44b0bd.wav,Rain,99,CC0\n"}
    _, manifest = open_dataset(lay(lists, SOME[0]))
    wrong = f"{AUDIO}train_curated/1d44b0bd.wav"
    assert wrong in {c.id for c in manifest.clips}
    assert all(wrong not in (*s.train, *s.test) for s in manifest.splits)
    assert any("1 curated clips whose labels" in note for note in manifest.notes)


def test_a_clip_without_tags_and_one_listed_twice_are_problems(lay):
    lists = {f"{META}train_curated{POST}": CURATED + 'x.wav," , ",1,CC0\nc0.wav,Bark,1,CC0\n'}
    with pytest.raises(DatasetError) as caught:
        open_dataset(lay(lists, SOME[0]))
    found = {d.found for d in caught.value.differences}
    assert "none" in found
    assert any("again" in f for f in found)


def test_lists_without_recordings_are_refused(lay):
    with pytest.raises(DatasetError, match="no folder of them"):
        open_dataset(lay(ZENODO), "fsdkaggle2019")
