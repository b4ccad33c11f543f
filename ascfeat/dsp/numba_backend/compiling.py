"""Kernels compiled at their first call, and kept on disk until any module of this backend changes."""

from __future__ import annotations

from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import numba

SOURCES = tuple((p.stat().st_mtime, p.stat().st_size) for p in sorted(Path(__file__).parent.glob("*.py")))
"""When the modules of this backend last changed."""


def compiler(fastmath: Set[str] = frozenset()) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for kernels, which other threads run beside.

    Numba itself looks at a function's own file only, and would go on with what a change elsewhere has overtaken.

    Parameters
    ----------
    fastmath : set of str
        What LLVM may do to floating-point operations.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        made: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=set(fastmath))(function)
        if hasattr(made, "_cache"):  # else numba is told to compile nothing
            made._cache._cache_file._source_stamp = SOURCES
        return made

    return compiled
