"""Means and variances in float64, compiled: one pass over the memory each, and one order of addition on every machine.

NumPy takes as many passes as there are steps, through arrays of float64 that are larger than a cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ascfeat.compiling import compiler

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.floating[Any]]
"""float32 or float64."""

compiled = compiler(__file__)
"""No products are contracted, nothing is reordered."""

LANES = 64
"""Sums side by side: so many that none waits for its own last step."""


def centred(samples: Numbers) -> Float32:
    """Each row less its mean, ``(row, value)``, subtracted in float64 and rounded once."""
    samples = np.ascontiguousarray(samples)
    out = np.empty(samples.shape, np.float32)
    _centre(samples, out)
    return out


def centred_numpy(samples: Numbers) -> Float32:
    """The NumPy twin."""
    exact = samples.astype(np.float64)
    return np.asarray(exact - exact.mean(axis=1, keepdims=True), np.float32)


def mean_and_variance(values: Float32) -> tuple[Float64, Float64]:
    """Over the last axis, of as many values as it has: ``(..., value) -> (...), (...)``."""
    rows = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
    mean, variance = np.empty(len(rows)), np.empty(len(rows))
    _moments(rows, mean, variance)
    return mean.reshape(values.shape[:-1]), variance.reshape(values.shape[:-1])


def mean_and_variance_numpy(values: Float32) -> tuple[Float64, Float64]:
    """The NumPy twin."""
    exact = values.astype(np.float64)
    return exact.mean(axis=-1), exact.var(axis=-1)


@compiled
def _centre(samples, out):  # pragma: no cover
    lanes = np.empty(LANES)
    for r in range(len(samples)):
        row, into = samples[r], out[r]
        mean = _sum(row, 0.0, 1, lanes) / len(row)
        for i in range(len(row)):
            into[i] = row[i] - mean


@compiled
def _moments(rows, mean, variance):  # pragma: no cover
    lanes = np.empty(LANES)
    for r in range(len(rows)):
        row = rows[r]
        mean[r] = _sum(row, 0.0, 1, lanes) / len(row)
        variance[r] = _sum(row, mean[r], 2, lanes) / len(row)


@compiled
def _sum(x, mean, power, lanes):  # pragma: no cover
    """``sum_i (x[i] - mean)^power``: as many sums side by side as there are lanes, then the sum of these."""
    lanes[:] = 0.0
    for first in range(0, len(x), LANES):
        part = x[first : first + LANES]
        if len(part) == LANES and power == 1:
            for v in range(LANES):
                lanes[v] += part[v]
        elif len(part) == LANES:
            for v in range(LANES):
                lanes[v] += (part[v] - mean) * (part[v] - mean)
        else:
            for v in range(len(part)):
                lanes[v] += part[v] if power == 1 else (part[v] - mean) * (part[v] - mean)
    total = 0.0
    for v in range(LANES):
        total += lanes[v]
    return total
