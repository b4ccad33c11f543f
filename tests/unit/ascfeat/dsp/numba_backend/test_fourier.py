"""Do the compiled transforms equal their NumPy twins, for every length and every end?"""

import numpy as np
import pytest

from ascfeat.dsp.numba_backend.fourier import LANES, overlap_add_numpy, stft, stft_numpy, tables
from ascfeat.dsp.specs import Stft

LENGTHS = [
    (16, 4),
    (32, 8),
    (64, 48),
    (128, 37),
    (256, 64),
    (512, 512),
    (1024, 512),
    (2048, 1500),
    (4096, 1024),
    (8192, 4096),
]


def spec_of(n_fft: int, hop: int, samples: int, *, mid: bool = False, win_length: int | None = None) -> Stft:
    return Stft(n_fft, win_length or n_fft, hop, "hamming", 1 + samples // hop, mid)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_fft", "hop"), [*LENGTHS, (36, 9), (480, 160), (1500, 500), (1920, 480), (16384, 8192)])
def test_forward_equals_its_twin(n_fft: int, hop: int, dtype) -> None:
    for samples in (n_fft // 2 + 1, 3 * n_fft + 5, (LANES - 1) * hop + n_fft, LANES * hop + n_fft):
        spec = spec_of(n_fft, hop, samples)
        x = np.random.default_rng(samples).standard_normal((1, samples)).astype(dtype)
        found, made = stft(x, spec, tables(spec)), tables(spec)
        expected = stft_numpy(x[0], hop, made.window, spec.frames)
        assert found.shape == (1, spec.bins, spec.frames)
        assert np.abs(found[0] - expected).max() <= 1e-14 * np.abs(expected).max() * np.log2(n_fft), samples


def test_inverse_undoes_forward() -> None:
    """Windowed twice and divided by the sum of squared windows, a signal comes back."""
    samples, spec = 8_000, spec_of(512, 128, 8_000)
    x, made = np.random.default_rng(2).standard_normal((1, samples)), tables(spec)
    again = overlap_add_numpy(stft(x, spec, made)[0], spec.hop_length, made.window)
    weight = np.zeros_like(again)
    for t in range(spec.frames):
        weight[t * 128 : t * 128 + 512] += made.window**2
    np.testing.assert_allclose(again[256 : 256 + samples] / weight[256 : 256 + samples], x[0], atol=1e-13)


def test_mid_is_the_transform_of_the_mean() -> None:
    spec = spec_of(512, 128, 6_000, mid=True, win_length=400)
    x = np.random.default_rng(3).standard_normal((2, 6_000))
    alone = spec_of(512, 128, 6_000, win_length=400)
    mid = stft(x.mean(axis=0, keepdims=True), alone, tables(alone))[0]
    np.testing.assert_allclose(stft(x, spec, tables(spec))[2], mid, atol=1e-12)
