"""Patches: stored features cut along time into pieces of equal width, as views."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ascschemas.layout import Layout
from ascschemas.problems import Difference, RecipeError
from ascschemas.recipe import Patches

Values = npt.NDArray[np.float32]


def cut(features: Values, patches: Patches) -> Values:
    """Cut features along time.

    ``out[..., p, :, :] = resized(features)[..., :, starts[p] : starts[p] + width]``, ``starts`` as ``Patches`` counts
    them.

    Parameters
    ----------
    features : array, shape ``(..., row, time)``
        Rows are frequencies or coefficients; before them stand clips, channels and components, in any number.
    patches : Patches
        Width, hop, and what becomes of rows and of the last frames.

    Returns
    -------
    array, shape ``(..., patch, row, width)``, float32
        Every channel and component has patches of its own: flattened, a clip's patches run over channels slowest, then
        components, then time. A read-only view where rows are not resized and no last patch is aligned.

    Raises
    ------
    RecipeError
        When a patch is wider than the features.
    """
    frames = features.shape[-1]
    if frames < patches.width:
        raise _too_wide(patches, frames)
    rows = features if patches.resize is None else resized(features, patches.resize)
    windows = np.lib.stride_tricks.sliding_window_view(rows, patches.width, axis=-1)  # (..., row, start, width)
    starts = patches.starts(frames)
    regular = starts[-1] == (len(starts) - 1) * patches.hop
    chosen = windows[..., :: patches.hop, :] if regular else windows[..., list(starts), :]
    return np.moveaxis(chosen[..., : len(starts), :], -2, -3)


def resized(features: Values, rows: int) -> Values:
    """Features ``(..., row, time)`` with another number of rows, interpolated linearly between half-pixel centres.

    ``out[i] = (1 - w) x[k] + w x[k + 1]`` with ``k + w = max((i + 1/2) n / rows - 1/2, 0)`` over ``n`` stored rows, as
    bilinear interpolation of torch does along one axis (``align_corners=False``).
    """
    stored = features.shape[-2]
    at = np.maximum((np.arange(rows) + 0.5) * (stored / rows) - 0.5, 0.0)
    low = np.minimum(at.astype(np.int64), stored - 1)
    high = np.minimum(low + 1, stored - 1)
    weight = (at - low).astype(np.float32)[:, None]  # (row, 1)
    out: Values = features[..., low, :] * (1 - weight) + features[..., high, :] * weight
    return out


def count(layout: Layout, patches: Patches) -> tuple[int, int]:
    """Patches of one channel (and component) of a clip, and of the whole clip.

    Examples
    --------
    >>> from ascschemas.layout import Axis
    >>> axes = [Axis(name=n, size=s) for n, s in (("channel", 3), ("coefficient", 128), ("time", 469))]
    >>> count(Layout(axes=tuple(axes), quantity="MFCC"), Patches(width=128, hop=32))
    (11, 33)
    """
    each = len(patches.starts(layout.shape[-1]))
    return each, each * math.prod(layout.shape[:-2])


def check(layout: Layout, patches: Patches) -> None:
    """Refuse patches that cannot be cut from features of a layout.

    Raises
    ------
    RecipeError
        When there are no rows over time, or fewer frames than a patch is wide.
    """
    if not layout.timed or len(layout.axes) < 3:
        found = ", ".join(a.name for a in layout.axes)
        raise RecipeError(
            "Patches cannot be cut from these features.",
            differences=[Difference(field="axes", expected="channel, frequency or coefficient, time", found=found)],
            todo="Remove `patches` from the recipe, or choose a representation over frequency and time.",
        )
    if layout.shape[-1] < patches.width:
        raise _too_wide(patches, layout.shape[-1])


def _too_wide(patches: Patches, frames: int) -> RecipeError:
    return RecipeError(
        "Patches cannot be wider than the features of a clip.",
        differences=[Difference(field="patches.width", expected=f"at most {frames} frames", found=str(patches.width))],
        todo="Choose narrower patches, a shorter hop_length, or longer recordings.",
    )
