"""The files of a dataset folder, loose or still inside the zip archives they were downloaded in."""

from __future__ import annotations

import codecs
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from ascschemas.problems import DatasetError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".aif", ".aiff", ".mp3", ".opus", ".w64", ".caf"})
"""File name endings that are taken for recordings."""
FILE_BYTES: Final = 4 << 30
"""Largest file that is read: what a WAV file can be."""
TEXT_BYTES: Final = 256 << 20
"""Largest list that is read: four times one of two million clips."""
UNPACKED: Final = 64 << 20
"""Bytes that a zip member may unpack to whatever its ratio; a minute of silence packs to a thousandth."""
RATIO: Final = 200
"""Times its packed size that a larger zip member may unpack to."""
BOUNDED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways of packing whose output is bounded while it is unpacked; a few bytes of bzip2 are gigabytes at once."""
DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What ``zipfile`` raises for bytes that are no archive, whatever they claim to be."""


class Tree:
    """Read access to a dataset folder by relative POSIX path.

    A path is looked for as a loose file first, then in the folder's ``*.zip`` archives. The single top folder that
    downloaded archives wrap their content in (``TAU-urban-acoustic-scenes-2019-development/``) is left out of the
    path, so both forms of a dataset have the same paths. Reading is safe from several threads.

    Parameters
    ----------
    root : Path
        The dataset folder.

    Raises
    ------
    DatasetError
        When the folder does not exist or one of its archives cannot be opened.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DatasetError(
                f"There is no dataset folder at {self.root}.", todo="Check the path; it must be a folder."
            )
        self._members: dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]] = {}
        self._tops: set[str] = set()
        for name in sorted(_names_in(self.root)):
            if name.lower().endswith(".zip") and not name.startswith("."):
                self._index(self.root / name)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.resolve().name

    @property
    def titles(self) -> frozenset[str]:
        """Every name the dataset goes by: its folder's, and the top folders that its archives wrap their content in."""
        return frozenset({self.name, *self._tops})

    def exists(self, path: str) -> bool:
        """Whether a file of that path is there."""
        return self._is_loose(path) or path in self._members

    def folder(self, path: str = "") -> tuple[str, ...]:
        """Names of what lies directly in a folder, loose or archived, sorted; hidden ones are left out."""
        prefix = f"{path}/" if path else ""
        loose = _names_in(self._at(path)) if self._at(path).is_dir() else []
        archived = {m[len(prefix) :].split("/", 1)[0] for m in self._members if m.startswith(prefix)}
        return tuple(sorted(n for n in {*loose, *archived} if not n.startswith(".")))

    def size(self, path: str) -> int:
        """Size of a file in bytes, uncompressed."""
        return self._at(path).stat().st_size if self._is_loose(path) else self._member(path)[1].file_size

    def modified(self, path: str) -> float:
        """When a file, or the archive that holds it, was last written, in seconds since the epoch."""
        return (self._at(path) if self._is_loose(path) else Path(str(self._member(path)[0].filename))).stat().st_mtime

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Raises
        ------
        FileNotFoundError
            When there is no such file, loose or archived.
        OSError
            When it cannot be read, a damaged archive included.
        """
        return self._read(path, FILE_BYTES)

    def text(self, path: str) -> str:
        """A metadata file as text, with ``\\n`` line ends whatever it has, and no byte-order mark.

        Raises
        ------
        DatasetError
            When the file is not there, cannot be read, or is neither UTF-8 nor UTF-16 with a byte-order mark.
        """
        try:
            data = self._read(path, TEXT_BYTES)
            wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            text = data.decode("utf-16" if wide else "utf-8-sig")
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"{path} in {self.root} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}.",
                todo="Save it as UTF-8; in another encoding the names in it would not match the files.",
            ) from error
        except OSError as error:
            raise DatasetError(f"{path} in {self.root} cannot be read: {error}", todo="Restore the file.") from error
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def files(self, suffixes: frozenset[str] = AUDIO_SUFFIXES) -> Iterator[str]:
        """Every path whose ending is one of ``suffixes``, sorted, loose and archived; hidden ones are left out.

        Linked folders are followed: an ``audio`` folder often is a link to a larger disk.
        """
        for path in sorted({*self._loose(), *self._members}):
            parts = PurePosixPath(path)
            if parts.suffix.lower() in suffixes and not any(part.startswith(".") for part in parts.parts):
                yield path

    def _loose(self) -> Iterator[str]:
        seen: set[tuple[int, int]] = set()  # a link may lead back to a folder above it
        for here, folders, names in os.walk(self.root, followlinks=True, onerror=_refuse):
            status = Path(here).stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            inside = Path(here).relative_to(self.root).as_posix()
            yield from (name if inside == "." else f"{inside}/{name}" for name in names)

    def _read(self, path: str, most: int) -> bytes:
        """A file's bytes, refused before they are read where they are more than so many."""
        loose = self._at(path)
        if loose.is_file():
            _refuse_size(loose.stat().st_size, most)
            return loose.read_bytes()
        archive, info = self._member(path)
        _refuse_size(info.file_size, most)
        _refuse_bomb(info)
        try:
            with archive.open(info) as member:
                data = member.read(info.file_size + 1)  # never more than it declares: the default takes 2 GiB at once
        except DAMAGED as error:
            raise OSError(f"{path} in {archive.filename} cannot be unpacked: {error}") from error
        if len(data) != info.file_size:
            raise _refused(f"its archive declares {info.file_size} bytes of it and holds {len(data)}")
        return data

    def _at(self, path: str) -> Path:
        """Where a loose file would be; one outside the folder, or of an impossible name, is not there."""
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise FileNotFoundError(f"{path!r} is no path inside {self.root}")
        return self.root / path

    def _is_loose(self, path: str) -> bool:
        try:
            return self._at(path).is_file()
        except OSError:  # too long a name, a folder without permission, a path that leads outside
            return False

    def _member(self, path: str) -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
        try:
            return self._members[path]
        except KeyError:
            raise FileNotFoundError(f"{path} is neither in {self.root} nor in its zip archives") from None

    def _index(self, path: Path) -> None:
        try:
            archive = _opened(path)
        except (*DAMAGED, OSError) as error:
            raise DatasetError(
                f"{path} is not a readable zip archive: {error}.",
                todo="Download it again, or move it out of the dataset folder if it does not belong there.",
            ) from error
        named = ((PurePosixPath(i.filename).parts, i) for i in archive.infolist() if _is_content(i))
        infos = [(parts, info) for parts, info in named if parts]
        tops = {parts[0] for parts, _ in infos}
        wrapped = len(tops) == 1 and all(len(parts) > 1 for parts, _ in infos)
        wrapped = wrapped and not tops & {"audio", "meta", "evaluation_setup"}
        self._tops.update(tops if wrapped else ())
        for parts, info in infos:
            self._members.setdefault("/".join(parts[wrapped:]), (archive, info))


def _is_content(info: zipfile.ZipInfo) -> bool:
    named = bool(info.filename)  # is_dir fails on a name that is empty
    return named and not info.is_dir() and not info.filename.startswith("__MACOSX/")


def _opened(path: Path) -> zipfile.ZipFile:
    """An archive whose members can all be there: no two of them packed into the same bytes.

    Raises
    ------
    OSError, or one of ``DAMAGED``
        When it is none.
    """
    if not path.is_file():  # a named pipe would be waited for
        raise OSError("it is no file")
    archive = zipfile.ZipFile(path)
    packed, there = sum(info.compress_size for info in archive.infolist()), path.stat().st_size
    if packed > there:
        raise OSError(f"its members take {packed} bytes, and it has {there}")
    return archive


def _refuse_bomb(info: zipfile.ZipInfo) -> None:
    if info.compress_type not in BOUNDED:
        raise _refused("its archive is packed by another method than deflate")
    if info.file_size > max(UNPACKED, RATIO * info.compress_size):
        raise _refused(f"{info.compress_size} bytes of its archive unpack to {info.file_size}")


def _refuse_size(size: int, most: int) -> None:
    if size > most:
        raise _refused(f"it has {size} bytes, and at most {most} are read")


def _refused(why: str) -> OSError:
    """An error whose words can be stored: they name no path."""
    error = OSError(why)
    error.strerror = why
    return error


def _names_in(folder: Path) -> list[str]:
    try:
        return [p.name for p in folder.iterdir()]
    except OSError as error:
        raise DatasetError(f"The folder {folder} cannot be read: {error}", todo="Check its permissions.") from error


def _refuse(error: OSError) -> None:
    """Stop where ``os.walk`` would leave an unreadable folder out without a word."""
    raise DatasetError(f"The folder {error.filename} cannot be read: {error}", todo="Check its permissions.") from error
