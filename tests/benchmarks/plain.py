"""The peer of both benchmarks: what a lab's own script does for one clip, in librosa's float32, on one thread."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported: one thread on both sides

import librosa
import numpy as np
import soundfile

from ascfeat.recipes import load_recipe
from ascschemas.recipe import FeatureRecipe


def steps(recipe: FeatureRecipe, rate: int) -> Callable[[np.ndarray], object]:
    """A recipe's features of one channel, by librosa's functions."""
    kind, p = recipe.representation.kind, recipe.representation.values()
    short = {k: p[k] for k in ("n_fft", "hop_length", "window") if k in p} | {"pad_mode": "reflect"}
    if kind == "log_mel":
        mel = {"sr": rate, "n_mels": p["n_mels"], "fmin": p["fmin"], "fmax": p["fmax"],
               "norm": None if p["mel_norm"] == "none" else "slaney",
               "power": 1 if p["spectrum"] == "magnitude" else 2}  # fmt: skip
        return lambda y: np.log(librosa.feature.melspectrogram(y=y, **mel, **short) + np.float32(p["floor"]))
    if kind == "mean_spectrum":
        return lambda y: np.abs(librosa.stft(y, **short)).mean(axis=-1)
    if kind == "cqt":
        cqt = {k: p[k] for k in ("hop_length", "n_bins", "fmin", "filter_scale")} | {"sr": p["filter_rate"]}
        return lambda y: librosa.amplitude_to_db(np.abs(librosa.cqt(y, pad_mode="reflect", **cqt)))
    mfcc = {"sr": p["filter_rate"], "n_mfcc": p["n_mfcc"], "n_mels": p["n_mels"], **short}
    if kind == "mfcc":
        return lambda y: librosa.feature.mfcc(y=y, **mfcc)
    return lambda y: [librosa.feature.mfcc(y=c, **mfcc) for c in librosa.effects.hpss(y, pad_mode="reflect")]


def recorded(recipe: FeatureRecipe) -> tuple[int, int]:
    """Sample rate and channels of the recordings that a recipe was made for."""
    rate, channels = recipe.decode.sample_rate, recipe.decode.channels
    return 48_000 if rate == "native" else rate, 2 if channels == "native" else 1


def heard(waveform: np.ndarray) -> list[np.ndarray]:
    """Left, right and mid of two channels; the channel, where there is one."""
    return [*waveform, waveform.mean(axis=0)] if len(waveform) == 2 else [waveform[0]]


def script(name: str, file: Path, out: Path) -> None:
    """Read a file, compute the features of a recipe, write them as ``.npy``."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    np.save(out / f"{file.stem}.npy", features(name, rate, samples.T))


def features(name: str, rate: int, waveform: np.ndarray) -> np.ndarray:
    """A recipe's features of one clip, ``(channel, samples)``."""
    return np.stack([_steps(name, rate)(y) for y in heard(waveform)])


def features_of_noise(name: str, seconds: float, seed: int) -> None:
    """The features of one of four clips that this process keeps: nothing is sent between processes."""
    recipe = load_recipe_once(name)
    rate, channels = recorded(recipe)
    features(name, rate, noise(rate, channels, seconds, seed % 4))


@cache
def noise(rate: int, channels: int, seconds: float, seed: int) -> np.ndarray:
    """A clip of noise, ``(channel, samples)``."""
    samples = np.random.default_rng(seed).standard_normal((channels, round(seconds * rate)))
    return (0.1 * samples).astype(np.float32)


load_recipe_once = cache(load_recipe)


@cache
def _steps(name: str, rate: int) -> Callable[[np.ndarray], object]:
    """Recipes are read once, not for every clip."""
    return steps(load_recipe_once(name), rate)
