"""Do the compiled passes equal their NumPy twins, and is nothing compiled before it is needed?"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from ascfeat.dsp.mel import filter_bank
from ascfeat.dsp.numba_backend import features
from ascfeat.dsp.numba_backend.fourier import LANES, stft, tables
from ascfeat.dsp.specs import LogMelSpec, MeanSpectrumSpec, MelBank, Stft

BANKS = [
    MelBank(16_000, 512, 20, 0.0, 8_000.0, "slaney", "slaney"),
    MelBank(16_000, 512, 33, 300.0, 7_000.0, "htk", "none"),
    MelBank(16_000, 512, 1, 0.0, 8_000.0, "slaney", "none"),
]


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("bank", BANKS)
def test_mel_energies_equal_their_twin(bank: MelBank, power: int, channels: int) -> None:
    for frames in (1, LANES, LANES + 1, 61):
        x = np.random.default_rng(frames).standard_normal((min(channels, 2), 8_000)).astype(np.float32)
        spec = Stft(512, 512, 128, "hann", frames, mid=channels == 3)
        made, filters = tables(spec), features.bands(bank, spec, power)
        blocks = features.mel_energies(x, spec, made, filters, power)
        expected = features.mel_energies_numpy(stft(x, spec, made), filters, power)
        assert expected.shape == (channels, bank.n_mels, frames)
        np.testing.assert_allclose(blocks, features.in_blocks(expected), rtol=1e-6)
        np.testing.assert_array_equal(features.in_order(blocks, frames), features.in_order(blocks, 64)[..., :frames])


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("power", [1, 2])
def test_log_energies_equal_their_twin(power: Literal[1, 2], channels: int) -> None:
    for frames in (1, LANES, LANES + 1, 61):
        x = np.random.default_rng(frames).standard_normal((min(channels, 2), 8_000)).astype(np.float32)
        whole = Stft(512, 512, 128, "hann", frames, mid=channels == 3)
        spec, made = LogMelSpec(whole, BANKS[0], power, 1e-8), tables(whole)
        filters = features.bands(BANKS[0], whole, power)
        twin = np.log(features.mel_energies_numpy(stft(x, whole, made), filters, power) + spec.floor)
        found = features.log_energies(x, spec, made, filters)
        assert (found.shape, found.dtype) == ((channels, 20, frames), np.float32)
        np.testing.assert_allclose(found, twin, rtol=0, atol=2e-6)


@pytest.mark.parametrize("floor", [1e-300, 1e-38, 1e-10, 1e-8, 1.0, 5.0])
def test_logarithms_are_those_of_numpy_to_the_last_bit_of_float32(floor: float) -> None:
    rng = np.random.default_rng(0)
    powers = [np.exp(rng.uniform(-90, 88, 20_000)), 4 * rng.random(20_000), [0.0, 1.0, 1e-45, 3.4e38, np.inf, np.nan]]
    x = np.concatenate(powers).astype(np.float32)
    level, scratch = np.empty(len(x)), np.empty(len(x))
    features.logarithms(x, floor, level, scratch)
    expected = np.log(x.astype(np.float64) + floor)
    np.testing.assert_array_equal(level.astype(np.float32), expected.astype(np.float32))
    np.testing.assert_allclose(level, expected, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("bank", BANKS)
def test_bands_are_the_filter_bank_without_its_zeros(bank: MelBank) -> None:
    spec = Stft(512, 512, 128, "hann", 1)
    filters, again = features.bands(bank, spec, 1), np.zeros((bank.n_mels, 257 + features.AT_ONCE))
    for band, first in enumerate(filters.first):
        weights = filters.weights[filters.ends[band] : filters.ends[band + 1]]
        assert len(weights) % features.AT_ONCE == 0
        again[band, first : first + len(weights)] = weights
    np.testing.assert_array_equal(again[:, :257], filter_bank(bank).astype(np.float32))


@pytest.mark.parametrize("logarithmic", [False, True])
def test_mean_magnitude_equals_its_twin(logarithmic: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8_000)).astype(np.float32)
    for gain in (None, tuple(rng.uniform(0, 9, 257))):
        whole = Stft(512, 512, 128, "hann", 63, mid=True, gain=gain)
        found = features.mean_magnitude(x, MeanSpectrumSpec(whole, logarithmic), tables(whole))
        spectra, factors = stft(x, whole, tables(whole)), features.gains(whole)
        twin = features.mean_magnitude_numpy(spectra, factors, logarithmic=logarithmic)
        np.testing.assert_allclose(found, twin, rtol=1e-6, atol=1e-7)


COUNT = """
import sys, numba.core.dispatcher as d
compiled = []
first = d.Dispatcher.compile
def counting(self, signature):
    made = first(self, signature)
    compiled.append(self.py_func.__name__)
    return made
d.Dispatcher.compile = counting
import numpy as np
from ascfeat.dsp import numba_backend
from ascfeat.dsp.numba_backend import features
from ascfeat.dsp.specs import LogMelSpec, MelBank, Stft
assert not compiled, compiled
spec = LogMelSpec(Stft(256, 256, 64, "hann", 10), MelBank(8000, 256, 8, 0.0, 4000.0, "slaney", "slaney"), 1, 1e-7)
numba_backend.log_mel(spec, "cpu")
assert not compiled, compiled
numba_backend.log_mel(spec, "cpu")(np.zeros((1, 1, 1000), np.float32))
print(len(compiled), sum(features._log_energies.stats.cache_hits.values()))
"""


def test_kernels_are_compiled_when_first_called_and_then_come_from_disk() -> None:
    """The first run may find them there, too: other tests need the same."""
    command = [sys.executable, "-c", COUNT]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    (first, _), (_, hits) = (map(int, run.split()) for run in runs)
    assert (first > 0, hits) == (True, 1)


def test_a_kernel_is_compiled_anew_when_another_module_of_the_backend_changes(tmp_path: Path, root: Path) -> None:
    """Its own file did not change, and what it was compiled from did."""
    shutil.copytree(root / "ascfeat", tmp_path / "ascfeat", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from ascfeat.dsp.numba_backend import features as f; print(f._log_energies._cache._cache_file.path('key'))"

    def kept() -> str:
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        return run.stdout

    before = kept()
    assert before == kept()
    with (tmp_path / "ascfeat/dsp/numba_backend/fourier.py").open("a") as file:
        file.write("# changed\n")
    assert before != kept()
