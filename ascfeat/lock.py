"""One writer at a time: a lock that ends with its holder, says who that is, and is waited for."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, TextIO

from typing_extensions import override

from ascfeat.holder import Holder
from ascfeat.store.places import Folder, Place, open_place, refuse_writing
from ascschemas.problems import StoreError

POLL_SECONDS: Final = 0.5
"""How often a caller that waits looks again at a folder."""
REMOTE_POLL_SECONDS: Final = 2.0
"""The same for a bucket, which takes a few requests."""
SAY_SECONDS: Final = 60.0
"""How often it says that it still waits."""
NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems answer that cannot lock."""

Attempt = Callable[[], "AbstractContextManager[Held | Holder]"]
Waiting = Callable[[str], None]


class Held(ABC):
    """The right to write a place, held; given by :func:`exclusive`.

    **What the writer does with it.** Call ``check()`` before every publication: before each unit's record, before the
    seal, before a seal is removed, before anything is swept or cleared. It costs next to nothing while all is well
    (one ``stat`` in a folder, nothing in a bucket), and raises when the right is lost: the process was stopped or cut
    off for longer than its lease and somebody else writes now. The writer then stops; what it has published stays.
    Between a check and the write that follows it a process can still be stopped, and no lock can help that: it is
    harmless for units, whose bytes are the same whoever writes them, so everything else is kept short after its check.
    """

    @abstractmethod
    def check(self) -> None:
        """Make sure that the right is still held.

        Raises
        ------
        StoreError
            When it is not, and who has it now; ``PlaceError`` when the server cannot be asked and it may be lost.
        """


@contextmanager
def exclusive(place: Place | Path | str, *, wait: Waiting | None = None) -> Iterator[Held]:
    """Hold the right to write a store.

    In a folder the lock is the kernel's (``flock``, also on NFS): it ends with the process, whatever ends that. In a
    bucket it is an object that is renewed while the holder lives, and taken over when it is not
    (``ASCFEAT_LEASE_SECONDS``, 60 unless said otherwise), at once where its process is known to be dead. The file or
    object lies beside the store, hidden, and stays there. Reading needs no lock.

    Parameters
    ----------
    place : Place, path or URL
        The store, there or not.
    wait : callable, optional
        Told who holds the right, since when, again from time to time; then the caller waits. Without it, it does not.

    Raises
    ------
    StoreError
        When another process holds it, which is named, and ``wait`` was not given; when the place cannot be written.
    """
    place = open_place(place)
    yield from _until_held(place, _attempt(place), wait)


def lock_name(place: Place) -> str:
    """What a store's lock is called: it lies beside it and is hidden, so that the store holds nothing of a machine."""
    return f".{place.name}.lock"


def _attempt(place: Place) -> Attempt:
    """What tries once to get the right to write a place."""
    if isinstance(place, Folder):
        return lambda: _locked(place)
    from ascfeat.lease import leased  # here: nothing of the network is imported for a folder
    from ascfeat.store.remote import Bucket

    if not isinstance(place, Bucket):
        raise refuse_writing(place)
    return lambda: leased(place, lock_name(place))


def _until_held(place: Place, attempt: Attempt, wait: Waiting | None) -> Iterator[Held]:
    told: tuple[Holder | None, float] = (None, 0.0)
    while True:
        with attempt() as found:
            if isinstance(found, Held):
                yield found
                return
        if wait is None:
            raise StoreError(
                f"{place} is being written by {found}.",
                todo="Wait until it is done, or stop it; then run the same command again.",
            )
        if not found.same(told[0]) or time.monotonic() - told[1] > SAY_SECONDS:
            told = found, time.monotonic()
            wait(f"{place} is being written by {found}: waiting")
        time.sleep(POLL_SECONDS if isinstance(place, Folder) else REMOTE_POLL_SECONDS)


class _Locked(Held):
    """A locked file beside a folder."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.file, self.path = file, path

    @override
    def check(self) -> None:
        if _is_at(self.file, self.path):
            return
        if not self.path.parent.is_dir():
            raise StoreError(
                f"{self.path.parent} is not there any more, and with it the lock that this process held.",
                todo="Mount it again, or put it back; then run the same command again, it goes on where it stopped.",
            )
        raise StoreError(
            f"{self.path} was removed or replaced while this process held that lock: another may write by now.",
            todo="Leave lock files alone; run the same command again, it goes on where it stopped.",
        )


@contextmanager
def _locked(place: Folder) -> Iterator[Held | Holder]:
    """The lock of a folder, or who holds it."""
    real = Folder(place.path.resolve())  # where it is written, whatever links lead there
    beside, path = real.parent, real.parent.path / lock_name(real)
    with _opened(beside, path) as file:
        if not _lock(file, path):
            yield Holder.read(file.read(), age=max(0.0, time.time() - os.fstat(file.fileno()).st_mtime))
        elif not _is_at(file, path):  # removed since it was opened: somebody else may have locked another one
            yield Holder()
        else:
            file.truncate(0)
            file.write(Holder.here().text())
            file.flush()
            yield _Locked(file, path)


def _opened(beside: Folder, path: Path) -> TextIO:
    """The lock file, made if need be with its folder's rights: a group that shares stores shares their locks."""
    while True:
        try:
            # to write: NFS locks no file that is only read; never through a link, which could lead anywhere
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            return open(handle, "r+", encoding="utf-8", errors="replace")  # noqa: PTH123
        except FileNotFoundError:
            beside.make()
            beside.create(path.name, b"")


def _lock(file: TextIO, path: Path) -> bool:
    """Lock a file, if nobody else has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise StoreError(
            f"The file system of {path} cannot lock files: {error.strerror}.",
            todo="Write to another file system and `ascfeat push` the store, or have this one mounted with locks.",
        ) from error
    return True


def _is_at(file: TextIO, path: Path) -> bool:
    """Whether an open file is the one that a path names."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
