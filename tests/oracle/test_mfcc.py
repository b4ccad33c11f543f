"""Are MFCCs and mean spectra right? Against librosa in float64, on every kind of signal, on every backend."""

import librosa
import numpy as np
import pytest

from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascschemas.dataset import AudioFormat

BACKENDS = ["numba", "torch", "nnaudio", "librosa"]
RATE = 48_000


def two_channels(signals, samples: int) -> dict[str, np.ndarray]:
    """Each signal on the left, and another on the right; last, channels of opposite sign, whose mean is silent."""
    single = signals(samples, RATE)
    names = list(single)
    pairs = {f"{a} | {b}": np.stack([single[a], single[b]]) for a, b in zip(names, names[1:] + names[:1], strict=True)}
    noise = single["noise"]
    return {**pairs, "opposite": np.stack([noise, -noise]), "nearly opposite": np.stack([noise, -0.9999 * noise])}


def reference(x: np.ndarray, p: dict) -> np.ndarray:
    """What huang2019 Sec. 2.1 says, spelled out in librosa, for left, right and their mean."""
    stereo = x.astype(np.float64)
    # padded by NumPy: librosa itself mirrors one sample too few at the end of a clip as short as the window
    edges = [np.pad(y, p["n_fft"] // 2, mode="reflect") for y in (stereo[0], stereo[1], (stereo[0] + stereo[1]) / 2)]
    how = {"n_fft": p["n_fft"], "hop_length": p["hop_length"], "n_mels": 128, "center": False}
    return np.stack([librosa.feature.mfcc(y=y, sr=44_100, n_mfcc=128, **how) for y in edges])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["mfcc_patches", "mfcc_patches_fine"])
def test_mfcc_equals_librosa_in_float64(name: str, backend: str, signals) -> None:
    kind = representation(load_recipe(name).representation)
    p = load_recipe(name).representation.values()
    for samples in (RATE // 2, 30_011, p["n_fft"]):
        audio = AudioFormat(sample_rate=RATE, channels=2, frames=samples)
        transform = kind.build(audio, device="cpu", backend=backend)
        for label, signal in two_channels(signals, samples).items():
            x = signal.astype(np.float32)
            found, expected = transform(x[None])[0], reference(x, p)
            assert found.shape == expected.shape == kind.layout(audio).shape
            # 1e-3 dB in a band is at most 1e-3 in a coefficient of an orthonormal transform, and 2e-3 in float32
            assert np.abs(found - expected).max() < 1e-3, (label, samples)


@pytest.mark.parametrize("backend", BACKENDS)
def test_mean_spectrum_equals_librosa_in_float64(backend: str, signals) -> None:
    kind = representation(load_recipe("mean_spectrum").representation)
    for samples in (44_100, 30_011, 2048):
        audio = AudioFormat(sample_rate=44_100, channels=1, frames=samples)
        transform = kind.build(audio, device="cpu", backend=backend)
        for label, signal in signals(samples, 44_100).items():
            x = signal.astype(np.float32)
            found = transform(x[None, None])[0, 0]
            spectrum = librosa.stft(x.astype(np.float64), n_fft=2048, hop_length=512, pad_mode="reflect")
            expected = np.abs(spectrum).mean(axis=-1)
            assert np.abs(found - expected).max() <= 1e-6 * expected.max(), (label, samples)
            heard = expected > 1e-7 * expected.max()  # 140 dB: under that, float64 itself is off by 1e-9 of the peak
            assert (np.abs(found - expected)[heard] < 1e-5 * expected[heard]).all(), (label, samples)


@pytest.mark.parametrize(("name", "shape", "patches"), [
    ("mfcc_patches", (3, 128, 469), 33),
    ("mfcc_patches_fine", (3, 128, 938), 39),
])  # fmt: skip
def test_papers_shapes(name: str, shape: tuple[int, ...], patches: int) -> None:
    recipe = load_recipe(name)
    audio = AudioFormat(sample_rate=48_000, channels=2, frames=480_000)
    assert representation(recipe.representation).layout(audio).shape == shape
    assert recipe.patches is not None
    assert shape[0] * len(recipe.patches.starts(shape[-1])) == patches


def test_one_channel_stays_one() -> None:
    """A mono recording has no left, right and mid: its one channel is computed once."""
    kind = representation(load_recipe("mfcc_patches").representation)
    mono = AudioFormat(sample_rate=48_000, channels=1, frames=48_000)
    assert kind.layout(mono).shape == (1, 128, 47)
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 1, 48_000)).astype(np.float32)
    stereo = mono.model_copy(update={"channels": 2})
    same = kind.build(stereo, device="cpu", backend="numba")(np.repeat(noise, 2, axis=1))[0]
    one = kind.build(mono, device="cpu", backend="numba")(noise)[0, 0]
    assert all(np.abs(channel - one).max() < 1e-3 for channel in same)


def test_filters_meant_for_another_rate() -> None:
    """48 kHz audio through filters for 44.1 kHz: what librosa does when it is told the wrong rate."""
    recipe = load_recipe("mfcc_patches").representation
    audio = AudioFormat(sample_rate=48_000, channels=1, frames=48_000)
    nominal = representation(recipe)
    honest = representation(recipe.model_copy(update={"filter_rate": None}))
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 1, 48_000)).astype(np.float32)
    found = honest.build(audio, device="cpu", backend="numba")(noise)[0, 0]
    expected = librosa.feature.mfcc(
        y=noise[0, 0].astype(float), sr=48_000, n_mfcc=128, n_fft=2048, hop_length=1024, pad_mode="reflect"
    )
    assert np.abs(found - expected).max() < 1e-3
    assert np.abs(nominal.build(audio, device="cpu", backend="numba")(noise)[0, 0] - expected).max() > 1
