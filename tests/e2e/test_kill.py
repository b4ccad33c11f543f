"""A killed extraction, run again, gives the store that an undisturbed one gives, to the byte."""

import hashlib
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

RECIPE = """
name: small
representation: {kind: log_mel, n_fft: 1024, hop_length: 256, spectrum: power, n_mels: 40, floor: 1.0e-8}
storage: {clips_per_shard: 2}
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty recordings of a second, one of them truncated, a folder per class."""
    root = tmp_path_factory.mktemp("kill") / "noises"
    for i in range(30):
        path = root / ("low", "high")[i % 2] / f"{i:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(i).standard_normal(16_000), 16_000)
    torn = root / "low" / "10.wav"
    torn.write_bytes(torn.read_bytes()[:9000])
    (root.parent / "small.yaml").write_text(RECIPE)
    return root


def command(dataset: Path, features: Path) -> list[str]:
    recipe = dataset.parent / "small.yaml"
    return ["ascfeat", "extract", "--recipe", str(recipe), str(dataset), "--features", str(features), "--device", "cpu"]


def files(features: Path) -> dict[str, str]:
    """Path and digest of every file of the stores in a folder; the lock beside a store is not part of it."""
    found = (p for p in features.rglob("*") if p.is_file() and not p.name.endswith(".lock"))
    return {p.relative_to(features).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


@pytest.mark.slow
def test_the_command_itself_killed_once_it_has_written(dataset: Path, tmp_path: Path) -> None:
    """Kills at random moments, of extractions and refreshes, are those of ``tests/benchmarks/kills.py``."""
    undisturbed = dataset.parent / "whole"
    subprocess.run(command(dataset, undisturbed), check=True, capture_output=True)
    process = subprocess.Popen(command(dataset, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob("*/small.zarr/ledger/record/c/[0-9]*")):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    info = subprocess.run(
        ["ascfeat", "info", str(next(tmp_path.glob("*/small.zarr")))], capture_output=True, text=True, check=True
    )
    assert "not finished" in info.stdout or process.returncode == 0
    again = subprocess.run(command(dataset, tmp_path), capture_output=True, text=True, check=True)
    assert "going on" in again.stdout or "to be sealed" in again.stdout or process.returncode == 0
    assert files(tmp_path) == files(undisturbed)
