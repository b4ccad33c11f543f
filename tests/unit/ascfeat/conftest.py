"""A small dataset of one folder, and the recordings that can go wrong in it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ascfeat.datasets.tree import Tree
from ascfeat.recipes import complete
from ascschemas.dataset import Clip, Manifest, Split
from ascschemas.recipe import FeatureRecipe

RATE, SAMPLES = 8_000, 8_000


def write_noise(path: Path, *, seed: int, rate: int = RATE, samples: int = SAMPLES, channels: int = 1) -> None:
    """A recording of quiet noise, 16 bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(seed).standard_normal((samples, channels))
    soundfile.write(path, noise, rate, subtype="PCM_16")


def manifest_of(names: list[str], root: Path) -> Manifest:
    """Two classes, two devices, four places, one split."""
    clips = tuple(
        Clip(
            id=n,
            label=("bus", "tram")[i % 2],
            device="ab"[i % 2],
            location=f"oslo-{i % 4}",
            city="oslo",
            segment=f"{i}",
        )
        for i, n in enumerate(names)
    )
    half = len(names) // 2
    split = Split(name="fold1", train=tuple(names[:half]), test=tuple(names[half:]))
    return Manifest(dataset=root.name, kind="test", clips=clips, splits=(split,))


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Tree, Manifest]:
    """Ten good recordings of one second at 8 kHz."""
    root = tmp_path / "set"
    names = [f"audio/{i:02}.wav" for i in range(10)]
    for seed, name in enumerate(names):
        write_noise(root / name, seed=seed)
    return Tree(root), manifest_of(names, root)


@pytest.fixture
def stereo(tmp_path: Path) -> tuple[Tree, Manifest]:
    """Seven good recordings of two channels, one second at 8 kHz."""
    root = tmp_path / "stereo"
    names = [f"audio/{i}.wav" for i in range(7)]
    for seed, name in enumerate(names):
        write_noise(root / name, seed=seed, channels=2)
    return Tree(root), manifest_of(names, root)


@pytest.fixture
def recipe() -> FeatureRecipe:
    """A log-mel small enough for tests, four clips a unit."""
    log_mel = {"kind": "log_mel", "n_fft": 256, "hop_length": 128, "spectrum": "power", "n_mels": 16, "floor": 1e-8}
    recipe = {"name": "small", "representation": log_mel, "storage": {"clips_per_shard": 4}}
    return complete(FeatureRecipe.model_validate(recipe), "small")
