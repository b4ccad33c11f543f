"""Places where the files of a store lie: a folder here; other kinds stand in ``ascfeat.store.remote``."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from ascfeat.store.beneath import Beneath
from ascschemas.problems import AscError, StoreError

Bytes = npt.NDArray[np.uint8]
Piece = bytes | Bytes
Span = tuple[int, int]
"""First byte, and the one after the last."""

PARTIAL = ".partial"
"""Ending of what is not published yet; a killed writer leaves such files behind."""

NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What file systems answer, as of USB sticks and some network drives, that know no second name of a file."""


class PlaceError(AscError, OSError):
    """A server that cannot be reached, or refuses: of its files nothing is known, least of all that they are damaged.

    It is an ``OSError``, as what a disk refuses is, and no ``StoreError``: whoever looks for damage must not find it.
    """


class Place(ABC):
    """Files by key, a POSIX path below the place; a file is there whole or not at all.

    Every method raises ``FileNotFoundError`` for a key that is not there, and ``OSError`` for what the disk or the
    server refuses; a place is safe to use from several threads, and can be pickled to another process.
    """

    writable: ClassVar[bool] = True
    """Whether anything can ever be written there, rights aside."""

    @property
    @abstractmethod
    def absolute(self) -> str:
        """The place so that it means the same from any folder of this machine."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its last component."""

    @property
    @abstractmethod
    def parent(self) -> Place:
        """What holds it."""

    @abstractmethod
    def __truediv__(self, key: str) -> Place:
        """A place below this one."""

    @property
    def stem(self) -> str:
        """Its last component without the ending."""
        return PurePosixPath(self.name).stem

    @abstractmethod
    def read(self, key: str) -> bytes:
        """A whole file."""

    @abstractmethod
    def tail(self, key: str, count: int) -> bytes:
        """The last bytes of a file; all of it where it is shorter."""

    @abstractmethod
    def spans(self, key: str, spans: Sequence[Span], out: Sequence[Bytes]) -> Iterator[None]:
        """Fill each array with the bytes of its span, one after the other, and yield after each.

        An array may be longer than its span, and may stand there several times: what it held is used up by then.
        ``EOFError`` where the file ends before.
        """

    @abstractmethod
    def size(self, key: str) -> int:
        """Size of a file in bytes."""

    @abstractmethod
    def modified(self, key: str) -> float:
        """When a file was last written, in seconds since the epoch, by the clock of whoever keeps it."""

    @abstractmethod
    def version(self, key: str) -> str:
        """What tells a file from any other that is put in its place; the server is asked, not a cache."""

    @abstractmethod
    def files(self, key: str = "") -> Iterator[str]:
        """Keys of all files below a key, whole ones only, sorted."""

    @abstractmethod
    def folders(self) -> list[str]:
        """Names directly below that hold something, hidden ones left out, sorted."""

    @abstractmethod
    def make(self) -> None:
        """Make this place, and what holds it, where it is not there yet.

        No other method does: a folder that is not there any more may lie on a share that was unmounted, and what would
        be made in its stead is somebody's own disk.
        """

    @abstractmethod
    def write(self, key: str, pieces: Iterable[Piece]) -> None:
        """Write a file; it is durable, and whole for every reader, when this returns. An older one is replaced."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Write a file that must not be there yet; of several who try at once, one is told True."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove a file, or nothing where there is none."""

    @abstractmethod
    def adopt(self, folder: Path, last: str) -> bool:
        """Make this place from a local folder, which is used up; ``last`` is the file that makes it whole.

        Of several who try at once, one is told True; False means that something is here already.
        """

    @abstractmethod
    def clear(self) -> None:
        """Remove everything that is here, the place included."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what a killed writer left here unpublished; for the one who holds the lock."""

    @abstractmethod
    def free(self) -> int | None:
        """Bytes that can still be written; None where nobody knows."""

    @abstractmethod
    def zarr(self) -> Any:
        """What zarr-python opens: a path, or a store of its own; read-only."""

    def total(self) -> int | None:
        """Bytes of all files together; None where only asking for every one of them would tell."""
        return sum(self.size(key) for key in self.files())

    def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        try:
            self.size(key)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


class Folder(Place):
    """A folder of a POSIX file system, this machine's or a shared one.

    Below a folder whose group may write and that passes its group on (set-gid), everything new is the group's to
    read and write, whatever the umask.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Folder({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and other.absolute == self.absolute

    def __hash__(self) -> int:
        return hash(self.absolute)

    @override
    def __truediv__(self, key: str) -> Folder:
        return Folder(self.path / key)

    @property
    @override
    def absolute(self) -> str:
        return str(self.path.resolve())

    @property
    @override
    def name(self) -> str:
        return self.path.name

    @property
    @override
    def parent(self) -> Folder:
        return Folder(self.path.parent)

    @override
    def read(self, key: str) -> bytes:
        with open(self._below.open(key), "rb") as file:  # noqa: PTH123  # a handle, not a path
            return file.read()

    @override
    def tail(self, key: str, count: int) -> bytes:
        with open(self._below.open(key), "rb", buffering=0) as file:  # noqa: PTH123  # a handle, not a path
            size = os.fstat(file.fileno()).st_size
            return os.pread(file.fileno(), count, max(0, size - count))

    @override
    def spans(self, key: str, spans: Sequence[Span], out: Sequence[Bytes]) -> Iterator[None]:
        handle = self._below.open(key)
        try:
            for (start, stop), into in zip(spans, out, strict=True):
                with _named(self._at(key)):
                    _fill(handle, start, into[: stop - start], key)
                yield
        finally:
            os.close(handle)

    @override
    def size(self, key: str) -> int:
        if key:
            self._below.refuse(key)
        status = self._at(key).stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(f"{key} in {self} is no file")
        return status.st_size

    @override
    def modified(self, key: str) -> float:
        return self._at(key).stat().st_mtime

    def undate(self, key: str) -> None:
        """Give a file the date 0: it was copied, and nobody shall take it for as new as that."""
        os.utime(self._at(key), (0, 0))

    @override
    def version(self, key: str) -> str:
        handle = self._below.open(key)  # NFS asks its server when a file is opened, and not for `stat`
        try:
            found = os.fstat(handle)
        finally:
            os.close(handle)
        return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"

    @override
    def files(self, key: str = "") -> Iterator[str]:
        found = (p for p in self._at(key).rglob("*") if p.is_file() and not p.name.endswith(PARTIAL))
        yield from sorted(p.relative_to(self.path).as_posix() for p in found)

    @override
    def folders(self) -> list[str]:
        if not self.path.is_dir():
            return []
        return sorted(p.name for p in self.path.iterdir() if p.is_dir() and not p.name.startswith("."))

    @override
    def make(self) -> None:
        self._make(self.path)

    @override
    def write(self, key: str, pieces: Iterable[Piece]) -> None:
        path = self._at(key)
        handle, aside = self._begin(path)
        try:
            with _named(path), open(handle, "wb") as file:  # noqa: PTH123  # a handle, not a path
                for piece in pieces:
                    file.write(piece.data if isinstance(piece, np.ndarray) else piece)
                file.flush()
                os.fchmod(file.fileno(), self._mode(path.parent, 0o666))
                os.fsync(file.fileno())
            Path(aside).replace(path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        sync(path.parent)

    @override
    def create(self, key: str, data: bytes) -> bool:
        path = self._at(key)
        handle, aside = self._begin(path)
        try:
            with _named(path), open(handle, "wb") as file:  # noqa: PTH123  # a handle, not a path
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), self._mode(path.parent, 0o666))
                os.fsync(file.fileno())
            os.link(aside, path)  # fails where the name is taken, which a rename does not
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return self._create_slowly(path, data)
        finally:
            Path(aside).unlink(missing_ok=True)
        sync(path.parent)
        return True

    def _create_slowly(self, path: Path, data: bytes) -> bool:
        """Create a file where a file system has no second names for files: others may see it before it is whole."""
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return False
        with open(handle, "wb") as file:  # noqa: PTH123  # a handle, not a path
            file.write(data)
            file.flush()
            with suppress(OSError):  # such file systems may know no rights either
                os.fchmod(file.fileno(), self._mode(path.parent, 0o666))
            os.fsync(file.fileno())
        sync(path.parent)
        return True

    @override
    def remove(self, key: str) -> None:
        path = self._at(key)
        if path.exists():
            path.unlink(missing_ok=True)
            sync(path.parent)

    @override
    def adopt(self, folder: Path, last: str) -> bool:
        for file in (*folder.rglob("*"), folder):
            file.chmod(self._mode(self.path.parent, 0o777 if file.is_dir() else 0o666))
            sync(file)
        try:
            folder.rename(self.path)
        except OSError:
            if self.path.exists():
                return False
            raise
        sync(self.path.parent)
        return True

    @override
    def clear(self) -> None:
        if not self.path.exists():
            return
        gone = Path(tempfile.mkdtemp(prefix=f".{self.name}.", suffix=PARTIAL, dir=self.path.parent))
        self.path.rename(gone / self.name)  # at once: a reader never finds half of it
        shutil.rmtree(gone)

    @override
    def sweep(self) -> None:
        for leftover in self.path.parent.glob(f".{self.name}.*{PARTIAL}"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.path.rglob(f"*{PARTIAL}"):
            leftover.unlink(missing_ok=True)

    @override
    def free(self) -> int | None:
        there = next(p for p in (self.path.absolute(), *self.path.absolute().parents) if p.exists())
        return shutil.disk_usage(there).free

    @override
    def zarr(self) -> Any:
        return self.path

    def aside(self) -> Path:
        """A new hidden folder beside this place, to be adopted."""
        return Path(tempfile.mkdtemp(prefix=f".{self.name}.", suffix=PARTIAL, dir=self.path.parent))

    def _at(self, key: str) -> Path:
        return Path(self._below.path(key)) if key else self.path

    def _begin(self, path: Path) -> tuple[int, str]:
        """A new hidden file beside ``path``, open for writing; folders are made below this place only."""
        self._make(path.parent, below=self.path)
        return tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)

    def _make(self, folder: Path, *, below: Path | None = None) -> None:
        """Make a folder and those above it up to ``below``, each with its group's rights and on the disk."""
        if folder == below or folder.is_dir():
            return
        self._make(folder.parent, below=below)
        try:
            folder.mkdir()
        except FileExistsError:
            return
        folder.chmod(self._mode(folder.parent, 0o777))
        sync(folder.parent)

    def _mode(self, parent: Path, all_rights: int) -> int:
        """Rights of something new below a folder: the umask's, and the group's where the folder is the group's."""
        above = parent.stat().st_mode
        shared = above & stat.S_ISGID and above & stat.S_IWGRP
        mode = all_rights & ~self._umask
        if shared:
            mode |= all_rights & 0o070
        return mode | (stat.S_ISGID if above & stat.S_ISGID and all_rights & 0o111 else 0)

    @cached_property
    def _below(self) -> Beneath:
        return Beneath(self.path)

    @cached_property
    def _umask(self) -> int:
        """The process's, read where /proc says it: asking the system for it changes it, for all threads."""
        try:
            said = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
            return int(said.partition("Umask:")[2].split()[0], 8)
        except (OSError, IndexError, ValueError):
            mask = os.umask(0)
            os.umask(mask)
            return mask


def open_place(where: Place | Path | str) -> Place:
    """The place that a path or a URL names: a folder, ``s3://bucket/prefix``, ``http://host/path``.

    Raises
    ------
    StoreError
        When the URL is of a kind that is not known, or the package that it needs is not installed.
    """
    if isinstance(where, Place):
        return where
    if "://" not in str(where):
        return Folder(where)
    from ascfeat.store.remote import remote_place  # here: nothing of the network is imported for a folder

    return remote_place(str(where))


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with _named(path):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file an error is of: those of open files do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _fill(handle: int, start: int, into: Bytes, key: str) -> None:
    """Read bytes into an array, all of them."""
    done = 0
    while done < len(into):
        count = os.preadv(handle, [into[done:].data], start + done)
        if not count:
            raise EOFError(f"{key} ends at {start + done} bytes, and {start + len(into)} were expected")
        done += count


def refuse_writing(place: object) -> StoreError:
    """The error for a place that can only be read."""
    return StoreError(f"{place} can only be read.", todo="Write to a folder or to an s3:// URL; then publish that.")
