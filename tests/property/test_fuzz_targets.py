"""Whatever stands in a file that others made: is it read as it was stored, or refused in words, in bounds?

The targets, and what counts as wrong, stand in ``tests/benchmarks/fuzz.py``, which runs ten thousand cases of each.
"""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

CASES = {"metadata": 150, "ledger": 200, "shards": 200, "recipe": 400, "lists": 200, "wav": 600, "archive": 500}


@pytest.fixture(scope="module")
def fuzz(root: Path) -> dict:
    """The program's own functions."""
    return runpy.run_path(str(root / "tests/benchmarks/fuzz.py"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")  # zipfile's, of an archive that we make
@pytest.mark.parametrize("target", CASES)
def test_everything_is_taken_or_refused(fuzz: dict, tmp_path: Path, target: str) -> None:
    tally = fuzz["run"](target, CASES[target], 4, tmp_path)
    assert tally.failures == {}
    assert tally.taken + tally.refused >= CASES[target] * 0.9, "hypothesis made fewer cases than it was asked for"
    assert tally.taken > 0, "not one case was good enough to be read to its end"
    assert tally.refused > 0, "not one case was bad enough to be refused"


def test_what_goes_wrong_is_seen(fuzz: dict, tmp_path: Path) -> None:
    """The judge itself: other exceptions, slowness and empty words are failures; refusals are not."""
    from ascschemas.problems import AscError

    def slow(case: object) -> None:
        raise fuzz["TooSlow"]("more than 20 s")

    def fails(case: object) -> None:
        raise ValueError("of a library")

    def wordless(case: object) -> None:
        raise AscError("", todo="")

    def refuses(case: object) -> None:
        raise AscError("no", todo="leave it")

    expected = {slow: "TooSlow", fails: "ValueError", wordless: "an error without what"}
    for accept, word in expected.items():
        tally = fuzz["Tally"]()
        fuzz["judged"](accept, 1, tally, tmp_path / "last")
        assert [word in why for why in tally.failures.values()] == [True]
    tally = fuzz["Tally"]()
    fuzz["judged"](refuses, 1, tally, tmp_path / "last")
    assert (tally.refused, tally.failures) == (1, {})


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["hypothesis", "atheris"])
def test_the_program_runs_each_target_in_a_process(root: Path, engine: str) -> None:
    if engine == "atheris":
        pytest.importorskip("atheris", reason="atheris is not installed")
    command = [sys.executable, str(root / "tests/benchmarks/fuzz.py"), "wav", "archive", "--cases", "200"]
    done = subprocess.run([*command, "--engine", engine], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| 0 \| \d+ \|", done.stdout)
    assert [row[0] for row in rows] == ["wav", "archive"]
    assert all(int(cases) == int(taken) + int(refused) >= 180 for _, cases, taken, refused in rows)
