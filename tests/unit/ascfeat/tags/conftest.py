"""A format of waveforms, and the tags of the small dataset as a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ascschemas.dataset import AudioFormat

VALUES = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
CLIPS = [f"audio/{i:02}.wav" for i in range(10)]


@pytest.fixture
def audio() -> AudioFormat:
    """That of the small dataset."""
    return AudioFormat(sample_rate=8_000, channels=1, frames=8_000)


@pytest.fixture
def values() -> np.ndarray:
    """Tags of ten clips, negative ones among them."""
    return VALUES


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    """Write a CSV file of some lines; by default, a right one of all clips, by bare names, backwards."""

    def write(*lines: str) -> Path:
        right = [",".join([Path(c).name, *map(str, v)]) for c, v in zip(CLIPS, VALUES.tolist(), strict=True)]
        path = tmp_path / "tags.csv"
        path.write_text("\n".join(lines or ["filename,Speech,Music,2.5", *reversed(right)]) + "\n")
        return path

    return write
