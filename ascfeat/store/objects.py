"""Door to obstore: the objects of one bucket or web server, with errors that a person can act on."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from ascfeat.store.answers import refusal
from ascfeat.store.aws import abort_uploads, access, not_installed
from ascfeat.store.places import Bytes, Piece, PlaceError, Span

PATIENCE = "ASCFEAT_NETWORK_SECONDS"
"""Environment variable: how long a server that is down is asked again, in seconds."""
PATIENCE_SECONDS = 30.0
SILENCES = 2
"""A server that says nothing is given up after so many times that patience; it may be thinking."""
UPLOAD_SECONDS = 300.0
"""The same for large uploads, of which the way there is part: 32 MiB at 110 kB/s."""
LARGE = 1 << 20
"""Bytes from which an upload is large."""
ONE_PUT = 64 << 20
"""Bytes up to which a file is sent in one request, of which nothing stays when it is cut off; a shard is."""
PART = 16 << 20
"""Bytes of one part of a larger file."""
NEAR = 1 << 20
"""Spans of a file that are so near to each other are asked for in one request."""
BATCH = 1000
"""Objects removed in one request."""
MARK = "ascfeat-writer"
"""Attribute of an object that must be new, by which its writer knows it when the answer got lost on the way."""
REPLACED = ("Precondition", "AlreadyExists")

Listed = tuple[str, int]
"""Key and size."""


@dataclass(frozen=True)
class Marked:
    """A small object as it is now."""

    data: bytes
    """What it holds."""
    tag: str
    """The server's name for this version of it."""
    modified: float
    """When it was written, by the server's clock, in seconds since the epoch."""


class Objects:
    """Everything in one bucket (``s3://bucket``) or on one web server (``http://host:port``), by key.

    It is opened when it is first asked, in each process anew, so that it can be pickled and handed to other threads.

    Raises
    ------
    FileNotFoundError
        For a key that is not there.
    PlaceError
        When the server is down, says nothing, or refuses: in about 30 seconds (``ASCFEAT_NETWORK_SECONDS``).
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def __reduce__(self) -> tuple[type[Objects], tuple[str]]:
        return Objects, (self.root,)

    def read(self, key: str) -> bytes:
        """A whole object."""
        with self._asking(key):
            return bytes(_obs().get(self._store, key).bytes())

    def marked(self, key: str) -> Marked:
        """A whole object, and which version of it that is."""
        with self._asking(key):
            found = _obs().get(self._store, key)
            tag, modified = found.meta["e_tag"] or "", found.meta["last_modified"]
            return Marked(bytes(found.bytes()), tag, modified.timestamp())

    def tail(self, key: str, count: int) -> bytes:
        """The last bytes of an object; all of it where it is shorter."""
        if not count:
            return b""
        try:
            with self._asking(key):
                return bytes(_obs().get(self._store, key, options={"range": {"suffix": count}}).bytes())
        except (_NoRanges, EOFError):  # servers say so of an empty object, too
            return self.read(key)[-count:]

    def spans(self, key: str, spans: Sequence[Span]) -> list[memoryview]:
        """Some ranges of an object, as buffers; near ones in one request, others at the same time.

        Raises
        ------
        EOFError
            When the object ends before.
        """
        found: dict[Span, memoryview] = {}
        asked = _joined([span for span in spans if span[1] > span[0]])
        try:
            with self._asking(key):
                starts, ends = [start for start, _ in asked], [stop for _, stop in asked]
                pieces = _obs().get_ranges(self._store, key, starts=starts, ends=ends, coalesce=0) if asked else []
        except _NoRanges:
            whole = memoryview(self.read(key))
            pieces = [whole[start:stop] for start, stop in asked]
        for (start, stop), piece in zip(asked, pieces, strict=True):
            if len(piece) < stop - start:
                raise EOFError(f"{key} ends at {start + len(piece)} bytes, and {stop} were expected")
            found[start, stop] = memoryview(piece)
        return [_part(found, start, stop) for start, stop in spans]

    def head(self, key: str) -> tuple[int, float]:
        """Size of an object, and when it was written by the server's clock, in seconds since the epoch."""
        try:
            with self._asking(key):
                said = _obs().head(self._store, key)
        except FileNotFoundError:
            if self._is_bucket:
                self.read(key)  # tells a bucket that is not there from a key that is not
            raise
        return said["size"], said["last_modified"].timestamp()

    def version(self, key: str) -> str:
        """What tells an object from another that is put in its place."""
        with self._asking(key):
            said = _obs().head(self._store, key)
        return f"{said['e_tag']} {said['size']} {said['last_modified'].timestamp()}"

    def listed(self, prefix: str) -> list[Listed]:
        """Every object below a prefix, in no order."""
        with self._asking(prefix, "listed"):
            found = [(m["path"], m["size"]) for page in _obs().list(self._store, prefix or None) for m in page]
        folders = {key[:i] for key, _ in found for i, c in enumerate(key) if c == "/"}
        return [(key, size) for key, size in found if size or key not in folders]  # some tools store folders as objects

    def names(self, prefix: str) -> list[str]:
        """Names directly below a prefix that have objects below them."""
        with self._asking(prefix, "listed"):
            return [
                p.rsplit("/", 1)[-1] for p in _obs().list_with_delimiter(self._store, prefix or None)["common_prefixes"]
            ]

    def put(self, key: str, pieces: Iterable[Piece]) -> None:
        """Write an object, whole or not at all; an older one is replaced."""
        held, rest = _first_bytes(iter(pieces), ONE_PUT)
        with self._asking(key, "written"):
            if rest is None:
                _obs().put(self._patient if len(held) > LARGE else self._store, key, held, use_multipart=False)
            else:
                buffers = itertools.chain([held], (_flat(piece) for piece in rest))
                _obs().put(self._patient, key, buffers, use_multipart=True, chunk_size=PART, max_concurrency=2)

    def create(self, key: str, data: bytes) -> str | None:
        """Write an object that must not be there yet; of several who try at once, one gets its tag, others None."""
        return self._put_if(key, data, "create")

    def swap(self, key: str, data: bytes, tag: str) -> str | None:
        """Replace an object if it is still the version of that tag; the new one's, or None where it is another."""
        return self._put_if(key, data, {"e_tag": tag})

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; nothing happens where there are none."""
        with self._asking(keys[0] if keys else "", "removed"):
            for i in range(0, len(keys), BATCH):
                _obs().delete(self._store, list(keys[i : i + BATCH]))

    def unfinished(self, prefix: str) -> None:
        """Remove what a killed writer left of files that are sent in parts."""
        if self._is_bucket:
            abort_uploads(self._bucket, prefix)

    def rooted(self, prefix: str) -> Any:
        """obstore's own store, of what lies below a prefix; for zarr-python."""
        return self._opened(prefix, PATIENCE_SECONDS * SILENCES)

    @property
    def _is_bucket(self) -> bool:
        return self.root.startswith("s3://")

    @property
    def _bucket(self) -> str:
        return self.root.removeprefix("s3://")

    @cached_property
    def _store(self) -> Any:
        return self._opened("", patience() * SILENCES)

    @cached_property
    def _patient(self) -> Any:
        """For large uploads."""
        return self._opened("", max(UPLOAD_SECONDS, patience() * SILENCES))

    def _opened(self, prefix: str, silence: float) -> Any:
        _refuse_forked(self.root)
        from obstore.store import HTTPStore

        if self._is_bucket:
            return _open_bucket(self._bucket, prefix, silence)
        where = f"{self.root}/{prefix}" if prefix else self.root
        return HTTPStore(where, client_options=_client(silence, self.root), retry_config=_retries())

    def _put_if(self, key: str, data: bytes, mode: Any) -> str | None:
        """Write on a condition; where that fails, it may be because the object is ours, and the answer got lost."""
        mark = secrets.token_hex(16)
        try:
            with self._asking(key, "written"):
                return _obs().put(self._store, key, data, mode=mode, attributes={MARK: mark})["e_tag"] or ""
        except (_Taken, FileNotFoundError):
            pass
        try:
            with self._asking(key):
                found = _obs().get(self._store, key)
        except FileNotFoundError:
            return None
        return found.meta["e_tag"] or "" if (found.attributes or {}).get(MARK) == mark else None

    @contextmanager
    def _asking(self, key: str, verb: str = "read") -> Iterator[None]:
        """Turn what obstore says of a request into what a person, or a caller, can act on."""
        _refuse_forked(self.root)
        _obs()
        from obstore.exceptions import BaseError

        where = f"{self.root}/{key}".rstrip("/")
        try:
            yield
        except FileNotFoundError as error:
            if "<Code>NoSuchBucket</Code>" in str(error):
                raise refusal(where, verb, str(error)) from None
            raise FileNotFoundError(2, "No such file", where) from None
        except BaseError as error:
            kind, text = type(error).__name__.removesuffix("Error"), str(error)
            if kind in REPLACED or "<Code>ConditionalRequestConflict</Code>" in text:
                raise _Taken(where) from None
            if kind == "NotSupported":
                raise _NoRanges(where) from None
            if "status code: 416" in text:
                raise EOFError(f"{where} ends before the bytes that were asked for") from None
            if "Length Header missing" in text:  # a listing made on the fly, say
                raise FileNotFoundError(2, "No such file", where) from None
            raise refusal(where, verb, text) from None


class _Taken(Exception):
    """Another version of an object is there than the one to be replaced."""


class _NoRanges(Exception):
    """A server sent the whole file where a part of it was asked for."""


def patience() -> float:
    """Seconds for which a server that is down is asked again.

    Raises
    ------
    PlaceError
        When ``ASCFEAT_NETWORK_SECONDS`` is no positive number.
    """
    said = os.environ.get(PATIENCE, "")
    try:
        seconds = float(said) if said else PATIENCE_SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86400:
        raise PlaceError(
            f"{PATIENCE} is {said!r}.", todo="Set it to a number of seconds, or not at all: it is 30 then."
        )
    return seconds


def _obs() -> Any:
    """obstore, if it is installed; it starts threads of its own in the first process that uses it."""
    try:
        import obstore
    except ImportError as error:
        raise not_installed() from error
    _first_process()
    return obstore


@cache
def _first_process() -> int:
    """The process that used obstore first; a forked one inherits the answer, and none of obstore's threads."""
    return os.getpid()


def _refuse_forked(where: str) -> None:
    """Refuse to wait for ever: after a fork, obstore's threads are gone and its locks are as they were."""
    if _first_process() == os.getpid():
        return
    raise PlaceError(
        f"{where} was used before this process was forked off, and cannot be used in it.",
        todo='Start processes by "spawn" (multiprocessing_context of a DataLoader), or use threads.',
    )


def _open_bucket(bucket: str, prefix: str, silence: float) -> Any:
    """obstore's bucket, at the endpoint and with the credentials that boto3 finds."""
    from obstore.store import S3Store

    found = access(bucket)
    signed = {"credential_provider": found.credentials} if found.credentials else {"skip_signature": True}
    return S3Store(
        bucket,
        prefix=prefix or None,
        endpoint=found.endpoint,
        region=found.region,
        virtual_hosted_style_request=found.hosted,
        client_options=_client(silence, found.endpoint),
        retry_config=_retries(),
        **cast(Any, signed),
    )


def _client(silence: float, where: str) -> Any:
    options: dict[str, Any] = {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=min(5.0, patience())),
        "read_timeout": timedelta(seconds=silence),
        "timeout": timedelta(days=1),  # of a whole request: there are slow ways and large files
    }
    bundle = os.environ.get("AWS_CA_BUNDLE")
    if bundle and where.startswith("https:"):
        try:
            options["root_certificate"] = Path(bundle).read_bytes()
        except OSError as error:
            why = f"AWS_CA_BUNDLE names {bundle}, which cannot be read: {error.strerror}"
            raise PlaceError(f"{where} cannot be opened: {why}.", todo="Correct that variable, or unset it.") from error
    return options


def _retries() -> Any:
    waits = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2}
    return {"max_retries": 1000, "retry_timeout": timedelta(seconds=patience()), "backoff": waits}


def _first_bytes(pieces: Iterator[Piece], most: int) -> tuple[bytes, Iterator[Piece] | None]:
    """Pieces as one, and None; or the first of them, and the rest, where they are more than so many bytes."""
    held: list[memoryview] = []
    size = 0
    for piece in pieces:
        held.append(_flat(piece))
        size += len(held[-1])
        if size > most:
            return b"".join(held), pieces
    return b"".join(held), None


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Spans in their order on the disk, near ones as one; obstore's own joining panics beyond the end of a file."""
    joined: list[Span] = []
    for start, stop in sorted(spans):
        if joined and start - joined[-1][1] <= NEAR:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined


def _part(found: dict[Span, memoryview], start: int, stop: int) -> memoryview:
    """Bytes of a span out of the joined one that holds it."""
    if start == stop:
        return memoryview(b"")
    first, held = next((at, held) for (at, end), held in found.items() if at <= start and stop <= end)
    return held[start - first : stop - first]


def _flat(piece: Piece) -> memoryview:
    view = memoryview(cast(Any, piece))
    return view.cast("B") if view.nbytes else memoryview(b"")


def fill(found: Sequence[memoryview], spans: Sequence[Span], out: Sequence[Bytes]) -> Iterator[None]:
    """Copy buffers into arrays, one after the other, and yield after each."""
    for piece, (start, stop), into in zip(found, spans, out, strict=True):
        into[: stop - start] = np.frombuffer(piece, np.uint8)
        yield
