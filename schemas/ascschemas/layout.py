"""The shape of one clip's features: named axes with units and coordinates, known before any audio is read."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from ascschemas.base import Frozen
from ascschemas.units import Name, Size

Number = Annotated[float, Strict()]
"""A number that no text passes for: a tag may be called ``2.5``."""


class Axis(Frozen):
    """One axis of a clip's features; its coordinates are either listed or evenly spaced."""

    name: Name
    """``channel``, ``component``, ``frequency``, ``coefficient``, ``tag`` or ``time``."""
    size: Size
    """Number of points."""
    unit: str = ""
    """Unit of the coordinates, such as ``Hz`` or ``s``."""
    values: tuple[Number, ...] | tuple[str, ...] | None = None
    """The coordinates, listed."""
    start: float = 0.0
    """First coordinate of an evenly spaced axis."""
    step: float = 1.0
    """Spacing of an evenly spaced axis."""

    @model_validator(mode="after")
    def _sized(self) -> Self:
        if self.values is not None and len(self.values) != self.size:
            raise ValueError(f"axis {self.name} has size {self.size} and {len(self.values)} coordinates")
        return self

    def coordinates(self) -> tuple[float, ...] | tuple[str, ...]:
        """Every coordinate of the axis, in order."""
        if self.values is not None:
            return self.values
        return tuple(self.start + self.step * i for i in range(self.size))


class LogScale(Frozen):
    """What logarithms a clip's features are, so that an error in them is one in decibels."""

    decibels: Annotated[float, Field(gt=0)]
    """Decibels of one unit: 1 for features in dB, ``20 / ln 10`` for natural logarithms of magnitudes."""
    lowest: float
    """The smallest value that there can be: that of silence."""


class Layout(Frozen):
    """Axes and number format of one clip's features."""

    axes: tuple[Axis, ...]
    """The axes of one clip, in storage order; the store puts ``clip`` before them."""
    quantity: str
    """What the numbers are, such as ``ln(mel magnitude)``."""
    log: LogScale | None = None
    """How to read them as decibels, where they are logarithms of one spectrum's bands; none where they are not."""
    dtype: Literal["float32"] = "float32"
    """Number format of the values as they are computed and read."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        names = [a.name for a in self.axes]
        if not names or len({*names}) < len(names):
            raise ValueError(f"axes need names of their own, and these are called {', '.join(names) or 'nothing'}")
        if "time" in names[:-1]:
            raise ValueError(f"time must be the last axis, and these are {', '.join(names)}")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of one clip along each axis."""
        return tuple(a.size for a in self.axes)

    @property
    def timed(self) -> bool:
        """Whether there is a time axis, which is the last."""
        return self.axes[-1].name == "time"

    @property
    def bands(self) -> tuple[Axis, ...]:
        """The axes that statistics of a clip keep: all but time."""
        return self.axes[:-1] if self.timed else self.axes

    @property
    def band_shape(self) -> tuple[int, ...]:
        """Extent of a clip's statistics: a mean and a variance over time where there is time, else one a value."""
        return tuple(a.size for a in self.bands)

    @property
    def clip_bytes(self) -> int:
        """Decoded size of one clip in bytes."""
        return 4 * math.prod(self.shape)

    def axis(self, name: str) -> Axis | None:
        """The axis of that name, or None."""
        return next((a for a in self.axes if a.name == name), None)
