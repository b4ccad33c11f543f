"""The parity certificate of a store: how far its values lie from the same features computed again in float64."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ascschemas.base import Frozen

Magnitude = Annotated[float, Field(ge=0)]


class Comparison(Frozen):
    """How far stored values lie from recomputed ones, in the features' own unit; of several clips, the worst of each.

    Numbers are rounded to three significant digits, the correlation to nine decimals.
    """

    against: str
    """What the stored values are compared with."""
    max: Magnitude
    """Largest absolute difference of one value."""
    p99: Magnitude
    """What 99 % of a clip's absolute differences stay under, of the clip where it is largest."""
    mean: Magnitude
    """Mean absolute difference, of the clip where it is largest."""
    relative: Magnitude
    """``p99``, less what the store's precision may round, over the root mean square of the clip's recomputed values,
    of the clip where it is largest."""
    relative_max: Magnitude
    """``max`` over the largest recomputed magnitude of its clip, of the clip where it is largest."""
    correlation: Annotated[float, Field(ge=-1, le=1)] | None
    """Correlation of stored and recomputed values, of the clip where it is lowest; None where clips are constant."""
    tolerance: Magnitude | None
    """What ``relative`` should stay under; None where the comparison only informs."""

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.tolerance is None or self.relative <= self.tolerance


class Certificate(Frozen):
    """Made when the store is sealed, from what then lies on disk; it holds no time, host name or path."""

    reference: str
    """What recomputed the sample."""
    clips: tuple[str, ...]
    """The sample: clip ids, drawn by their SHA-256."""
    unit: str
    """What the values are, and so the unit of their differences; a difference of ``ln`` is a relative difference."""
    comparisons: tuple[Comparison, ...]
    """One for each way of recomputing; the first is the reference that ``tolerance`` is meant for."""
    backend: str
    """Backend and kind of device that the store was computed by."""
    device: str
    """The device: ``cpu``, or the name of the GPU."""
    software: dict[str, str]
    """Versions of the software that computed the store and of the reference's."""
    tf32: Literal["off", "on"]
    """State of TensorFloat-32 inside our transforms, which switch it off."""

    @property
    def holds(self) -> bool:
        """Whether every difference that has a tolerance is within it."""
        return all(c.holds for c in self.comparisons)
