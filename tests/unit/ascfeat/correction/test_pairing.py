"""Which clips coefficients come from: complete sets, each device against an anchor, pairs; and nothing of the test."""

from __future__ import annotations

import pytest

from ascfeat.correction.pairing import Clips, select
from ascschemas.problems import DatasetError


def clips(*rows: str) -> Clips:
    """From ``moment device side``; a moment called ``-`` has no name."""
    parts = [row.split() for row in rows]
    return Clips(
        ids=[f"{i}" for i in range(len(rows))],
        moments=[("park", "oslo", m, "" if m == "-" else m) for m, _, _ in parts],
        devices=["" if d == "?" else d for _, d, _ in parts],
        sides=[s.removesuffix("!") for *_, s in parts],
        usable=[not s.endswith("!") for *_, s in parts],
    )


def of(moments: range, devices: str, side: str = "train") -> list[str]:
    return [f"{m} {d} {side}" for m in moments for d in devices]


def names(chosen: Clips, positions: tuple[int, ...]) -> list[str]:
    return [f"{chosen.moments[i][3]}{chosen.devices[i]}" for i in positions]


def test_moments_that_every_device_recorded_are_taken_and_no_others():
    held = clips(
        *of(range(3), "abc"), *of(range(3, 9), "a"), "9 a train", "9 b train", *of(range(20, 22), "abc", "test")
    )
    chosen = select(held, "abc", "mean")
    assert chosen.pairing == "complete"
    assert {d: names(held, s) for d, s in chosen.sets.items()} == {d: [f"{i}{d}" for i in range(3)] for d in "abc"}


def test_few_complete_moments_make_each_device_stand_against_the_anchor():
    """As in 2020 Mobile: every device shares many moments with a, and few with the others."""
    held = clips(*of(range(8), "ab"), *of(range(8, 16), "ac"), *of(range(16, 18), "abc"))
    chosen = select(held, "abc", "mean")
    assert (chosen.pairing, chosen.anchor) == ("anchor", "a")
    assert len(chosen.sets["b"]) == len(chosen.sets["c"]) == 10
    for device in "bc":
        for own, (partner,) in zip(chosen.sets[device], chosen.partners[device], strict=True):
            assert held.moments[own] == held.moments[partner]
            assert (held.devices[own], held.devices[partner]) == (device, "a")


def test_one_rare_device_does_not_starve_the_others():
    held = clips(*of(range(10), "abc"), "0 d train")
    chosen = select(held, "abc", "mean")
    assert chosen.pairing == "anchor"
    assert {d: len(s) for d, s in chosen.sets.items()} == {"a": 10, "b": 10, "c": 10, "d": 1}


@pytest.mark.parametrize("method", ["pairs", "geometric"])
def test_pairs_need_every_reference_device(method):
    held = clips(*of(range(4), "abc"), *of(range(4, 6), "ab"), "6 a train", "6 d train", "0 d train")
    chosen = select(held, "bc", method)
    assert {d: names(held, s) for d, s in chosen.sets.items()} == {
        **{d: [f"{i}{d}" for i in range(4)] for d in "abc"},
        "d": ["0d"],
    }
    assert {held.devices[p] for each in chosen.partners["d"] for p in each} == {"b", "c"}


def test_nothing_is_taken_of_the_test_side_or_beside_it():
    held = clips(*of(range(3), "abc"), "3 a train", "3 b train", "3 c test", *of(range(4, 6), "abc", "test"))
    chosen = select(held, "abc", "mean")
    assert [held.ids[i] for i in held.beside_test] == ["9", "10"]
    assert all(held.moments[i][3] in "012" for s in chosen.sets.values() for i in s)


def test_unusable_repeated_and_nameless_clips_are_left_out():
    held = clips(*of(range(3), "ab"), "3 a train!", "3 b train", "0 b train", "- a train", "- b train", "1 ? train")
    chosen = select(held, "ab", "mean")
    assert {d: names(held, s) for d, s in chosen.sets.items()} == {d: [f"{i}{d}" for i in range(3)] for d in "ab"}
    assert (held.excluded, held.repeated) == ([6], [8])


def test_without_pairs_every_training_clip_is_taken():
    held = clips("0 a train", "1 b train", "2 b train", "3 b test", "- b train")
    chosen = select(held, "a", "geometric_unaligned")
    assert chosen.pairing == "none"
    assert {d: len(s) for d, s in chosen.sets.items()} == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("rows", "reference", "words"),
    [
        (of(range(3), "ab", "test"), "ab", "no training clips"),
        (of(range(3), "a"), "a", "only one device"),
        (of(range(3), "ab"), "abz", "There is no device 'z'"),
        ([*of(range(3), "ab"), "4 c test"], "abc", "'c' has no usable clip on the training side"),
        (["0 a train", "1 b train"], "ab", "no parallel recordings"),
        (["0 a train", "0 b test", "1 b train", "2 a train"], "ab", "no parallel recordings"),
        ([*of(range(3), "ab"), "4 c train"], "abc", "Device c has no parallel recording"),
    ],
)
def test_refusals_say_both_values_and_what_to_do(rows, reference, words):
    with pytest.raises(DatasetError, match=words) as refused:
        select(clips(*rows), reference, "mean")
    assert refused.value.differences
    assert refused.value.todo
