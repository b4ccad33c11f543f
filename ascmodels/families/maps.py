"""Families of maps: what over frequency and time they can take, and how they say what they cannot."""

from __future__ import annotations

from collections.abc import Sequence

from ascschemas.layout import Layout
from ascschemas.problems import Difference, RecipeError

MAPS = (("channel", "frequency", "time"), ("channel", "coefficient", "time"))
"""Axes of maps."""


def require_maps(kind: str, inputs: Sequence[Layout], *, least: int = 1, such_as: str) -> None:
    """Refuse features that are no maps, or smaller ones than a network's last map needs.

    Parameters
    ----------
    kind : str
        Name of the family.
    inputs : sequence of Layout
        What it would see of each store.
    least : int
        Bands and frames below which a map of the network would be empty.
    such_as : str
        A feature recipe that it can take.

    Raises
    ------
    RecipeError
        With the axes or extents of both sides.
    """
    axes = [tuple(axis.name for axis in layout.axes) for layout in inputs]
    strange = [", ".join(names) for names in axes if names not in MAPS]
    if strange:
        wanted = "channel, frequency or coefficient, time"
        raise RecipeError(
            f"{kind} cannot take these features.",
            differences=[Difference(field="axes", expected=wanted, found=names) for names in strange],
            todo=f"Choose a feature recipe with these axes, such as {such_as}, or another family.",
        )
    small = [axis for layout in inputs for axis in layout.axes[1:] if axis.size < least]
    if small:
        raise RecipeError(
            f"{kind} cannot take features this small: a map of its network would be empty.",
            differences=[Difference(field=a.name, expected=f"at least {least}", found=str(a.size)) for a in small],
            todo="Choose a feature recipe with more bands or longer clips, or set smaller strides where there are any.",
        )
