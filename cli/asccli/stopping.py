"""Being stopped from outside: a SIGTERM, which batch systems send before they kill, ends a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TERMINATED = 128 + signal.SIGTERM
"""Status of a command that a SIGTERM ended."""


class Terminated(KeyboardInterrupt):
    """A SIGTERM."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within it, a SIGTERM raises :class:`Terminated`."""
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return

    def stop(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
