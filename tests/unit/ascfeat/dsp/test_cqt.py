"""Do the compiled kernels of the constant-Q transform equal their twins in NumPy?"""

import numpy as np
import pytest

from ascfeat.dsp.numba_backend.cqt import (
    filtered,
    filtered_in_numpy,
    fold,
    fold_in_numpy,
    separate,
    separate_in_numpy,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("hop", [6, 7])
def test_separate(rng: np.random.Generator, hop: int, parts: int) -> None:
    periods = 5
    z = rng.standard_normal(hop * periods) + 1j * rng.standard_normal(hop * periods)
    by_segment, by_place = np.exp(1j * rng.standard_normal(hop)), np.exp(1j * rng.standard_normal(periods))
    for low, high in ((0, hop), (2, 5)):
        found, expected = np.zeros((2, parts, high - low, periods))
        separate(z, by_segment, by_place, low, found)
        separate_in_numpy(z, by_segment, by_place, low, expected)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_separated_spectra_are_those_of_the_signals(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((2, 24))
    planes = np.empty((4, 6, 4))
    separate_in_numpy(np.fft.fft(x + 1j * y), np.ones(6, complex), np.ones(4, complex), 0, planes)
    for signal, real, imaginary in ((x, *planes[:2]), (y, *planes[2:])):
        spectrum = np.roll(np.fft.fft(signal), 12)  # segment 3 begins at frequency 0
        np.testing.assert_allclose((real + 1j * imaginary).ravel(), spectrum, atol=1e-12)


def test_fold(rng: np.random.Generator) -> None:
    planes, counts = rng.standard_normal((4, 11, 6)), np.array([1, 4, 7, 11])
    first, offsets = np.array([10, 3, 2, 0]), np.cumsum([0, *counts])
    kernels = rng.standard_normal((offsets[-1], 6))
    found, expected = rng.standard_normal((1, 4, 4, 6)).repeat(2, axis=0)
    fold(planes, kernels, first, offsets, found)
    fold_in_numpy(planes, kernels, first, offsets, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("frequencies", [5, 40, 41, 99, 100])
def test_filtered(rng: np.random.Generator, frequencies: int) -> None:
    periods = 5
    spectra = rng.standard_normal((frequencies, 6))
    kernels = rng.standard_normal((periods, 4, -(-frequencies // periods)))
    found, expected = rng.standard_normal((1, periods, 4, 6)).repeat(2, axis=0)
    filtered(spectra, kernels, found)
    filtered_in_numpy(spectra, kernels, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
