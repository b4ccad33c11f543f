"""Do the compiled means and variances equal their NumPy twins, whatever the lengths and the values?"""

import numpy as np
import pytest

from ascfeat import moments

LENGTHS = [1, 7, 8, 9, 16, 862, 44_100]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", LENGTHS)
def test_centred_rows_equal_their_twin(length: int, dtype: type) -> None:
    samples = np.random.default_rng(length).normal([[3.0], [-0.01]], 1.0, (2, length)).astype(dtype)
    found = moments.centred(samples)
    assert (found.shape, found.dtype) == (samples.shape, np.float32)
    np.testing.assert_allclose(found, moments.centred_numpy(samples), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(found[1:], moments.centred(samples[1:]))
    np.testing.assert_array_equal(found, moments.centred(np.asfortranarray(samples)))


@pytest.mark.parametrize("shape", [(1, 20), (3, 40), (2, 3, 5), ()])
@pytest.mark.parametrize("length", LENGTHS)
def test_moments_equal_their_twin(length: int, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(length).normal(-15, 3, (*shape, length)).astype(np.float32)
    for found, twin in zip(moments.mean_and_variance(values), moments.mean_and_variance_numpy(values), strict=True):
        assert (found.shape, found.dtype) == (shape, np.float64)
        np.testing.assert_allclose(found, twin, rtol=1e-13, atol=1e-13)


def test_a_variance_survives_a_mean_a_million_times_as_large() -> None:
    values = (1e6 + np.tile([-1.0, 1.0], 500)).astype(np.float32)
    assert [float(x) for x in moments.mean_and_variance(values)] == [1e6, 1.0]


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_seen(odd: float) -> None:
    values = np.zeros((2, 100), np.float32)
    values[0, 50] = odd
    mean, variance = moments.mean_and_variance(values)
    assert not np.isfinite(mean[0])
    assert np.isnan(variance[0])
    assert (mean[1], variance[1]) == (0.0, 0.0)
