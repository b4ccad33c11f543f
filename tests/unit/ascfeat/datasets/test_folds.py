"""Made folds: no place on both sides, every clip tested once, the same whatever the order."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ascfeat.datasets.folds import made_folds
from ascschemas.dataset import Clip, Manifest

GOLDEN = [("0.wav", "1.wav"), ("3.wav", "6.wav"), ("4.wav", "5.wav"), ("7.wav", "8.wav"), ("2.wav", "9.wav")]
ROWS = st.lists(
    st.tuples(st.sampled_from(["bus", "park", "tram", ""]), st.sampled_from(["", *"pqrstuvw"])), min_size=1, max_size=60
)


def clips_from(rows):
    return [Clip(id=f"{n}.wav", label=label, location=place) for n, (label, place) in enumerate(rows)]


@given(ROWS)
def test_no_location_is_on_both_sides(rows):
    clips = {clip.id: clip for clip in clips_from(rows)}
    for split in made_folds(tuple(clips.values())):
        train, test = ({clips[i].location for i in side} - {""} for side in (split.train, split.test))
        assert not train & test


@given(ROWS)
def test_every_labelled_clip_is_tested_exactly_once(rows):
    clips = clips_from(rows)
    splits = made_folds(clips)
    tested = Counter(i for split in splits for i in split.test)
    assert set(tested.values()) <= {1}
    if splits:
        assert set(tested) == {clip.id for clip in clips if clip.label}
        assert all(set(s.train) | set(s.test) == set(tested) for s in splits)
    Manifest(dataset="x", kind="csv", clips=tuple(clips), splits=splits)


@given(ROWS, st.randoms())
def test_listing_order_does_not_matter(rows, rng: random.Random):
    clips = clips_from(rows)
    shuffled = rng.sample(clips, len(clips))
    sides = [[(s.name, set(s.train), set(s.test)) for s in made_folds(some)] for some in (clips, shuffled)]
    assert sides[0] == sides[1]


def test_classes_are_balanced_without_locations():
    clips = [Clip(id=f"{label}/{n}.wav", label=label) for label in ("a", "b") for n in range(11)]
    for split in made_folds(clips):
        counts = Counter(i[0] for i in split.test)
        assert all(2 <= counts[label] <= 3 for label in "ab")


def test_parallel_recordings_stay_together_without_a_location():
    clips = [Clip(id=f"{n}-{d}.wav", label="bus", device=d, segment=str(n)) for n in range(7) for d in "abc"]
    for split in made_folds(clips):
        assert not {i.split("-")[0] for i in split.train} & {i.split("-")[0] for i in split.test}
    assert "by location" in made_folds(clips)[0].origin


def test_the_folds_of_a_known_set_do_not_change():
    clips = [Clip(id=f"{n}.wav", label="ab"[n % 2]) for n in range(10)]
    assert [split.test for split in made_folds(clips)] == GOLDEN


def test_one_group_makes_no_split():
    assert made_folds([Clip(id="a.wav", label="bus", location="x"), Clip(id="b.wav", label="tram", location="x")]) == ()
    assert [s.name for s in made_folds(clips_from([("bus", ""), ("tram", "")]))] == ["fold1", "fold2"]
