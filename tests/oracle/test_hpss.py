"""Are HPSS-MFCCs right? Against librosa in float64, on every kind of signal, on every backend."""

from collections.abc import Callable

import librosa
import numpy as np
import pytest

from ascfeat.dsp.numba_backend import hpss
from ascfeat.dsp.numba_backend.fourier import tables
from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascfeat.representations.hpss_mfcc import HpssMfcc
from ascschemas.dataset import AudioFormat
from ascschemas.problems import RecipeError

BACKENDS = {"numba": 1e-6, "torch": 2e-7, "nnaudio": 2e-6, "librosa": 2e-7}
"""Of the largest coefficient, which is about a thousand: 2e-4 and 2e-3 dB; float32 itself rounds it by 6e-8."""
RATE = 48_000
OTHERS = {
    "other FFTs": {"n_fft": 1024, "hop_length": 400, "separation_n_fft": 512, "separation_hop_length": 128},
    "no powers of two": {"n_fft": 1200, "hop_length": 600, "separation_n_fft": 1000, "separation_hop_length": 250},
    "half an FFT apart": {"separation_hop_length": 1024},
    "short medians": {"kernel_size": 7, "mask_power": 1.0},
    "long medians": {"kernel_size": 45, "mask_power": 3.5},
    "no medians": {"kernel_size": 1},
    "other MFCCs": {"window": "hamming", "win_length": 1500, "frames": "whole_hops", "top_db": None, "n_mfcc": 20},
}


def mixture(samples: int, seed: int = 0) -> np.ndarray:
    """Noise, tones and clicks on two channels that differ."""
    rng, t = np.random.default_rng(seed), np.arange(samples) / RATE
    y = 0.02 * rng.standard_normal((2, samples))
    for i, frequency in enumerate((220, 331, 990, 5000)):
        y += 0.1 * np.sin(2 * np.pi * frequency * t + np.array([[i], [2 * i]])) * np.array([[1.0], [0.6]])
    y[:, RATE // 10 :: RATE // 5] += 0.8
    return y.astype(np.float32)


def stereo(samples: int, signals: Callable[[int, int], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Pairs of signals, left and right."""
    s = signals(samples, RATE)
    pairs = (("silence", "constant"), ("square at full scale", "impulse"), ("tone", "one bit of noise"))
    named = {f"{a} | {b}": np.stack([s[a], s[b]]).astype(np.float32) for a, b in pairs}
    return {"mixture": mixture(samples), **named}


def reference(x: np.ndarray, p: HpssMfcc) -> np.ndarray:
    """What huang2019 Sec. 2.1 says, spelled out in librosa, ``(channel, component, coefficient, frame)``."""
    channels = x.astype(np.float64)
    if len(channels) == 2:
        channels = np.stack([*channels, (channels[0] + channels[1]) / 2])
    return np.stack([[cepstrum(y, p) for y in separated(channel, p)] for channel in channels])


def spectrum(y: np.ndarray, n_fft: int, **options) -> np.ndarray:
    """Padded by NumPy: ``librosa.stft`` mirrors one sample too few at the end of a clip as short as its FFT."""
    return librosa.stft(np.pad(y, n_fft // 2, mode="reflect"), n_fft=n_fft, center=False, **options)


def separated(y: np.ndarray, p: HpssMfcc) -> list[np.ndarray]:
    hop = p.separation_hop_length
    both = librosa.decompose.hpss(
        spectrum(y, p.separation_n_fft, hop_length=hop), kernel_size=p.kernel_size, power=p.mask_power
    )
    return [librosa.istft(x, hop_length=hop, length=len(y)) for x in both]


def cepstrum(y: np.ndarray, p: HpssMfcc) -> np.ndarray:
    power = np.abs(spectrum(y, p.n_fft, hop_length=p.hop_length, win_length=p.win_length, window=p.window)) ** 2
    if p.frames == "whole_hops":
        power = power[:, : len(y) // p.hop_length]
    bank = librosa.filters.mel(sr=p.filter_rate, n_fft=p.n_fft, n_mels=p.n_mels, dtype=np.float64)
    return librosa.feature.mfcc(S=librosa.power_to_db(bank @ power, amin=p.amin, top_db=p.top_db), n_mfcc=p.n_mfcc)


def assert_near(found: np.ndarray, expected: np.ndarray, tolerance: float, label: object) -> None:
    """Against the largest coefficient of each channel's component."""
    assert found.shape == expected.shape
    largest = np.abs(expected).max(axis=(-2, -1))
    assert (np.abs(found - expected).max(axis=(-2, -1)) <= tolerance * largest).all(), label


def huang(**others) -> HpssMfcc:
    """The paper's parameters, some of them changed."""
    return HpssMfcc.model_validate({**load_recipe("hpss_mfcc_patches").representation.values(), **others})


@pytest.fixture(scope="module")
def expectations(signals):
    """Signals and references of three lengths, the shortest legal one included; computed once for all backends."""
    lengths = (RATE // 2, 30_011, 2048)
    return [(n, label, x, reference(x, huang())) for n in lengths for label, x in stereo(n, signals).items()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_librosa_in_float64(backend: str, expectations) -> None:
    for samples, label, x, expected in expectations:
        audio = AudioFormat(sample_rate=RATE, channels=2, frames=samples)
        transform = huang().build(audio, device="cpu", backend=backend)
        assert huang().layout(audio).shape == expected.shape
        assert_near(transform(x[None])[0], expected, BACKENDS[backend], (label, samples))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("others", OTHERS.values(), ids=OTHERS)
def test_other_parameters_equal_librosa(others: dict, backend: str) -> None:
    kind, x = huang(n_mels=32, **{"n_mfcc": 32, **others}), mixture(20_000)
    for channels in (x, x[:1]):
        audio = AudioFormat(sample_rate=RATE, channels=len(channels), frames=20_000)
        found = kind.build(audio, device="cpu", backend=backend)(channels[None])[0]
        assert found.shape == kind.layout(audio).shape
        assert_near(found, reference(channels, kind), BACKENDS[backend], len(channels))


def test_reference_is_librosas_own() -> None:
    """The steps above are ``librosa.effects.hpss`` and ``librosa.feature.mfcc``."""
    p, y = huang(), mixture(RATE // 2)[0].astype(np.float64)
    for component, own in zip(separated(y, p), librosa.effects.hpss(y, pad_mode="reflect"), strict=True):
        assert np.abs(component - own).max() < 1e-12
        mfcc = librosa.feature.mfcc(
            y=own, sr=44_100, n_mfcc=128, n_fft=2048, hop_length=1024, n_mels=128, pad_mode="reflect"
        )
        assert np.abs(cepstrum(own, p) - mfcc).max() < 1e-4  # librosa's own filters are rounded to float32


def test_compiled_separation_equals_its_numpy_twin() -> None:
    x = mixture(20_000)
    audio = AudioFormat(sample_rate=RATE, channels=2, frames=20_000)
    bins = huang().separation(audio).bins
    for gain in (None, tuple(np.random.default_rng(0).uniform(0, 9, bins))):
        spec = huang().hpss_mfcc_spec(audio, gain)
        made = tables(spec.separation)
        twins = hpss.component_sums_numpy(hpss.stft(x, spec.separation, made), spec, made)
        for found, twin in zip(hpss.component_sums(x, spec, made), twins, strict=True):
            assert len(found) == len(twin)
            if len(twin):  # the masks' medians are taken in float32
                assert np.abs(found - twin).max() < 1e-6 * np.abs(twin).max()


def test_papers_shape_and_patches() -> None:
    recipe = load_recipe("hpss_mfcc_patches")
    layout = representation(recipe.representation).layout(AudioFormat(sample_rate=RATE, channels=2, frames=480_000))
    assert layout.shape == (3, 2, 128, 469)
    assert layout.axes[1].values == ("harmonic", "percussive")
    assert recipe.patches is not None
    assert 3 * 2 * len(recipe.patches.starts(469)) == 66


@pytest.mark.parametrize(("others", "message"), [
    ({"kernel_size": 30}, "kernel_size 30 is even"),
    ({"separation_hop_length": 1025}, "separation_hop_length 1025 is more than half of separation_n_fft 2048"),
    ({"kernel_size": 0}, "greater than or equal to 1"),
    ({"mask_power": 0.0}, "greater than 0"),
])  # fmt: skip
def test_parameters_that_cannot_be_meant(others: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        huang(**others)


@pytest.mark.parametrize(("others", "samples", "field"), [
    ({"separation_n_fft": 4096}, 4095, "separation_n_fft"),
    ({"n_fft": 4096}, 2048, "n_fft"),
    ({"kernel_size": 81}, 2048, "kernel_size"),
])  # fmt: skip
def test_waveforms_too_short(others: dict, samples: int, field: str) -> None:
    audio = AudioFormat(sample_rate=RATE, channels=2, frames=samples)
    with pytest.raises(RecipeError) as caught:
        huang(**others).layout(audio)
    assert field in [problem.field for problem in caught.value.differences]
