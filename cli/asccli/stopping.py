"""Being stopped from outside: a SIGTERM, which batch systems send before they kill, ends a command as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TERMINATED = 128 + signal.SIGTERM
"""Status of a command that a SIGTERM ended."""
AGAIN_SECONDS = 0.05
"""After which a stop is raised again that was lost."""


class Terminated(KeyboardInterrupt):
    """A SIGTERM."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within it, a SIGTERM raises :class:`Terminated`, and no stop is lost.

    Python raises a stop wherever it is; in the callback of an object that goes away, which compilers have by the
    thousand, nothing can be raised, and it would be printed and forgotten. Then the signal is sent once more.
    """
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return

    def stop(*_: object) -> None:
        raise Terminated

    before, hook = signal.signal(signal.SIGTERM, stop), sys.unraisablehook

    def again(lost: sys.UnraisableHookArgs) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            hook(lost)
            return
        number = signal.SIGTERM if issubclass(lost.exc_type, Terminated) else signal.SIGINT
        threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.unraisablehook = hook
