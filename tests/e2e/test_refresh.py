"""A dataset that changes: its store follows, by the installed commands."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

RECIPE = """
name: small
representation: {kind: log_mel, n_fft: 1024, hop_length: 256, spectrum: power, n_mels: 40, floor: 1.0e-8}
storage: {clips_per_shard: 4}
"""


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(16_000), 16_000)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty recordings of a second, a folder per class; commands run beside them."""
    for i in range(20):
        noise(tmp_path / "noises" / ("low", "high")[i % 2] / f"{i:02}.wav", i)
    (tmp_path / "small.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(dataset: Path) -> None:
    """One recording more, before all others; one less; one replaced by one of its size and an older date; one moved."""
    noise(dataset / "high" / "00.wav", 100)
    (dataset / "low" / "04.wav").unlink()
    noise(dataset / "new.wav", 101)
    os.utime(dataset / "new.wav", (0, 0))
    (dataset / "new.wav").replace(dataset / "low" / "06.wav")
    (dataset / "high" / "07.wav").rename(dataset / "low" / "07.wav")


def extract(*arguments: str) -> str:
    command = ["ascfeat", "extract", "--recipe", "small.yaml", "noises", "--device", "cpu", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def files(features: Path | str) -> dict[str, str]:
    """Path and digest of every file of a library but its locks."""
    found = (p for p in Path(features).rglob("*") if p.is_file() and not p.name.endswith(".lock"))
    return {p.relative_to(features).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_store_follows_its_dataset(root: Path) -> None:
    extract()
    shutil.copytree("features", "before")
    change(root / "noises")
    said = extract()
    assert "2 recordings added: high/00.wav, low/07.wav" in said
    assert "2 recordings removed: high/07.wav, low/04.wav" in said or "low/04.wav, high/07.wav" in said
    assert "1 recording replaced: low/06.wav" in said
    assert "3 of 20 clips to be computed" in said
    assert "20 of 20 clips usable; 3 computed, 17 taken as they were" in said
    fresh = extract("--features", "fresh", "--library", "features")  # the same store lies there
    assert "features/noises/small.zarr: sealed, from a library, nothing to do" in fresh
    assert not Path("fresh").exists()
    extract("--features", "fresh")
    assert files("features") == files("fresh")
    diff = ["ascfeat", "diff", "features/noises/small.zarr"]
    assert subprocess.run([*diff, "fresh/noises/small.zarr"], capture_output=True).returncode == 0
    apart = subprocess.run([*diff, "before/noises/small.zarr"], capture_output=True, text=True)
    assert apart.returncode == 1
    assert "made from other recordings: 1 clip, low/06.wav" in apart.stdout
    assert "values: 17 clips equal, 1 different" in apart.stdout
    gone = subprocess.run(["ascfeat", "gc", "features"], capture_output=True, text=True, check=True)
    assert gone.stdout == "Nothing can go.\n"
