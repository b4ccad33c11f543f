"""Small sets of parallel recordings: noise of several colours, each device a filter of its own, in the TAU layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import fftconvolve, firwin2

RATE, SECONDS = 44_100, 0.5
KNOTS = np.array([0, 100, 400, 1500, 5000, 12_000, RATE / 2]) / (RATE / 2)
RESPONSES = {"b": (-6, -4, 3, 8, 2, -5, -8), "c": (5, 6, 0, -7, -9, -2, 4), "s1": (0, 2, -3, 4, -5, 6, -7)}
"""Decibels at the knots."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recorded:
    """A moment: where it is, on which side, and which devices record it."""

    number: int
    devices: Sequence[str] = ("a", "b", "c")
    side: str = "train"
    location: int | None = None
    scene: str = "park"

    def file(self, device: str) -> str:
        """Path of one device's recording."""
        location = self.number if self.location is None else self.location
        return f"audio/{self.scene}-oslo-{location}-{self.number}-{device}.wav"


def taps(device: str) -> Float64:
    """A device's filter."""
    gain = 10 ** (np.array(RESPONSES.get(device, (0,) * len(KNOTS))) / 20)
    return np.asarray(firwin2(511, KNOTS, gain))


def sound(number: int) -> Float64:
    """Noise of a colour and level of its own."""
    rng = np.random.default_rng(number)
    noise = rng.normal(0, 0.02 * 10 ** rng.normal(0, 0.1), round(RATE * SECONDS))
    return np.asarray(noise + rng.uniform(0, 0.9) * np.concatenate([[0], noise[:-1]]))


def usual() -> list[Recorded]:
    """Eight moments of training and three of the test side, all by three devices; and four of a alone."""
    both = [Recorded(i, side="test" if i > 7 else "train") for i in range(11)]
    return both + [Recorded(20 + i, "a") for i in range(4)]


def make_dataset(root: Path, moments: Sequence[Recorded] | None = None) -> Path:
    """Write a dataset into a folder, which is returned; the usual moments where none are named."""
    (root / "audio").mkdir(parents=True)
    (root / "evaluation_setup").mkdir()
    rows = []
    for m in usual() if moments is None else moments:
        for device in m.devices:
            samples = sound(m.number)
            if device != "a":
                samples = fftconvolve(samples, taps(device), mode="same")
            soundfile.write(root / m.file(device), samples, RATE, subtype="FLOAT")
            rows.append((m.file(device), m.scene, f"oslo-{m.file(device).split('-')[2]}", device, m.side))
    head = ("filename", "scene_label", "identifier", "source_label")
    _table(root / "meta.csv", head, [r[:4] for r in rows])
    for side, role in (("train", "train"), ("test", "evaluate")):
        _table(root / f"evaluation_setup/fold1_{role}.csv", head[:2], [r[:2] for r in rows if r[4] == side])
    return root


def _table(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in (head, *rows)))
