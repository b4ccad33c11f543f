"""Axes know their coordinates, and a layout its shape and size."""

import pytest
from pydantic import ValidationError

from ascschemas.layout import Axis, Layout

CHANNEL = Axis(name="channel", size=2, values=("left", "right"))
TIME = Axis(name="time", size=3, unit="s", start=0.5, step=0.25)
LAYOUT = Layout(axes=(CHANNEL, TIME), quantity="ln(mel magnitude)")


def test_coordinates():
    assert CHANNEL.coordinates() == ("left", "right")
    assert TIME.coordinates() == (0.5, 0.75, 1.0)


def test_listed_coordinates_must_be_as_many_as_the_axis_is_long():
    with pytest.raises(ValidationError, match="size 3 and 2 coordinates"):
        Axis(name="channel", size=3, values=("left", "right"))


def test_shape_and_bytes():
    assert LAYOUT.shape == (2, 3)
    assert LAYOUT.clip_bytes == 4 * 2 * 3


def test_axis_by_name():
    assert LAYOUT.axis("time") == TIME
    assert LAYOUT.axis("frequency") is None


def test_statistics_keep_every_axis_but_time():
    assert (LAYOUT.timed, LAYOUT.band_shape) == (True, (2,))
    still = Layout(axes=(CHANNEL, Axis(name="frequency", size=5)), quantity="mean magnitude")
    assert (still.timed, still.band_shape) == (False, (2, 5))


@pytest.mark.parametrize(("axes", "words"), [
    ((TIME, CHANNEL), "time must be the last axis"),
    ((CHANNEL, CHANNEL), "names of their own"),
    ((), "called nothing"),
])  # fmt: skip
def test_axes_that_no_store_could_keep_are_refused(axes, words):
    with pytest.raises(ValidationError, match=words):
        Layout(axes=axes, quantity="any")


@pytest.mark.parametrize("names", [("0", "1"), ("2.5", "1e3"), ("nan", "x")])
def test_names_that_look_like_numbers_stay_names(names):
    axis = Axis(name="tag", size=2, values=names)
    assert axis == Axis.model_validate(axis.model_dump(mode="json")) == Axis.model_validate_json(axis.model_dump_json())
    assert Axis.model_validate(axis.model_dump(mode="json")).coordinates() == names
    numbers = Axis.model_validate({"name": "frequency", "size": 2, "values": [0, 21.5]})
    assert numbers.coordinates() == (0.0, 21.5)
