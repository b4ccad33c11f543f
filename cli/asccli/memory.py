"""This process and its memory: whether its limit lets it begin, freed buffers used again, imports left alone."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ascschemas.problems import Difference, RunError

MIB = 1 << 20
LEAST = {resource.RLIMIT_AS: ("ulimit -v", 1136 * MIB), resource.RLIMIT_DATA: ("ulimit -d", 720 * MIB)}
"""How a limit of memory is set, and the least under which torch loads, computes one small batch and ends in words.

Measured with torch 2.13 for CPUs; beneath, its C++ threads abort the process, or leave it hanging.
"""
A_THREAD = 16 * MIB
"""What each thread that computes takes beyond: two stacks of 8 MiB, OpenMP's and torch's own."""
LEFT = 192 * MIB
"""Least that is left for computing once all is loaded, whatever that took."""

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's ``mallopt``, from <malloc.h>."""


@contextmanager
def learning_loads() -> Iterator[None]:
    """Within it, torch is imported and warmed up; a limit of memory that cannot hold it is said in words.

    Raises
    ------
    RunError
        With the limit: before anything is imported where it is known to be too low, else where something does not
        load under it.
    """
    limits = _limits()
    needed = {said: least + A_THREAD * _threads() for said, least in LEAST.values()}
    low = {said: f"at least {_kib(needed[said])}" for said, limit in limits.items() if limit < needed[said]}
    if low:
        raise _too_low(limits, low)
    try:
        yield
        if any(limit - _taken(said) < LEFT for said, limit in limits.items()):
            raise MemoryError("nothing is left to compute in")
    except (ImportError, SystemError, MemoryError, RuntimeError) as error:
        if not limits or isinstance(error, ModuleNotFoundError):
            raise
        raise _too_low(limits, dict.fromkeys(limits, "more"), f": {error}" * bool(str(error))) from error


def _limits() -> dict[str, int]:
    """What this process may take in bytes, by how it is set; nothing where nobody has."""
    soft = {said: resource.getrlimit(which)[0] for which, (said, _) in LEAST.items()}
    return {said: limit for said, limit in soft.items() if limit != resource.RLIM_INFINITY}


def _taken(said: str) -> int:
    """What this process has taken of a limit."""
    name = {"ulimit -v": "VmSize:", "ulimit -d": "VmData:"}[said]
    try:
        lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    except OSError:  # another system than Linux
        return 0
    return next(int(words[1]) << 10 for words in lines if words[0] == name)


def _too_low(limits: dict[str, int], wanted: dict[str, str], why: str = "") -> RunError:
    return RunError(
        f"The limit of memory of this shell, or of its batch job, is too low for torch to load and compute{why}.",
        differences=[Difference(field=k, expected=v, found=_kib(limits[k])) for k, v in wanted.items()],
        todo="Raise it, such as with `ulimit -v unlimited`, or ask the batch system for more memory.",
    )


def _kib(size: int) -> str:
    """As ``ulimit`` counts."""
    return f"{-(-size // 1024)} kB"


def _threads() -> int:
    """Threads that compute: as many as OpenMP is told, or one a core."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdigit() and int(said) else os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed blocks for the next allocation; whether it was told.

    A training step frees and takes hundreds of megabytes of activations. By default glibc returns each block to the
    system and the kernel zeroes every page of the next one, which took 60 % of a step of the five-conv network on
    two cores (75 against 30 ms a clip). Programs decide this, not libraries, so it stands here.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from musl
    if mallopt is None:
        return False
    wanted = {M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 << 20, M_MMAP_MAX: 0}
    return all(mallopt(which, value) for which, value in wanted.items())


def leave_imports_alone() -> None:
    """Take everything that lives now out of the collector's sight, once what a long job needs is imported.

    torch, numba and librosa make half a million objects, which the collector otherwise walks through again and again
    while clips come and go: a sixth of the time of an extraction of log-mels.
    """
    gc.collect()
    gc.freeze()
