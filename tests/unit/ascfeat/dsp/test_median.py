"""Running medians are bit by bit those of scipy, and of a sort of every window."""

import numpy as np
import pytest
from scipy.ndimage import median_filter

from ascfeat.dsp.numba_backend.median import running_median, running_median_numpy

REFLECTIONS_OF_SCIPY = 4
"""Under axes that ``kernel // 2`` holds this often, scipy 1.17 returns what lies behind its buffer."""


def contents(rows: int, columns: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows * 1000 + columns)
    return {
        "noise": rng.standard_normal((rows, columns)),
        "ties": rng.integers(0, 4, (rows, columns)),
        "zeros": np.zeros((rows, columns)),
        "rising": np.arange(rows * columns).reshape(rows, columns),
        "falling": -np.arange(rows * columns).reshape(rows, columns),
        "far apart": 10.0 ** rng.integers(-38, 38, (rows, columns)),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", [1, 3, 15, 29, 31, 33, 63])
def test_equals_scipy_bit_by_bit(kernel: int, dtype: type) -> None:
    for rows in (1, 2, 3, 4, 15, 16, 17, 30, 31, 32, 33, 47, 48, 49, 130):
        for columns in (1, 15, 16, 17, 40):
            for label, values in contents(rows, columns).items():
                x = values.astype(dtype)
                found, twin = running_median(x, kernel), running_median_numpy(x, kernel)
                assert found.dtype == dtype
                assert found.tobytes() == twin.tobytes(), (label, rows, columns)
                if kernel // 2 < REFLECTIONS_OF_SCIPY * rows:
                    expected = median_filter(x, size=(kernel, 1), mode="reflect")
                    assert found.tobytes() == expected.tobytes(), (label, rows, columns)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_order_of_zeros_and_ones(dtype: type) -> None:
    """A network of comparisons that sorts zeros and ones right sorts everything: all counts at many places."""
    rng = np.random.default_rng(1)
    thresholds = np.repeat(np.linspace(0.3, 0.7, 41), 50)
    x = (rng.random((400, len(thresholds))) < thresholds).astype(dtype)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((15, 15), (0, 0)), mode="symmetric"), 31, axis=0)
    assert np.array_equal(running_median(x, 31), (windows.sum(axis=-1) >= 16).astype(dtype))


def test_rows_of_any_layout() -> None:
    x = np.random.default_rng(2).random((70, 50)).astype(np.float32)
    expected = median_filter(x, size=(1, 31), mode="reflect")
    assert np.array_equal(running_median(x.T, 31).T, expected)
    assert np.array_equal(running_median(x[:, ::2].T, 31).T, median_filter(x[:, ::2], size=(1, 31), mode="reflect"))
