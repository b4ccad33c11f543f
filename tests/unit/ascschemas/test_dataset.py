"""Manifests refuse what contradicts itself, and their fingerprint covers clips and splits only."""

import pytest
from pydantic import ValidationError

from ascschemas.dataset import AudioFormat, Clip, Manifest, Split

CLIPS = (Clip(id="audio/b.wav", label="tram"), Clip(id="audio/a.wav", label="bus"), Clip(id="audio/c.wav"))
FOLD = Split(name="fold1", train=("audio/a.wav",), test=("audio/b.wav",))


def manifest(**changes):
    return Manifest(**{"dataset": "scenes", "kind": "csv", "clips": CLIPS, "splits": (FOLD,), **changes})


@pytest.mark.parametrize("bad", ["", "/a.wav", "../a.wav", "a/../../b.wav", "a\\b.wav", "a\0.wav", "x" * 1001])
def test_clip_id_stays_inside_the_dataset(bad):
    with pytest.raises(ValidationError, match="not a relative path"):
        Clip(id=bad)


def test_classes_are_sorted_and_leave_out_withheld_labels():
    assert manifest().classes == ("bus", "tram")


def test_sides_follow_the_clips():
    assert manifest().sides(FOLD) == ("test", "train", "unused")


def test_split_by_name():
    assert manifest().split("fold1") == FOLD
    assert manifest().split("fold2") is None


def test_a_clip_listed_twice_is_an_error():
    with pytest.raises(ValidationError, match=r"1 clip ids are listed twice, first 'audio/a.wav'"):
        manifest(clips=(*CLIPS, CLIPS[1]))


def test_a_split_of_unknown_clips_is_an_error():
    with pytest.raises(ValidationError, match=r"fold1 lists 1 unknown clips, first 'x.wav'"):
        manifest(splits=(Split(name="fold1", train=("x.wav",), test=()),))


def test_fingerprint_covers_clips_and_splits_only():
    same = manifest(dataset="other", kind="folders", notes=("guessed",))
    assert manifest().fingerprint == same.fingerprint
    for changed in (manifest(clips=CLIPS[::-1]), manifest(splits=())):
        assert manifest().fingerprint != changed.fingerprint


def test_audio_format_in_words():
    assert str(AudioFormat(sample_rate=48_000, channels=2, frames=480_000)) == "48000 Hz, 2 channels, 10 s"
    assert str(AudioFormat(sample_rate=16_000, channels=1, frames=8_000)) == "16000 Hz, 1 channel, 0.5 s"
