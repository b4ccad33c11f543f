"""Running medians of ``LANES`` columns side by side: each comparison is one vector operation.

The usual window of 31 goes by a tree: sixteen neighbouring medians share the sixteen values that all their windows
hold, each half of them eight more, and so on; of the values shared so far only those are kept, sorted, that can still
be a median. That takes 36 comparisons a median (A. Adams, *Fast median filters using separable sorting networks*,
SIGGRAPH 2021, in one dimension). Every other length goes by a sorted window in which one value is replaced at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ascfeat.compiling import compiler
from ascfeat.dsp.numba_backend.fourier import LANES

Values = npt.NDArray[Any]
"""float32 or float64, no NaN."""

TREE = 31
"""The window that the tree is made for."""
SHARED = 16
"""Medians of one tree: ``(TREE + 1) / 2``, so that their windows share as many values."""

compiled = compiler(Path(__file__).parent)
"""No fast-math, since the answer is one of the values, bit by bit."""


def running_median(values: Values, kernel: int) -> Values:
    """Median of each value and its neighbours in the same column, edges reflected.

    ``y[t, c] = median(x[r(t - kernel // 2), c] … x[r(t + kernel // 2), c])`` with ``r`` reflecting half a sample
    outside: ``… x1 x0 | x0 x1 …``, as often as needed.

    Parameters
    ----------
    values : array, shape ``(row, column)``
        float32 or float64.
    kernel : int
        Odd length of the window, in rows.

    Returns
    -------
    array, shape ``(row, column)``
        Of the same type; bit by bit ``scipy.ndimage.median_filter(values, (kernel, 1), mode="reflect")``.
    """
    out = np.empty_like(values, order="C")
    _running_median(np.ascontiguousarray(values), kernel, out)
    return out


def running_median_numpy(values: Values, kernel: int) -> Values:
    """The NumPy twin of :func:`running_median`: every window sorted."""
    half = kernel // 2
    padded = np.pad(values, ((half, half), (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=0)
    return np.asarray(np.partition(windows, half, axis=-1)[..., half])


@compiled
def _running_median(values, kernel, out):
    rows, columns = values.shape
    strip = np.zeros(strip_rows(rows, kernel) * LANES, values.dtype)
    held, found = memory(values, rows, kernel)
    for first in range(0, columns, LANES):
        count = min(LANES, columns - first)
        for t in range(rows):
            for v in range(count):
                strip[(kernel // 2 + t) * LANES + v] = values[t, first + v]
        reflect(strip, rows, kernel)
        medians(strip, rows, kernel, held, found)
        for t in range(rows):
            for v in range(count):
                out[t, first + v] = found[t * LANES + v]


@compiled
def strip_rows(rows, kernel):
    """Rows of a strip that :func:`medians` reads: whole trees, and the reflected edges of the last one's window."""
    return (rows + SHARED - 1) // SHARED * SHARED + max(kernel, TREE) - 1


@compiled
def memory(values, rows, kernel):
    """What :func:`medians` works in, and what it writes, both of the type of ``values``."""
    held = np.empty((max(kernel, SHARED) + 2) * LANES, values.dtype)
    return held, np.empty((rows + SHARED - 1) // SHARED * SHARED * LANES, values.dtype)


@compiled
def reflect(strip, rows, kernel):
    """Fill a strip before and behind its own rows, which begin at ``kernel // 2``; the edge repeats itself."""
    half = kernel // 2
    for i in range(half):
        _copy(strip, (half + _reflected(i - half, rows)) * LANES, strip, i * LANES)
    for i in range(half + rows, len(strip) // LANES):
        _copy(strip, (half + _reflected(i - half, rows)) * LANES, strip, i * LANES)


@compiled
def _reflected(index, rows):
    """The row that an index means, reflected half a sample outside the edges."""
    index %= 2 * rows
    return index if index < rows else 2 * rows - 1 - index


@compiled
def medians(strip, rows, kernel, scratch, out):
    """Medians of a strip, ``out[t, lane] = median(strip[t … t + kernel - 1, lane])``, all flat."""
    if kernel == TREE:
        for t in range(0, rows, SHARED):
            _eights(strip, t * LANES, scratch)
            _four_medians(strip, t, 3, 0, scratch, out)
            _four_medians(strip, t + 4, 27, 0, scratch, out)
            _four_medians(strip, t + 8, 3, 8, scratch, out)
            _four_medians(strip, t + 12, 27, 8, scratch, out)
    else:
        _sliding(strip, rows, kernel, scratch, out)


@compiled
def _eights(strip, at, out):
    """Middle eight of the 24 values that medians 0 … 7 share, then of those that medians 8 … 15 share."""
    for v in range(LANES):
        i = at + v
        a, b = _sort8(_four(strip, i, 15), _four(strip, i, 19))
        c, d = _sort8(_four(strip, i, 23), _four(strip, i, 27))
        low, middle_low = _sort_bitonic8(_lower4(a, d), _lower4(b, c))
        middle_high, high = _sort_bitonic8(_higher4(a, d), _higher4(b, c))
        e, f = _sort8(_four(strip, i, 7), _four(strip, i, 11))
        g, h = _middle8(low, middle_low, middle_high, high, e, f)
        out[v], out[v + LANES], out[v + 2 * LANES], out[v + 3 * LANES] = g
        out[v + 4 * LANES], out[v + 5 * LANES], out[v + 6 * LANES], out[v + 7 * LANES] = h
        e, f = _sort8(_four(strip, i, 31), _four(strip, i, 35))
        g, h = _middle8(low, middle_low, middle_high, high, e, f)
        out[v + 8 * LANES], out[v + 9 * LANES], out[v + 10 * LANES], out[v + 11 * LANES] = g
        out[v + 12 * LANES], out[v + 13 * LANES], out[v + 14 * LANES], out[v + 15 * LANES] = h


@compiled
def _four_medians(strip, first, four, eight, eights, out):
    """Medians ``first … first + 3`` from the eight candidates at row ``eight``, four shared values, and their own."""
    for v in range(LANES):
        i = first * LANES + v
        shared = _sort4(_four(strip, i, four))
        low, high = _four(eights, v, eight), _four(eights, v, eight + 4)
        candidates = _middle4(low, high, shared)
        a, b = _middle2(candidates, strip[i + LANES], strip[i + 2 * LANES])
        out[i] = _higher(a, _lower(b, strip[i]))
        out[i + LANES] = _higher(a, _lower(b, strip[i + 31 * LANES]))
        a, b = _middle2(candidates, strip[i + 31 * LANES], strip[i + 32 * LANES])
        out[i + 2 * LANES] = _higher(a, _lower(b, strip[i + 2 * LANES]))
        out[i + 3 * LANES] = _higher(a, _lower(b, strip[i + 33 * LANES]))


@compiled
def _four(strip, i, row):
    i += row * LANES
    return strip[i], strip[i + LANES], strip[i + 2 * LANES], strip[i + 3 * LANES]


@compiled
def _lower(a, b):
    return a if a < b else b


@compiled
def _higher(a, b):
    return b if a < b else a


@compiled
def _sort2(a, b):
    return _lower(a, b), _higher(a, b)


@compiled
def _lower4(a, b):
    """The lower four of two sorted fours, bitonic: each value against its mirror image in the other."""
    return _lower(a[0], b[3]), _lower(a[1], b[2]), _lower(a[2], b[1]), _lower(a[3], b[0])


@compiled
def _higher4(a, b):
    """The higher four of two sorted fours, bitonic."""
    return _higher(a[0], b[3]), _higher(a[1], b[2]), _higher(a[2], b[1]), _higher(a[3], b[0])


@compiled
def _sort4(t):
    a, b = _sort2(t[0], t[1])
    c, d = _sort2(t[2], t[3])
    e, f = _sort2(_lower(a, d), _lower(b, c))
    g, h = _sort2(_higher(b, c), _higher(a, d))
    return e, f, g, h


@compiled
def _sort_bitonic4(t):
    a, c = _sort2(t[0], t[2])
    b, d = _sort2(t[1], t[3])
    a, b = _sort2(a, b)
    c, d = _sort2(c, d)
    return a, b, c, d


@compiled
def _sort_bitonic8(a, b):
    low = _lower(a[0], b[0]), _lower(a[1], b[1]), _lower(a[2], b[2]), _lower(a[3], b[3])
    high = _higher(a[0], b[0]), _higher(a[1], b[1]), _higher(a[2], b[2]), _higher(a[3], b[3])
    return _sort_bitonic4(low), _sort_bitonic4(high)


@compiled
def _sort8(a, b):
    a, b = _sort4(a), _sort4(b)
    return _sort_bitonic4(_lower4(a, b)), _sort_bitonic4(_higher4(a, b))


@compiled
def _middle8(a, b, c, d, e, f):
    """Middle eight of sorted sixteen, ``a … d``, and sorted eight, ``e, f``: the eight least go, then the greatest."""
    p, q = _sort_bitonic8(_higher4(a, f), _higher4(b, e))
    return _sort_bitonic8(_lower4(c, q), _lower4(d, p))


@compiled
def _middle4(a, b, c):
    """Middle four of sorted eight, ``a, b``, and sorted four."""
    return _sort_bitonic4(_lower4(b, _sort_bitonic4(_higher4(a, c))))


@compiled
def _middle2(a, x, y):
    """Middle two of sorted four and two more."""
    x, y = _sort2(x, y)
    p, q = _sort2(_higher(a[0], y), _higher(a[1], x))
    return _sort2(_lower(a[2], q), _lower(a[3], p))


@compiled
def _sliding(strip, rows, kernel, window, out):
    """Medians by a sorted window, ``window[:kernel]``; the two rows behind it hold the values that go and come."""
    gone, new = kernel * LANES, (kernel + 1) * LANES
    for n in range(kernel):
        _copy(strip, n * LANES, window, n * LANES)
        for i in range(n, 0, -1):
            for v in range(i * LANES, (i + 1) * LANES):
                window[v - LANES], window[v] = _sort2(window[v - LANES], window[v])
    _copy(window, kernel // 2 * LANES, out, 0)
    for t in range(1, rows):
        _copy(strip, (t - 1) * LANES, window, gone)
        _copy(strip, (t + kernel - 1) * LANES, window, new)
        for i in range(kernel - 1):
            for v in range(LANES):
                here, after = window[i * LANES + v], window[(i + 1) * LANES + v]
                kept = here if here < window[gone + v] else after
                window[i * LANES + v], window[new + v] = _sort2(kept, window[new + v])
        _copy(window, new, window, (kernel - 1) * LANES)
        _copy(window, kernel // 2 * LANES, out, t * LANES)


@compiled
def _copy(source, i, target, o):
    for v in range(LANES):
        target[o + v] = source[i + v]
