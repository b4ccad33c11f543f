"""Tasks for pools of processes: what they do must be importable there, and happen once or always."""

import os
import signal
import time
from pathlib import Path


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def die_once(task: tuple[int, str]) -> int:
    """Kill this process at the first try of number 5; a file remembers."""
    number, folder = task
    if number == 5:
        try:
            (Path(folder) / "died").touch(exist_ok=False)
        except FileExistsError:
            return number
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_always(number: int) -> int:
    """Kill this process at number 3, after the others have begun."""
    if number == 3:
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def pid(number: int) -> int:
    """Number of this process, which stays alive for a moment."""
    time.sleep(0.02 + 0 * number)
    return os.getpid()


def threads(number: int) -> str:
    """What libraries are told about threads."""
    return os.environ["OMP_NUM_THREADS"]
