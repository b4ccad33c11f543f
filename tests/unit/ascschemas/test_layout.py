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
