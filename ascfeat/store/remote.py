"""Places on servers: a bucket of an object store, to read and write, and a plain web server, to read."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import unquote, urlsplit

from typing_extensions import override

from ascfeat.store import contents, metadata
from ascfeat.store.listing import listing
from ascfeat.store.objects import Marked, Objects, fill, patience
from ascfeat.store.places import PARTIAL, Bytes, Piece, Place, PlaceError, Span, refuse_writing
from ascschemas.problems import StoreError

UPLOADS = 8
"""Small files sent at once."""
DEEPEST = 32
"""Levels of listed folders: a web server may list a link to a folder above."""


class _Remote(Place):
    """What buckets and web servers have in common: keys below a prefix of one server's objects."""

    def __init__(self, objects: Objects, prefix: str = "") -> None:
        self.objects, self.prefix = objects, prefix

    def __str__(self) -> str:
        return f"{self.objects.root}/{self.prefix}".rstrip("/")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and str(other) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))

    @override
    def __truediv__(self, key: str) -> Self:
        return type(self)(self.objects, self._at(key))

    @property
    @override
    def absolute(self) -> str:
        return str(self)

    @property
    @override
    def name(self) -> str:
        return str(self).rsplit("/", 1)[-1]

    @property
    @override
    def parent(self) -> Self:
        return type(self)(self.objects, self.prefix.rpartition("/")[0])

    @override
    def read(self, key: str) -> bytes:
        return self.objects.read(self._file(key))

    @override
    def tail(self, key: str, count: int) -> bytes:
        return self.objects.tail(self._file(key), count)

    @override
    def spans(self, key: str, spans: Sequence[Span], out: Sequence[Bytes]) -> Iterator[None]:
        if spans:
            yield from fill(self.objects.spans(self._file(key), spans), spans, out)

    @override
    def size(self, key: str) -> int:
        return self.objects.head(self._file(key))[0]

    @override
    def modified(self, key: str) -> float:
        return self.objects.head(self._file(key))[1]

    @override
    def version(self, key: str) -> str:
        return self.objects.version(self._file(key))

    @override
    def free(self) -> int | None:
        return None

    @override
    def zarr(self) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(self.objects.rooted(self.prefix), read_only=True)

    def _file(self, key: str) -> str:
        if not key:
            raise FileNotFoundError(2, "No such file", str(self))
        return self._at(key)

    def _at(self, key: str) -> str:
        """The whole key; the empty one is the place itself."""
        if not key:
            return self.prefix
        if key.startswith("/") or "\0" in key or {"", ".", ".."} & {*key.removesuffix("/").split("/")}:
            raise ValueError(f"{key!r} leaves {self}")
        key = key.removesuffix("/")
        return f"{self.prefix}/{key}" if self.prefix else key


class Bucket(_Remote):
    """A bucket of an S3-compatible object store, or what lies below a prefix of it."""

    @override
    def files(self, key: str = "") -> Iterator[str]:
        above = f"{self.prefix}/" if self.prefix else ""
        found = (name for name, _ in self.objects.listed(self._at(key)))
        yield from sorted(name.removeprefix(above) for name in found if not name.endswith(PARTIAL))

    @override
    def folders(self) -> list[str]:
        """As of every place; SeaweedFS names a folder for some seconds more when all that was in it is gone."""
        return sorted(name for name in self.objects.names(self.prefix) if not name.startswith("."))

    @override
    def total(self) -> int | None:
        return sum(size for _, size in self.objects.listed(self.prefix))

    @override
    def make(self) -> None:
        """Nothing: a bucket has keys, and no folders."""

    @override
    def write(self, key: str, pieces: Iterable[Piece]) -> None:
        self.objects.put(self._file(key), pieces)

    @override
    def create(self, key: str, data: bytes) -> bool:
        return self.objects.create(self._file(key), data) is not None

    @override
    def remove(self, key: str) -> None:
        self.objects.delete([self._file(key)])

    @override
    def adopt(self, folder: Path, last: str) -> bool:
        """As of every place. The caller holds the place's lock: what a killed one left here is removed first."""
        if self.exists(last):
            return False
        mine = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        for stale in {*self.files()} - {*mine}:
            self.remove(stale)
        with ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(lambda key: self.write(key, [(folder / key).read_bytes()]), [k for k in mine if k != last]))
        whole = self.create(last, (folder / last).read_bytes())
        if whole:
            shutil.rmtree(folder)
        return whole

    @override
    def clear(self) -> None:
        keys = [name for name, _ in self.objects.listed(self.prefix)]
        first = self._at(metadata.ROOT)  # what makes a store one goes first: a reader never finds half of it
        if first in keys:
            self.objects.delete([first])
        self.objects.delete([key for key in keys if key != first])

    @override
    def sweep(self) -> None:
        self.objects.unfinished(self.prefix)

    def marked(self, key: str) -> Marked:
        """A small file, and which version of it that is."""
        return self.objects.marked(self._file(key))

    def swap(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Replace a file if it is still the version of that tag (None: not there), and return the new one's tag.

        None where it is another version by now: of several who try at once, one gets a tag.
        """
        if tag is None:
            return self.objects.create(self._file(key), data)
        return self.objects.swap(self._file(key), data, tag)

    def clock(self, key: str) -> float:
        """The server's time, in seconds since the epoch: a file of its own is written, looked at, and removed."""
        probe = f"{key}.{secrets.token_hex(8)}"
        self.write(probe, [b""])
        try:
            return self.modified(probe)
        finally:
            self.remove(probe)


class Web(_Remote):
    """What a plain web server serves, to read: such a server cannot list a store, and a sealed store need not be."""

    writable = False

    @override
    def files(self, key: str = "") -> Iterator[str]:
        """Keys of all files below a key: of a sealed store from its metadata, of anything else from listings.

        Raises
        ------
        PlaceError
            When it is no sealed store and the server makes no listings.
        """
        self._at(key)
        try:
            root = self.read(metadata.ROOT)
        except FileNotFoundError:
            yield from sorted(self._listed(key, DEEPEST))
            return
        yield from (k for k in self._stored(root) if not key or k.startswith(f"{key}/"))

    @override
    def folders(self) -> list[str]:
        """Names of folders, where the server makes listings.

        Raises
        ------
        PlaceError
            When it makes none.
        """
        found = listing(str(self), seconds=patience())
        return [name[:-1] for name in found if name.endswith("/") and not name.startswith(".")]

    @override
    def total(self) -> int | None:
        return None

    @override
    def make(self) -> NoReturn:
        raise refuse_writing(self)

    @override
    def write(self, key: str, pieces: Iterable[Piece]) -> NoReturn:
        raise refuse_writing(self)

    @override
    def create(self, key: str, data: bytes) -> NoReturn:
        raise refuse_writing(self)

    @override
    def remove(self, key: str) -> NoReturn:
        raise refuse_writing(self)

    @override
    def adopt(self, folder: Path, last: str) -> NoReturn:
        raise refuse_writing(self)

    @override
    def clear(self) -> NoReturn:
        raise refuse_writing(self)

    @override
    def sweep(self) -> NoReturn:
        raise refuse_writing(self)

    def _stored(self, root: bytes) -> list[str]:
        """Files of a store, as its root says; an unsealed one's cannot be told."""
        try:
            found = [metadata.ROOT, *contents.files(root)]
        except (ValueError, RecursionError) as error:
            raise PlaceError(
                f"The files of {self} cannot be told: {error}.",
                todo="A web server serves sealed stores: finish it with `ascfeat extract`, and publish it then.",
            ) from error
        return sorted([*found, metadata.SPARE] if self.exists(metadata.SPARE) else found)

    def _listed(self, key: str, levels: int) -> Iterator[str]:
        if not levels:
            raise PlaceError(
                f"{self}/{key} lists folders without end.", todo="Remove the link that leads upwards there."
            )
        for name in listing(f"{self}/{key}", seconds=patience()):
            below = f"{key}/{name}".lstrip("/")
            if name.endswith("/"):
                yield from self._listed(below[:-1], levels - 1)
            elif not name.endswith(PARTIAL):
                yield below


def remote_place(url: str) -> Place:
    """The place on a server that a URL names: ``s3://bucket/prefix``, ``http://host/path``, ``https://host/path``.

    Endpoint, region and credentials of buckets are those that boto3 finds: ``AWS_ENDPOINT_URL``, ``AWS_PROFILE``,
    ``AWS_ACCESS_KEY_ID`` …, ``~/.aws/config``, ``~/.aws/credentials``, the machine's role. Without any credentials
    requests are not signed, as public buckets want it. Nothing is asked of the server yet.

    Raises
    ------
    StoreError
        When the URL is of a kind that is not known, or names no place that can be.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("s3", "http", "https"):
        raise _unknown(url, f"{parts.scheme}:// is not one of s3://, http://, https://")
    if not parts.netloc:
        raise _unknown(url, "it names no bucket or server")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise _unknown(url.split("?")[0].rsplit("@", 1)[-1], "it holds more than a server and a path")
    kind, path = (Bucket, parts.path) if parts.scheme == "s3" else (Web, unquote(parts.path))
    root = kind(Objects(f"{parts.scheme}://{parts.netloc}"))
    try:
        return root / path.strip("/")
    except ValueError:
        raise _unknown(url, "its path holds an empty step, . or ..") from None


def _unknown(url: str, why: str) -> StoreError:
    return StoreError(
        f"{url} is no place for stores: {why}.",
        todo="Name a folder, s3://bucket/prefix or http://host/path; credentials: AWS_PROFILE or AWS_… variables.",
    )
