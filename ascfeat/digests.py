"""SHA-256 of recordings, kept by each file's size, dates and inode: an unchanged recording is not read again."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from ascfeat.audio import digest, read
from ascfeat.datasets.tree import Tree

SETTLED_NS = 2_000_000_000
"""A file that changed less than this ago may change again without its dates showing it: they are as coarse as 2 s."""
BUFFERED, BUFFERED_SECONDS = 1024, 5.0
"""Digests kept back before they are written, and for how long: a killed process loses these, and reads them again."""
PATIENCE_SECONDS = 2.0
"""How long another process may write before its cache is done without: a digest that is not kept costs one reading."""
ASKED_AT_ONCE = 500
"""Below SQLite's limit of variables in one question, 999 in its older versions."""
LAYOUT = "CREATE TABLE IF NOT EXISTS digest (path BLOB PRIMARY KEY, stamp BLOB, sha256 BLOB, proof BLOB) WITHOUT ROWID"
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT)
"""What SQLite says of a file that is no database, is torn, or holds another table."""

T = TypeVar("T")


@dataclass(frozen=True)
class Stamp:
    """What a file system says of a recording, all of which changes when its content does."""

    path: str
    """Absolute path of the file; of a file in an archive, with the archive's before it."""
    size: int
    """Bytes, uncompressed."""
    facts: tuple[int, ...]
    """Dates of content and inode in nanoseconds, and the inode's number; in an archive the CRC-32."""
    changed_ns: int
    """When it, or the archive that holds it, last changed in any way, by the clock of its file system."""
    settled: bool
    """Whether that is long enough ago that a further change must show."""

    @property
    def key(self) -> bytes:
        """The path, in 16 bytes: the cache names no files."""
        return hashlib.blake2b(self.path.encode("utf-8", "surrogateescape"), digest_size=16).digest()

    @property
    def short(self) -> bytes:
        """Size and facts, in 16 bytes."""
        return hashlib.blake2b(repr((self.size, *self.facts)).encode(), digest_size=16).digest()


def stamp(tree: Tree, clip: str) -> Stamp | None:
    """The stamp of a clip's recording, loose or archived; None where there is no such file.

    A file's date of content can be set at will, so the inode's date stands beside it; a folder that was moved over
    another brings its own inodes.
    """
    try:
        path = os.path.join(tree.root, clip)  # noqa: PTH118  # twice for every recording: a Path takes several times as long
        file = os.stat(path)  # noqa: PTH116
        if stat.S_ISREG(file.st_mode):
            dates = (file.st_mtime_ns, file.st_ctime_ns)
            settled = all(abs(time.time_ns() - t) >= SETTLED_NS for t in dates)
            return Stamp(os.path.abspath(path), file.st_size, (*dates, file.st_ino), max(dates), settled)  # noqa: PTH100  # no links followed
    except (OSError, ValueError):  # as in Tree: too long a name, a folder without permission, a NUL byte
        pass
    try:
        archive, info = tree._member(clip)
        whole = Path(str(archive.filename)).stat()
    except OSError:
        return None
    inside = f"{os.path.abspath(str(archive.filename))}!{info.filename}"  # noqa: PTH100  # as above
    facts = (info.CRC, info.compress_size, info.header_offset)  # the CRC is checked whenever the file is read
    return Stamp(inside, info.file_size, facts, max(whole.st_mtime_ns, whole.st_ctime_ns), True)


class Digests:
    """SHA-256 of recordings by their stamps, in a file that several processes may use at once.

    It is a cache in every sense: a file that is damaged is made anew, one that cannot be written is done without, and
    what is lost is read again. A row that does not prove itself is not believed.

    Parameters
    ----------
    file : Path, optional
        Where it is kept; nothing is kept where absent. Usually ``cache_file()``.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._lock = threading.RLock()
        self._base: sqlite3.Connection | None = None
        self._process = 0
        self._new: dict[bytes, tuple[bytes, bytes]] = {}
        self._since = time.monotonic()
        self._kept_at_exit = False

    def __reduce__(self) -> tuple[type[Digests], tuple[Path | None]]:
        self.flush()
        return Digests, (self.file,)

    def read(self, tree: Tree, clip: str) -> tuple[bytes, str]:
        """The bytes of a recording and their SHA-256, which is kept.

        Raises
        ------
        AudioError
            With reason ``missing`` or ``unreadable``.
        """
        before = stamp(tree, clip)
        data = read(tree, clip)
        found = digest(data)
        if before and before.settled and before == stamp(tree, clip):  # no part of it was written while it was read
            self.keep(before, found)
        return data, found

    def keep(self, at: Stamp, sha256: str) -> None:
        """Keep the digest of a recording that bore this stamp before and after it was read."""
        if self.file is None or not at.settled:
            return
        with self._lock:
            if not self._new:
                self._since = time.monotonic()
            if not self._kept_at_exit:
                atexit.register(self.flush)
                self._kept_at_exit = True
            self._new[at.key] = (at.short, bytes.fromhex(sha256))
            if len(self._new) >= BUFFERED or time.monotonic() - self._since > BUFFERED_SECONDS:
                self.flush()

    def known(self, stamps: Sequence[Stamp]) -> list[str | None]:
        """The digest of each recording whose stamp is the one that it was kept under, and None for the others."""
        self.flush()
        if self.file is None or not self.file.is_file():
            return [None] * len(stamps)
        keys = [s.key for s in stamps]
        asked = (keys[first : first + ASKED_AT_ONCE] for first in range(0, len(keys), ASKED_AT_ONCE))
        rows = {key: row for some in asked for key, *row in self._ask(some)}
        return [_believed(s, rows.get(k)) if s.settled else None for s, k in zip(stamps, keys, strict=True)]

    def _ask(self, keys: Sequence[bytes]) -> list[tuple[bytes, ...]]:
        question = f"SELECT path, stamp, sha256, proof FROM digest WHERE path IN ({','.join('?' * len(keys))})"
        return self._with(lambda base: base.execute(question, keys).fetchall(), [])

    def flush(self) -> None:
        """Write what was kept since the last time."""
        with self._lock:
            new, self._new = self._new, {}
            if not new or self.file is None:
                return
            self._with(lambda base: _insert(base, new), None)

    def _with(self, do: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Do something with the database; where it is damaged, with a new one; where there can be none, nothing."""
        with self._lock:
            for _ in range(2):
                try:
                    return do(self._open())
                except (sqlite3.Error, OSError) as error:
                    self._close()
                    if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:  # locked, read-only, no space
                        return otherwise
                    self._discard()
            return otherwise

    def _open(self) -> sqlite3.Connection:
        if self._base is None or self._process != os.getpid():  # a connection must not be used after a fork
            assert self.file is not None
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._process = os.getpid()
            self._base = sqlite3.connect(self.file, timeout=PATIENCE_SECONDS, check_same_thread=False)
            self._base.execute("PRAGMA synchronous = OFF")  # what a power failure tears is made anew
            self._base.execute(LAYOUT)
        return self._base

    def _close(self) -> None:
        if self._base is not None and self._process == os.getpid():
            self._base.close()
        self._base = None

    def _discard(self) -> None:
        assert self.file is not None
        for ending in ("", "-journal"):
            with contextlib.suppress(OSError):
                self.file.with_name(self.file.name + ending).unlink()


@lru_cache(maxsize=1)
def own_digests() -> Digests:
    """The person's own cache, open once in a process."""
    return Digests(cache_file())


def cache_file() -> Path:
    """Where a person's digests are kept: in ``ASC_CACHE``, or in ``ascfeat`` of ``XDG_CACHE_HOME`` or ``~/.cache``."""
    name = "digests-1.sqlite"
    if os.environ.get("ASC_CACHE"):
        return Path(os.environ["ASC_CACHE"]).absolute() / name
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(base) if base.startswith("/") else Path.home() / ".cache"
    except RuntimeError:  # nobody's home
        folder = Path("/var/cache")
    return folder / "ascfeat" / name


def _insert(base: sqlite3.Connection, new: dict[bytes, tuple[bytes, bytes]]) -> None:
    rows = [(key, short, sha256, _proof(key, short, sha256)) for key, (short, sha256) in new.items()]
    with base:  # one transaction
        base.executemany("INSERT OR REPLACE INTO digest VALUES (?, ?, ?, ?)", rows)


def _proof(key: bytes, short: bytes, sha256: bytes) -> bytes:
    return hashlib.blake2b(key + short + sha256, digest_size=8).digest()


def _believed(asked: Stamp, row: Sequence[bytes] | None) -> str | None:
    """The digest of a row, if it is of this stamp and holds together."""
    if row is None or row[0] != asked.short:
        return None
    short, sha256, proof = row
    whole = isinstance(sha256, bytes) and len(sha256) == 32 and _proof(asked.key, short, sha256) == proof
    return sha256.hex() if whole else None
