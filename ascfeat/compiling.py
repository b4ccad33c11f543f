"""Kernels compiled at their first call and kept on disk, whoever else compiles the same ones at the same time.

Numba's own cache may hand out another kernel than was asked for, in silence, when several processes fill it, or one
goes on where another was killed. It names kernels by a counter of the process, so that two which one function made, in
two processes, can be taken for each other when they are linked (numba issue 10486); and its index names a file before
that file is written, so that what an older state of the code left there is loaded. Here a kernel that a function made
is named by the values it was made for, and its file by all that it depends on.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import pickle
import uuid
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import numba
from numba.core.serialize import dumps

DIGEST_BYTES = 32
DIGITS = 32
"""Of a digest in the name of a file."""


def compiler(sources: str | Path, fastmath: Set[str] = frozenset()) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for kernels, which other threads run beside.

    Parameters
    ----------
    sources : path
        The module, or the folder of modules, that its kernels are compiled from: when it changes, they are compiled
        anew.
    fastmath : set of str
        What LLVM may do to floating-point operations.
    """
    state = _digest_of(Path(sources))

    def compiled(function: Callable[..., Any]) -> Any:
        for cell in function.__closure__ or ():
            function.__qualname__ += f".{cell.cell_contents}"
        made: Any = numba.njit(nogil=True, error_model="numpy", fastmath=set(fastmath))(function)
        if hasattr(made, "enable_caching"):  # else numba is told to compile nothing
            with contextlib.suppress(RuntimeError):  # there is no folder to write to: every process compiles for itself
                made.enable_caching()
                cache = made._cache
                cache._cache_file = KernelFiles(Path(cache.cache_path), cache._impl.filename_base, state)
        return made

    return compiled


class KernelFiles:
    """The files of one kernel's machine code, in the place of numba's index and numbered files.

    Parameters
    ----------
    folder : Path
        Where they lie.
    name : str
        Of the kernel, as numba gives it: module and function, line, Python.
    state : str
        Digest of the code that it is compiled from.
    """

    def __init__(self, folder: Path, name: str, state: str) -> None:
        self.folder, self.name, self.state = folder, name, state

    def path(self, key: object) -> Path:
        """The file of this state for ``key``: the arguments' types, the processor, and the kernel's bytecode."""
        digest = hashlib.sha256(repr((numba.__version__, key)).encode()).hexdigest()
        return self.folder / f"{self.name}.{self.state[:DIGITS]}.{digest[:DIGITS]}.nbc"

    def load(self, key: object) -> Any:
        """What was kept for ``key``; None where there is nothing, or not the whole of it."""
        try:
            content = self.path(key).read_bytes()
        except OSError:
            return None
        digest, data = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        return pickle.loads(data) if hashlib.sha256(data).digest() == digest else None

    def save(self, key: object, data: object) -> None:
        """Keep ``data`` for ``key``, and nothing of other states; what cannot be written is compiled again."""
        content, path = dumps(data), self.path(key)  # type: ignore[no-untyped-call]
        aside = path.with_suffix(f".{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            try:
                aside.write_bytes(hashlib.sha256(content).digest() + content)
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
            for other in self._of_other_states():
                other.unlink(missing_ok=True)

    def _of_other_states(self) -> list[Path]:
        """What is kept of this kernel, wherever it stood in its module, but was compiled from other code."""
        kernel, _, line_and_python = self.name.rpartition("-")
        same = f"{glob.escape(kernel)}-*.{line_and_python.partition('.')[2]}.*"
        return [p for p in self.folder.glob(same) if f".{self.state[:DIGITS]}." not in p.name]

    def flush(self) -> None:
        """Nothing: numba asks for it when it is told to compile a kernel again, and that one has the same code."""


@functools.cache
def _digest_of(sources: Path) -> str:
    modules = sorted(sources.glob("*.py")) if sources.is_dir() else [sources]
    digests = [hashlib.sha256(m.read_bytes()).hexdigest() for m in [*modules, Path(__file__)]]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
