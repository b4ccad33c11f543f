"""Corrected features against librosa's transform times the coefficients, written down in NumPy in float64."""

from __future__ import annotations

import librosa
import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft

from ascfeat.representations import representation
from ascschemas.base import Parameters
from ascschemas.dataset import AudioFormat

RATE, SAMPLES = 16_000, 12_000
BACKENDS = ("numba", "torch", "nnaudio", "librosa")
STFT = {"n_fft": 512, "hop_length": 128}
MEL = {**STFT, "n_mels": 24, "fmin": 60.0}
KINDS = {
    "log_mel": {**MEL, "spectrum": "magnitude", "floor": 1e-7},
    "log_mel power": {**MEL, "spectrum": "power", "floor": 1e-7},
    "mfcc": {**MEL, "n_mfcc": 12},
    "mean_spectrum": STFT,
    "mean_spectrum geometric": {**STFT, "average": "geometric"},
    "hpss_mfcc": {**MEL, "n_mfcc": 12, "separation_n_fft": 512, "separation_hop_length": 128},
}

Float64 = npt.NDArray[np.float64]


def sounds() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(5)
    steps = np.arange(SAMPLES) / RATE
    tones = np.sin(2 * np.pi * 440 * steps) + np.sin(2 * np.pi * 3000 * steps) * (steps % 0.1 < 0.01)
    return (0.2 * tones + rng.normal(0, 0.02, (2, SAMPLES))).astype(np.float32)


def coefficients() -> Float64:
    """A rough response of 40 dB, with a bin that is taken away altogether."""
    gain = 10 ** (np.cumsum(np.random.default_rng(1).normal(0, 1.5, 257)) / 20)
    gain[100] = 0.0
    return gain


def stft(x: npt.NDArray[np.generic]) -> npt.NDArray[np.complex128]:
    return librosa.stft(x.astype(np.float64), n_fft=512, hop_length=128, pad_mode="reflect")


def mel() -> Float64:
    return np.asarray(librosa.filters.mel(sr=RATE, n_fft=512, n_mels=24, fmin=60.0, dtype=np.float64))


def cepstrum(power: Float64) -> Float64:
    level = np.stack([librosa.power_to_db(mel() @ p, top_db=80.0) for p in power])
    return np.asarray(scipy.fft.dct(level, axis=-2, norm="ortho"))[..., :12, :]


def expected(name: str, x: npt.NDArray[np.float32], gain: Float64) -> Float64:
    spectrum = stft(x) * gain[:, None]
    magnitude = np.abs(spectrum)
    if name.startswith("log_mel"):
        return np.log(mel() @ magnitude ** (1 + name.endswith("power")) + 1e-7)
    if name == "mfcc":
        return cepstrum(magnitude**2)
    if name.startswith("mean_spectrum"):
        logs = np.log(np.maximum(magnitude, 1e-10))
        return logs.mean(axis=-1) if name.endswith("geometric") else magnitude.mean(axis=-1)
    parts = librosa.decompose.hpss(spectrum)
    audio = [librosa.istft(p, hop_length=128, length=SAMPLES) for p in parts]
    return np.stack([cepstrum(np.abs(stft(a)) ** 2) for a in audio], axis=1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", KINDS)
def test_corrected_features_are_librosas_spectrum_times_the_coefficients(name: str, backend: str) -> None:
    kind = representation(Parameters(kind=name.split()[0], **KINDS[name]))
    audio = AudioFormat(sample_rate=RATE, channels=2, frames=SAMPLES)
    x, gain = sounds(), coefficients()
    transform = kind.build(audio, device="cpu", backend=backend, gain=tuple(gain.tolist()))
    found, wanted = transform(x[None])[0], expected(name, x, gain)
    tolerance = 1e-3 if name == "hpss_mfcc" else 1e-5 if name != "mfcc" else 1e-6
    assert np.abs(found - wanted).max() < tolerance * np.abs(wanted).max()
    plain = kind.build(audio, device="cpu", backend=backend)(x[None])[0]
    assert np.abs(plain - wanted).max() > 0.01 * np.abs(wanted).max()  # the coefficients do something
    ones = kind.build(audio, device="cpu", backend=backend, gain=(1.0,) * 257)(x[None])[0]
    np.testing.assert_allclose(ones, plain, atol=3e-6 * np.abs(plain).max())
