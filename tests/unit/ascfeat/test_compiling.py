"""Is a kernel that comes from disk the one that was asked for, whoever left it there?"""

import os
import subprocess
import sys
from pathlib import Path

import numba.core.caching
import numpy as np
import pytest

from ascfeat.compiling import KernelFiles, compiler

KERNELS = """
from ascfeat.compiling import compiler
compiled = compiler(__file__)

def adding(number):
    @compiled
    def run(x):
        for i in range(len(x)):
            x[i] = 10 * x[i] + number
    return run

one, two, three = adding(1), adding(2), adding(3)

@compiled
def both(x):
    one(x)
    two(x)
"""
CALL = """
import sys, numpy as np, kernels
x, hits = np.zeros(1), 0
for name in sys.argv[1:]:
    kernel = getattr(kernels, name)
    kernel(x)
    hits += sum(kernel.stats.cache_hits.values())
print(x[0], hits)
"""


@pytest.fixture
def call(tmp_path: Path):
    """``call(kernel, ...)``: what these make of zero, one after the other in a process; how many came from disk."""
    (tmp_path / "kernels.py").write_text(KERNELS)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*kernels: str) -> tuple[float, int]:
        done = subprocess.run(
            [sys.executable, "-c", CALL, *kernels],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        value, hits = done.stdout.split()
        return float(value), int(hits)

    return run


def test_kernels_of_one_function_from_two_processes_are_not_taken_for_each_other(call) -> None:
    """Numba numbers kernels within a process: ``two`` is the second of the first, ``one`` of the other."""
    assert call("three", "two") == (32, 0)
    assert call("both") == (12, 0)
    assert call("both") == (12, 1)


def test_a_kernel_is_compiled_anew_when_its_module_changes(call, tmp_path: Path) -> None:
    """Even if the file has as many bytes, and the same time."""
    assert [call("two"), call("two")] == [(2, 0), (2, 1)]
    module = tmp_path / "kernels.py"
    times = module.stat()
    module.write_text(KERNELS.replace("10 * x", "99 * x"))
    os.utime(module, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert call("two", "one") == (99 * 2 + 1, 0)


def test_files_hold_what_was_kept_for_their_key(tmp_path: Path) -> None:
    files, elsewhere = (KernelFiles(tmp_path, f"m.{name}-7.py311", "a" * 64) for name in ("run", "run.1"))
    assert files.load("float32") is None
    files.save("float32", [1])
    files.save("float64", [2])
    elsewhere.save("float32", [3])
    assert [files.load("float32"), files.load("float64"), elsewhere.load("float32")] == [[1], [2], [3]]
    assert len(list(tmp_path.iterdir())) == 3


def test_what_other_code_was_compiled_to_goes(tmp_path: Path) -> None:
    """It would be 15 MB for each state of the code; kernels of another name, and another Python's, stay."""
    names = {"m.run-7.py311": "a", "m.run-9.py311": "b", "m.run.1-7.py311": "a", "m.run-7.py312": "a"}
    old, new, other, of_another_python = (KernelFiles(tmp_path, n, 64 * s) for n, s in names.items())
    for files in (old, other, of_another_python):
        files.save("float32", [1])
    (tmp_path / "m.run-7.py311.nbi").write_text("numba's own, as it was")
    new.save("float64", [2])
    assert old.load("float32") is None
    assert [other.load("float32"), of_another_python.load("float32"), new.load("float64")] == [[1], [1], [2]]
    assert len(list(tmp_path.iterdir())) == 3


def test_what_is_not_whole_is_compiled_again(tmp_path: Path) -> None:
    files = KernelFiles(tmp_path, "m.run-7.py311", "a" * 64)
    files.save("key", list(range(100)))
    path = files.path("key")
    whole = path.read_bytes()
    for torn in (b"", whole[:20], whole[:-1], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]):
        path.write_bytes(torn)
        assert files.load("key") is None
    files.save("key", [1])
    assert files.load("key") == [1]


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path, monkeypatch) -> None:
    files = KernelFiles(tmp_path / "a file", "m.run-7.py311", "a" * 64)
    files.folder.write_text("")
    files.save("key", [1])
    assert files.load("key") is None
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])  # as where all folders are read-only

    @compiler(__file__)
    def double(x):
        return 2 * x

    assert double(np.float64(4)) == 8
