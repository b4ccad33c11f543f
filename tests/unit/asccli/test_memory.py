"""Does the process keep what it frees, where the C library lets it?"""

import subprocess
import sys

import pytest

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
