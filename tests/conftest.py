"""What every test shares: the installed commands, one thread a process, no display, and the demo dataset."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; the tests themselves run in parallel
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["ASC_CACHE"] = tempfile.mkdtemp(prefix="ascfeat-tests-")  # digests of recordings are not a person's own
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
