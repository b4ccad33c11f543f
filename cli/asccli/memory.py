"""How this process keeps its memory: freed buffers are used again, imported modules not searched for garbage."""

from __future__ import annotations

import ctypes
import gc
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's ``mallopt``, from <malloc.h>."""


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
