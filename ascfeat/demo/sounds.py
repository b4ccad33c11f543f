"""Scenes out of noise, hum and events, and the microphones that re-record them; numpy only, from a passed generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

Wave = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Event:
    """What happens in a scene now and then; its texture is what a network without a sense of pitch can learn."""

    often: float
    """Events per second."""
    hertz: float
    """Pitch, about."""
    seconds: float
    """Length, about."""
    glide: float = 0.0
    """Octaves by which the pitch moves."""
    partials: int = 1
    """Harmonics, the fundamental included."""
    noise: float = 0.0
    """Share of noise, 0 to 1."""


CLACK = Event(4.0, 2000, 0.04, noise=1.0)
CHIRP = Event(4.0, 2600, 0.12, glide=1.4)
VOICE = Event(4.0, 170, 0.22, glide=-0.25, partials=24, noise=0.05)
HORN = Event(0.8, 420, 0.9, partials=4)


@dataclass(frozen=True)
class Scene:
    """The sound of one scene class: a bed of noise, its pulse, a hum, and what happens in it."""

    slope: float
    """Tilt of the bed's spectrum above 100 Hz, in dB per octave."""
    bumps: tuple[tuple[float, float], ...]
    """Resonances of the bed, an octave wide: (centre in Hz, gain in dB)."""
    pulse: tuple[float, float]
    """Random swelling of the bed: (changes per second, depth in dB)."""
    hum: tuple[float, float]
    """Harmonic tone: (fundamental in Hz, level over the bed in dB)."""
    event: Event
    """What happens in it."""


SCENES: Final[dict[str, Scene]] = {
    "metro": Scene(-5.0, ((160, 6), (900, 3)), (1.5, 5), (95, -8), CLACK),
    "park": Scene(-4.0, ((350, 3), (3800, 7)), (0.7, 6), (60, -30), CHIRP),
    "shopping_mall": Scene(-4.0, ((500, 6), (1700, 5)), (4.0, 6), (120, -20), VOICE),
    "street_traffic": Scene(-5.0, ((120, 5), (1100, 4)), (0.5, 8), (70, -14), HORN),
    "airport": Scene(-4.5, ((450, 5), (1300, 4)), (3.0, 5), (110, -22), replace(VOICE, often=1.5, seconds=0.5)),
    "bus": Scene(-5.5, ((90, 7), (450, 3)), (1.0, 4), (45, -6), replace(CLACK, often=1.0, seconds=0.15)),
    "metro_station": Scene(-4.5, ((250, 5), (1500, 4)), (1.5, 6), (100, -16), replace(HORN, hertz=900, seconds=0.3)),
    "public_square": Scene(-4.2, ((400, 4), (2600, 5)), (2.5, 6), (80, -26), replace(CHIRP, often=1.5, glide=-0.8)),
    "street_pedestrian": Scene(-4.4, ((300, 4), (1900, 5)), (2.0, 6), (85, -24), replace(CLACK, often=2.0, noise=0.7)),
    "tram": Scene(-5.0, ((200, 5), (1200, 5)), (1.2, 5), (140, -10), replace(HORN, hertz=2900, partials=1, glide=0.4)),
}
"""Every scene that can be made; a set of n scenes takes the first n."""

EVENT_LEVEL: Final = (4.0, 3.0)
"""Level of an event over the bed, in dB: mean and deviation."""
FROM_AFAR: Final = (-7.0, 4.0)
"""Level of the other scene in a segment, in dB below the scene itself: mean and deviation, at most 0."""


def place(rng: np.random.Generator) -> Wave:
    """Equalisation of one location in dB at the knots of ``smooth_gain``: no two places sound alike."""
    return smooth_gain(rng, step=1.2, limit=4.0)


def microphone(rng: np.random.Generator) -> Wave:
    """Frequency response of one consumer device in dB at the knots of ``smooth_gain``."""
    return smooth_gain(rng, step=4.5, limit=13.0)


def smooth_gain(rng: np.random.Generator, *, step: float, limit: float) -> Wave:
    """A random walk over twelve knots from 50 Hz to 20 kHz, in dB, limited."""
    return np.clip(np.cumsum(rng.normal(0, step, 12)), -limit, limit)


def segment(rng: np.random.Generator, scene: str, location: Wave, *, samples: int, rate: int) -> Wave:
    """One moment of a scene at one place: shape ``(samples,)``, root mean square about 0.05.

    Another scene is heard in it from afar, so that classes overlap.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of everything that differs between moments.
    scene : str
        Name of the scene.
    location : array
        What ``place`` returned for the location.
    samples, rate : int
        Length, and samples per second.
    """
    other = str(rng.choice([name for name in SCENES if name != scene]))
    afar = _ratio(min(rng.normal(*FROM_AFAR), 0.0))
    wave = _scene(rng, SCENES[scene], samples, rate) + afar * _scene(rng, SCENES[other], samples, rate)
    wave = filtered(wave, location, rate)
    return _levelled(wave, -26 + np.clip(rng.normal(0, 3), -6, 6))


def recorded(rng: np.random.Generator, wave: Wave, response: Wave, *, rate: int, limited: bool) -> Wave:
    """The same moment through another device: its response, its noise, and perhaps its limiter."""
    heard = filtered(wave, response, rate) + rng.normal(0, 3e-4, len(wave))
    return np.tanh(2 * heard) / 2 if limited else heard


def filtered(wave: Wave, gain: Wave, rate: int) -> Wave:
    """A wave through a zero-phase filter given in dB at knots from 50 Hz to 20 kHz, evenly spaced in octaves."""
    hertz = np.fft.rfftfreq(len(wave), 1 / rate)
    curve = np.interp(np.log(np.maximum(hertz, 1)), np.log(np.geomspace(50, 20_000, len(gain))), gain)
    return np.fft.irfft(np.fft.rfft(wave) * _ratio(curve), len(wave))


def _scene(rng: np.random.Generator, scene: Scene, samples: int, rate: int) -> Wave:
    slope = scene.slope + rng.normal(0, 0.6)
    bumps = tuple((hz * 2 ** rng.normal(0, 0.2), gain + rng.normal(0, 2)) for hz, gain in scene.bumps)
    wave = _noise(rng, samples, rate, slope, bumps) * _pulse(rng, samples, rate, *scene.pulse)
    wave += _hum(rng, samples, rate, scene.hum[0]) * _ratio(scene.hum[1] + rng.normal(0, 6))
    wave += _events(rng, samples, rate, scene.event)
    return _levelled(wave, 0.0)


def _levelled(wave: Wave, decibels: float) -> Wave:
    """The wave at a root mean square given in dB of full scale."""
    scaled: Wave = wave / np.sqrt(np.mean(wave**2)) * _ratio(decibels)
    return scaled


def _noise(
    rng: np.random.Generator, samples: int, rate: int, slope: float, bumps: tuple[tuple[float, float], ...]
) -> Wave:
    hertz = np.maximum(np.fft.rfftfreq(samples, 1 / rate), 1)
    curve = slope * np.log2(np.maximum(hertz, 100) / 100)
    for centre, gain in bumps:
        curve += gain * np.exp(-0.5 * (np.log2(hertz / centre) / 0.5) ** 2)
    curve -= 20 * np.maximum(0, np.log2(30 / hertz))  # nothing below hearing
    return _levelled(np.fft.irfft(np.fft.rfft(rng.normal(size=samples)) * _ratio(curve), samples), 0.0)


def _pulse(rng: np.random.Generator, samples: int, rate: int, speed: float, depth: float) -> Wave:
    knots = max(4, round(speed * samples / rate) + 2)
    level = np.interp(np.linspace(0, knots - 1, samples), np.arange(knots), rng.normal(0, depth / 2, knots))
    return _ratio(level)


def _hum(rng: np.random.Generator, samples: int, rate: int, hertz: float) -> Wave:
    pitch = hertz * 2 ** (rng.normal(0, 0.15) + 0.02 * (_pulse(rng, samples, rate, 1.0, 6.0) - 1))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    return sum((np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 7)), np.zeros(samples))


def _events(rng: np.random.Generator, samples: int, rate: int, event: Event) -> Wave:
    wave = np.zeros(samples)
    for _ in range(rng.poisson(event.often * samples / rate)):
        length = min(samples, max(16, round(rate * event.seconds * 2 ** rng.normal(0, 0.5))))
        at = rng.integers(0, samples - length + 1)
        wave[at : at + length] += _event(rng, length, rate, event) * _ratio(rng.normal(*EVENT_LEVEL))
    return wave


def _event(rng: np.random.Generator, length: int, rate: int, event: Event) -> Wave:
    """Harmonics of a gliding pitch, below half the sample rate, and noise; a fast attack and a slow decay."""
    time = np.arange(length) / length
    pitch = event.hertz * 2 ** (rng.normal(0, 0.4) + event.glide * rng.uniform(0.6, 1.4) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    heard = [k for k in range(1, event.partials + 1) if k * pitch.max() < 0.45 * rate]
    tone = sum((np.sin(k * phase) / np.sqrt(k) for k in heard), np.zeros(length))
    wave = (1 - event.noise) * tone + event.noise * rng.normal(size=length)
    return np.asarray(wave * np.minimum(1, 20 * time) * np.exp(-3 * time))


def _ratio(decibels: Wave | float) -> Wave:
    return np.asarray(10 ** (np.asarray(decibels, dtype=np.float64) / 20))
