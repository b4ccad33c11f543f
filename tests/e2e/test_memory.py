"""Does training stay within a memory that its store does not fit into?"""

import subprocess
import sys
from pathlib import Path

import pytest

from ascmodels.testing.stores import layout, make_store, scene_clips

TRAIN = """
import resource, sys
from pathlib import Path

import numpy as np
import torch

from ascfeat.store import open_store
from ascmodels import recipes
from ascmodels.testing.stores import small_recipe
from ascmodels.training import train
from ascmodels.watching import Watcher
from ascschemas.problems import AscError

store, out, placement, megabytes = sys.argv[1:]
settings = ["epochs=1", "batch_size=2", "window_mib=8", "family.widths=[2,2,2,2,2]", "family.strides=[2,2,2,2,2]"]
recipe = recipes.override(small_recipe(), settings)
torch.nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8)).sum().backward()  # what it starts is not counted


def taken():
    return next(int(l.split()[1]) << 10 for l in Path("/proc/self/status").read_text().splitlines() if "VmData" in l)


limit = taken() + (int(megabytes) << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


class Say(Watcher):
    def note(self, text):
        print(text)


try:
    done = train(recipe, open_store(store), Path(out), device="cpu", placement=placement, watch=Say())
    print("trained", done.last)
except AscError as error:
    print(error.text())
    sys.exit(2)
"""
LIMIT = 300
"""Megabytes above what the libraries take; stacks of threads are most of it."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """288 clips of 2 MB, four in a shard; two thirds of them are trained on."""
    path = tmp_path_factory.mktemp("memory") / "scenes" / "made_up.zarr"
    make_store(path, scene_clips(locations=24), shape=layout(bands=256, frames=2048), clips_per_unit=4)
    return path


def run(store: Path, out: Path, placement: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", TRAIN, str(store), str(out), placement, str(LIMIT)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["stream", "auto"])
def test_a_store_larger_than_memory_is_streamed_within_it(store: Path, tmp_path: Path, placement: str) -> None:
    ended = run(store, tmp_path / "run", placement)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "features from the store, a window ahead" in ended.stdout
    assert "trained 1" in ended.stdout


@pytest.mark.slow
def test_the_same_does_not_fit_into_memory_and_is_told_so(store: Path, tmp_path: Path) -> None:
    """Else the tests above would prove nothing."""
    ended = run(store, tmp_path / "run", "ram")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "do not fit into the memory of cpu" in ended.stdout
    assert "--placement stream" in ended.stdout
