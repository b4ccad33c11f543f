"""Signals that stress a transform, for every oracle."""

import numpy as np
import pytest


def make_signals(samples: int, rate: int) -> dict[str, np.ndarray]:
    """Signals that stress a transform: noise, tones 100 dB over their surroundings, steps, nothing at all."""
    rng, t = np.random.default_rng(5), np.arange(samples) / rate
    fade = np.exp(-np.linspace(0, 14, samples))
    return {
        "noise": 0.1 * rng.standard_normal(samples),
        "decaying noise": fade * rng.standard_normal(samples),
        "tone": np.sin(2 * np.pi * 1000 * t),
        "square at full scale": np.sign(np.sin(2 * np.pi * 440 * t)),
        "sweep": 0.5 * np.sin(2 * np.pi * (50 * t + 0.5 * (rate / 2 - 50) / t[-1] * t**2)),
        "impulse": np.eye(1, samples, samples // 3)[0],
        "constant": np.full(samples, 0.5),
        "silence": np.zeros(samples),
        "one bit of noise": rng.integers(-1, 2, samples) / 2**15,
    }


@pytest.fixture(scope="session")
def signals():
    """``signals(samples, rate)``: name -> waveform in float64."""
    return make_signals
