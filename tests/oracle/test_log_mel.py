"""Is the log-mel right? Against librosa in float64, on every kind of signal, for the three papers' recipes."""

import librosa
import numpy as np
import pytest

from ascfeat.dsp.mel import filter_bank, hz_to_mel, mel_to_hz, window
from ascfeat.dsp.specs import MelBank
from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascschemas.dataset import AudioFormat

RECIPES = ("logmel64", "logmel128", "logmel256")
TOLERANCE = 1e-5  # relative, on mel + floor, in every band and frame


def reference(waveform: np.ndarray, rate: int, p: dict, frames: int) -> np.ndarray:
    """The paper's formula, spelled out in librosa, in float64."""
    spectrum = librosa.stft(
        waveform.astype(np.float64), n_fft=p["n_fft"], hop_length=p["hop_length"], window=p["window"],
        center=True, pad_mode="reflect",
    )  # fmt: skip
    bank = librosa.filters.mel(
        sr=rate, n_fft=p["n_fft"], n_mels=p["n_mels"], fmin=p["fmin"], fmax=p["fmax"] or rate / 2,
        norm={"slaney": "slaney", "none": None}[p["mel_norm"]], dtype=np.float64,
    )  # fmt: skip
    energy = np.abs(spectrum[:, :frames]) ** {"magnitude": 1, "power": 2}[p["spectrum"]]
    return np.log(bank @ energy + p["floor"])


@pytest.mark.parametrize("backend", ["numba", "torch", "nnaudio", "librosa"])
@pytest.mark.parametrize("rate", [44_100, 48_000])
@pytest.mark.parametrize("name", RECIPES)
def test_equals_librosa_in_float64(name: str, rate: int, backend: str, signals) -> None:
    recipe = load_recipe(name)
    rate = rate if recipe.decode.sample_rate == "native" else recipe.decode.sample_rate
    kind = representation(recipe.representation)
    p = recipe.representation.values()
    for samples in (rate, 30_011, max(p["n_fft"], p["hop_length"])):
        audio = AudioFormat(sample_rate=rate, channels=1, frames=samples)
        transform, frames = kind.build(audio, device="cpu", backend=backend), kind.layout(audio).shape[-1]
        for label, signal in signals(samples, rate).items():
            waveform = signal.astype(np.float32)
            found = transform(waveform[None, None])[0, 0]
            expected = reference(waveform, rate, p, frames)
            assert found.shape == expected.shape
            # a difference of logarithms is the relative difference of their arguments
            assert np.abs(found - expected).max() < TOLERANCE, (label, samples)


@pytest.mark.parametrize("mel_scale", ["slaney", "htk"])
@pytest.mark.parametrize("mel_norm", ["slaney", "none"])
@pytest.mark.parametrize(("rate", "n_fft", "n_mels", "fmin", "fmax"), [
    (48_000, 4096, 128, 0.0, 24_000.0), (44_100, 2048, 256, 0.0, 22_050.0), (48_000, 2048, 64, 50.0, 24_000.0),
    (16_000, 512, 40, 20.0, 7_600.0),
])  # fmt: skip
def test_filter_bank_equals_librosa(rate, n_fft, n_mels, fmin, fmax, mel_scale, mel_norm) -> None:
    spec = MelBank(rate, n_fft, n_mels, fmin, fmax, mel_scale, mel_norm)
    norm = {"slaney": "slaney", "none": None}[mel_norm]
    expected = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=mel_scale == "htk", norm=norm, dtype=float
    )
    np.testing.assert_allclose(filter_bank(spec), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_scale_equals_librosa_and_inverts(scale: str) -> None:
    hertz = np.linspace(0, 24_000, 4801)
    np.testing.assert_allclose(hz_to_mel(hertz, scale), librosa.hz_to_mel(hertz, htk=scale == "htk"), rtol=1e-12)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hertz, scale), scale), hertz, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("name", ["hann", "hamming"])
@pytest.mark.parametrize(("win_length", "n_fft"), [(2048, 2048), (1024, 2048), (1001, 2048)])
def test_window_equals_librosa(name: str, win_length: int, n_fft: int) -> None:
    expected = librosa.util.pad_center(librosa.filters.get_window(name, win_length, fftbins=True), size=n_fft)
    np.testing.assert_allclose(window(name, win_length, n_fft), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("name", "rate", "shape"), [
    ("logmel128", 48_000, (1, 128, 469)),
    ("logmel128", 44_100, (1, 128, 431)),
    ("logmel64", 48_000, (1, 64, 320)),
    ("logmel256", 44_100, (1, 256, 862)),
])  # fmt: skip
def test_papers_shapes(name: str, rate: int, shape: tuple[int, ...]) -> None:
    """The frame counts of the papers, for ten seconds."""
    kind = representation(load_recipe(name).representation)
    assert kind.layout(AudioFormat(sample_rate=rate, channels=1, frames=10 * rate)).shape == shape


def test_htk_band_without_a_bin_is_refused() -> None:
    """With HTK spacing, 256 bands and n_fft 2048 at 44.1 kHz, band 0 is empty: its log would be a constant."""
    recipe = load_recipe("logmel256")
    parameters = recipe.representation.model_copy(update={"mel_scale": "htk"})
    with pytest.raises(Exception, match="band 0 of 256 empty"):
        representation(parameters).layout(AudioFormat(sample_rate=44_100, channels=1, frames=441_000))
