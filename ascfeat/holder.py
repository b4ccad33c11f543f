"""Who holds a lock: owner, host, process and since when, as text that people and other processes read."""

from __future__ import annotations

import getpass
import os
import socket
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from ascschemas.base import Frozen


class Holder(Frozen):
    """One process that holds a lock, or held it."""

    user: str = "another process"
    """Login name."""
    host: str = ""
    """Name of the machine."""
    process: int = 0
    """Process number there."""
    since: str = ""
    """When it got the lock, by its own clock."""
    machine: str = ""
    """Start of the machine and name space of its process numbers: within one, a number means one process."""
    started: str = ""
    """Start of the process: numbers are used again."""
    age: float = 0.0
    """Seconds since it got the lock, by the clock of whoever keeps the lock; not part of the text."""

    @classmethod
    def here(cls) -> Self:
        """This process, now."""
        return cls(
            user=_user(),
            host=socket.gethostname(),
            process=os.getpid(),
            since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            machine=_machine(),
            started=_started(os.getpid()),
        )

    @classmethod
    def read(cls, text: str, *, age: float = 0.0) -> Self:
        """The holder that a text names, in whatever state it is: it is only shown, and compared."""
        try:
            return cls.model_validate_json(text).model_copy(update={"age": age})
        except ValidationError:
            return cls(age=age)

    def text(self) -> str:
        """One line of JSON."""
        return self.model_dump_json(exclude={"age"}) + "\n"

    def facts(self) -> dict[str, Any]:
        """What the text says."""
        return self.model_dump(mode="json", exclude={"age"})

    def same(self, other: Holder | None) -> bool:
        """Whether it is the same holding of the lock."""
        return other is not None and self.facts() == other.facts()

    @property
    def dead(self) -> bool:
        """Whether it is known to have ended: it ran on this machine, and there is no such process any more."""
        return bool(self.machine) and self.machine == _machine() and not _lives(self.process, self.started)

    def __str__(self) -> str:
        who = f"{self.user} on {self.host}, process {self.process}," if self.host else self.user
        since = f" since {self.since}" if self.since else ""
        return f"{who}{since}" + (f", for {_duration(self.age)}" if self.age >= 1 else "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number and no name
        return f"user {os.getuid()}"


@cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: nobody is taken for dead before his time
        return ""


def _lives(process: int, started: str) -> bool:
    """Whether a process of this machine is there, and is the one that began then."""
    try:
        os.kill(process, 0)  # nothing is sent
    except ProcessLookupError:
        return False
    except OSError:  # another user's, of which nothing more may be visible
        pass
    state, began = _stat(process)
    return state not in ("Z", "X") and (began == started or not (began and started))


def _started(process: int) -> str:
    """When a process began, in clock ticks since the machine did; empty where that cannot be seen."""
    return _stat(process)[1]


def _stat(process: int) -> tuple[str, str]:
    """State of a process (``Z`` where only its end is left) and when it began; empty where that cannot be seen."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "", ""
    fields = text.rpartition(")")[2].split()  # a name may hold blanks and brackets
    return fields[0], fields[19]


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
