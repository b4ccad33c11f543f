"""What every test shares: one thread a process, no display, hypothesis without deadlines, and the demo dataset."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and numba are imported; the tests run in parallel already
os.environ.setdefault("MPLBACKEND", "Agg")

import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo dataset as a person gets it; tests read it and never write into it."""
    folder = tmp_path_factory.mktemp("demo") / "scenes"
    subprocess.run(["ascfeat", "demo-data", str(folder)], check=True, capture_output=True)
    return folder
