"""Values as numbers on disk: which number format holds them, how well, and back."""

from __future__ import annotations

import hashlib
import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ascschemas.layout import Layout
from ascschemas.problems import AudioError, Difference, RecipeError
from ascschemas.recipe import Storage
from ascschemas.store import Encoding

Values = npt.NDArray[np.float32]
Numbers = npt.NDArray[Any]

HALF_TOLERANCE = 0.034
"""Decibels that a float16 may be off: half a step is 0.031 from 64 to 128 dB, and 0.034 from 8 to 16 nepers."""
HALF_BITS = 12
"""Half a step of float16 is this power of two below the next power of two above a number."""
STEP = 0.05
"""Decibels of one step of an integer."""
SLACK = 1.001
"""On a tolerance: the value is rounded to float32 again when it is decoded."""
LEAST = {"int16": -(1 << 15), "int32": -(1 << 31)}
"""The integer that stands for a value that is not there: no step reaches it, and no sample of 24 bits."""


def encoding(storage: Storage, layout: Layout, *, bits: int = 0) -> Encoding:
    """How a recipe's features are kept.

    Parameters
    ----------
    storage : Storage
        The recipe's third slot.
    layout : Layout
        Axes of one clip, and whether its values are logarithms.
    bits : int
        16 or 24 where the features are the very samples of recordings of so many bits, else 0.

    Raises
    ------
    RecipeError
        When a precision for logarithms is asked of other features.
    """
    if storage.precision in ("auto", "float32"):
        return _exact(bits if storage.precision == "auto" else 0, storage.compress)
    if layout.log is None:
        raise RecipeError(
            f"storage.precision {storage.precision} is for logarithms of spectra, and these features are none.",
            differences=[Difference(field="features", expected="log-scaled bands", found=layout.quantity)],
            todo="Leave `storage.precision` out: these features are then kept exactly.",
        )
    unit, lowest = layout.log.decibels, layout.log.lowest
    if storage.precision == "float16":
        reach = 2.0 ** math.floor(math.log2(HALF_TOLERANCE / unit) + HALF_BITS)  # numbers below it are near enough
        offset = min(0.0, math.floor(lowest + reach))
        return Encoding(dtype="float16", offset=offset, compress=storage.compress, tolerance=HALF_TOLERANCE)
    return Encoding(
        dtype="int16",
        scale=STEP / unit,
        missing=LEAST["int16"],
        compress=storage.compress,
        tolerance=STEP / 2,
    )


def encode(values: Values, how: Encoding) -> Numbers:
    """Numbers on disk of one clip's values; NaN becomes ``how.missing`` in integers.

    Law: ``number = round((value - offset) / scale)`` for integers, ``float16(value - offset)`` for float16.
    """
    if how.plain:
        return values
    if how.dtype == "float16":
        return (values - np.float32(how.offset)).astype(np.float16)
    limits = np.iinfo(how.dtype)
    steps = np.rint((values.astype(np.float64) - how.offset) / how.scale)
    gone = np.isnan(steps)
    steps[gone] = 0
    numbers = np.clip(steps, limits.min, limits.max).astype(how.dtype)
    numbers[gone] = LEAST[how.dtype]
    return numbers


def decode(numbers: Numbers, how: Encoding, out: Values) -> None:
    """Values of numbers from the disk, into ``out``.

    Law: ``value = float32(number * scale + offset)``, computed in float64 for integers; ``how.missing`` becomes NaN.
    """
    if how.dtype == "float32":
        np.add(numbers, np.float32(how.offset), out=out)
        return
    if how.dtype == "float16":  # twice as fast as numpy's own conversion
        np.take(_halves(how.offset), numbers.view(np.uint16), out=out, mode="clip")
        return
    np.multiply(numbers, how.scale, out=out, dtype=np.float64, casting="same_kind")
    if how.offset:
        out += np.float32(how.offset)
    if how.missing is not None:
        out[numbers == how.missing] = np.nan


def rounded(values: Values, how: Encoding, layout: Layout, clip: str) -> tuple[Numbers, Values, float | None]:
    """Numbers of a clip's values, the values that they read back as, and how far, in dB, the worst is off.

    Raises
    ------
    AudioError
        With reason ``imprecise``, when the format does not hold them as well as the encoding promises.
    """
    if how.plain:
        return values, values, None
    numbers, back = encode(values, how), np.empty_like(values)
    decode(numbers, how, back)
    unit = layout.log.decibels if layout.log and how.tolerance is not None else 1.0
    off = float(np.abs(back.astype(np.float64) - values).max(initial=0.0)) * unit
    allowed = how.tolerance or 0.0
    if off > allowed * SLACK:
        raise _imprecise(clip, how, off, allowed)
    return numbers, back, float(f"{off:.3g}") if how.tolerance is not None else None


def number_digest(numbers: Numbers) -> str:
    """SHA-256 of one clip's stored numbers as little-endian bytes."""
    ordered = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))
    return hashlib.sha256(ordered.data).hexdigest()


def missing(shape: tuple[int, ...], how: Encoding) -> Numbers:
    """What is stored of a clip that holds no values."""
    fill = np.nan if how.dtype in ("float32", "float16") else LEAST[how.dtype]
    return np.full(shape, fill, how.dtype)


@cache
def _halves(offset: float) -> Values:
    """The value of every float16, by its bits."""
    every: Values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    with np.errstate(invalid="ignore"):  # a signalling NaN among them
        return every + np.float32(offset)


def _exact(bits: int, compress: bool) -> Encoding:
    """Samples as the integers that they are; everything else in float32."""
    if not bits:
        return Encoding(compress=compress)
    if bits == 16:  # every number of int16 is a sample: none is left to say that one is missing
        return Encoding(dtype="int16", scale=2.0**-15, compress=compress)
    return Encoding(dtype="int32", scale=2.0**-23, missing=LEAST["int32"], compress=compress)


def _imprecise(clip: str, how: Encoding, off: float, allowed: float) -> AudioError:
    if how.tolerance is None:
        what = f"{clip} holds samples that are no integers of {16 if how.dtype == 'int16' else 24} bits."
        return AudioError(
            "imprecise", what, todo="Use a recipe with `storage: {precision: float32}`, or convert the recording."
        )
    return AudioError(
        "imprecise",
        f"{clip} cannot be kept as precisely as the store promises.",
        differences=[Difference(field="rounding in dB", expected=f"at most {allowed:g}", found=f"{off:.3g}")],
        todo="Use a recipe with `storage: {precision: float32}`.",
    )
