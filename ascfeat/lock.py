"""One writer at a time: an advisory lock that dies with its process and says who holds it."""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ascschemas.problems import StoreError


def lock_path(store: Path) -> Path:
    """Where a store's lock lies: beside it and hidden, so that the store holds nothing of the machine it is on."""
    return store.parent / f".{store.name}.lock"


@contextmanager
def exclusive(store: Path) -> Iterator[None]:
    """Hold the right to write a store.

    The lock is the kernel's (``flock``): it ends with the process, whatever ends that. Its file stays behind.

    Raises
    ------
    StoreError
        When another process holds it; that process is named.
    """
    store.parent.mkdir(parents=True, exist_ok=True)
    with lock_path(store).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StoreError(
                f"{store} is being written by {file.read().strip() or 'another process'}.",
                todo="Wait until it is done, or stop it; then run the same command again.",
            ) from None
        file.truncate(0)
        file.write(f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}\n")
        file.flush()
        yield
