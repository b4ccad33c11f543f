"""Does the program that measures planning and bookkeeping run, over every kind of workers? No time is judged here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_small_run_prints_every_step_and_every_way(root: Path, tmp_path: Path) -> None:
    words = ["--clips", "300", "--ways-clips", "200", "--clips-per-unit", "32", "--folder", str(tmp_path)]
    command = [sys.executable, str(root / "tests/benchmarks/scale.py"), *words]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert run.returncode == 0, run.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in run.stdout.splitlines() if "|" in line]
    named = {row[0]: [float(cell) for cell in row[1:]] for row in rows if re.fullmatch(r"[\d.]+", row[1])}
    steps = {"list", "plan", "create, compute (threads:2), seal", "plan again: nothing to do", "what is excluded"}
    assert steps <= set(named)
    assert {"serial", "threads:2", "2", "dask:2"} <= set(named)
    for _, _, memory, most in (named[step] for step in steps):
        assert 0 < memory <= most
    assert "units of 32 clips: 10;" in run.stdout
