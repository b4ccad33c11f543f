"""Does the process keep what it frees, and refuse a limit of memory that it cannot begin under?"""

import subprocess
import sys

import pytest

from asccli import memory
from ascschemas.problems import RunError

PROGRAM = """
import resource, sys
from asccli.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(5):
    b"x" * (48 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    b"x" * (48 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt")
def test_freed_buffers_are_used_again() -> None:
    """Buffers above the 32 MiB that glibc keeps by itself: nearly no page is mapped anew."""
    words = [sys.executable, "-c", PROGRAM]
    kept, plain = (
        int(subprocess.run([*words, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "plain")
    )
    assert kept < plain / 10


def test_what_is_imported_is_not_searched_for_garbage() -> None:
    program = (
        "import gc, pydantic, asccli.memory as m; before = len(gc.get_objects()); m.leave_imports_alone();"
        "print(before, gc.get_freeze_count(), len(gc.get_objects()))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, frozen, seen = map(int, run.stdout.split())
    assert frozen > before / 2 > 10 * seen


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
@pytest.mark.parametrize(
    "words", [("fit", "five_conv_small", "--out", "run"), ("evaluate", "r"), ("predict", "r", "f")]
)
def test_a_limit_that_torch_would_die_under_is_refused_before_torch_is_loaded(tmp_path, limit, words) -> None:
    program = (
        f"import resource, sys; resource.setrlimit(resource.{limit}, (600 << 20, 600 << 20));"
        "import atexit; atexit.register(lambda: print('torch' in sys.modules));"
        "from asccli.ascmodels import main; main()"
    )
    command = [sys.executable, "-c", program, *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "False\n")
    assert "found 614400 kB" in ended.stderr
    assert "ulimit -v unlimited" in ended.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "error", [SystemError("error return without exception set"), ImportError("libtorch"), MemoryError()]
)
def test_what_does_not_load_under_a_limit_is_said_with_the_limit(monkeypatch, error) -> None:
    monkeypatch.setattr(memory, "_limits", lambda: {"ulimit -v": 1 << 40})
    with pytest.raises(RunError, match=r"too low for torch") as refused, memory.learning_loads():
        raise error
    assert [(d.expected, d.found) for d in refused.value.differences] == [("more", f"{1 << 30} kB")]
    monkeypatch.setattr(memory, "_limits", dict)
    with pytest.raises(type(error)), memory.learning_loads():
        raise error
