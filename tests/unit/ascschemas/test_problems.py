"""Errors have four parts, and unknown names suggest the nearest."""

from ascschemas.problems import AscError, AudioError, Difference, StoreMismatch, differences, nearest


def test_message_names_what_where_both_values_and_what_to_do():
    error = StoreMismatch(
        "logmel256.zarr was made by another recipe.",
        todo="Extract it again.",
        differences=[
            Difference(field="representation.n_mels", expected="256", found="128"),
            Difference(field="decode.seconds", expected="10.0", found="native"),
        ],
    )
    assert str(error).splitlines() == [
        "logmel256.zarr was made by another recipe.",
        "  representation.n_mels  expected 256  found 128",
        "  decode.seconds         expected 10.0  found native",
        "Extract it again.",
    ]


def test_message_without_differences_is_two_lines():
    assert str(AscError("It is wrong.", todo="Mend it.")) == "It is wrong.\nMend it."


def test_audio_error_carries_its_reason():
    assert AudioError("truncated", "It ends early.", todo="Copy it again.").reason == "truncated"


def test_differences_are_leaves_in_the_order_of_what_is_expected():
    found = differences({"b": {"x": 1, "y": [1, 2]}, "a": 1}, {"a": 1, "b": {"x": 1, "y": [1]}, "new": None, "c": 0})
    assert [(d.field, d.expected, d.found) for d in found] == [("b.y", "[1, 2]", "[1]"), ("c", "absent", "0")]


def test_a_long_value_is_shortened():
    (found,) = differences({"a": "x" * 200}, {"a": "y"})
    assert len(found.expected) == 80
    assert found.expected.endswith("...")


def test_nearest_lists_all_names_when_none_is_near():
    assert nearest("zzz", ["b", "a"]) == "known: a, b."
    assert nearest("zzz", []) == "known: none."
