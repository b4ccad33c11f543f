"""The files of a dataset folder, loose or still inside the zip archives they were downloaded in."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ascschemas.problems import DatasetError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".aif", ".aiff", ".mp3", ".opus", ".w64", ".caf"})
"""File name endings that are taken for recordings."""


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
        for path in sorted(self.root.glob("*.zip")):
            self._index(path)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.resolve().name

    def exists(self, path: str) -> bool:
        """Whether a file of that path is there."""
        return (self.root / path).is_file() or path in self._members

    def size(self, path: str) -> int:
        """Size of a file in bytes, uncompressed."""
        loose = self.root / path
        return loose.stat().st_size if loose.is_file() else self._member(path)[1].file_size

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Raises
        ------
        FileNotFoundError
            When there is no such file, loose or archived.
        OSError
            When it cannot be read, a damaged archive included.
        """
        loose = self.root / path
        if loose.is_file():
            return loose.read_bytes()
        archive, info = self._member(path)
        try:
            return archive.read(info)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise OSError(f"{path} in {archive.filename} cannot be unpacked: {error}") from error
        except Exception as error:
            if type(error).__module__ in {"zlib", "lzma"}:
                raise OSError(f"{path} in {archive.filename} cannot be unpacked: {error}") from error
            raise

    def text(self, path: str) -> str:
        """A metadata file as text, with ``\\n`` line ends whatever it has, and no byte-order mark."""
        text = self.read(path).decode("utf-8-sig", errors="replace")
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def files(self, suffixes: frozenset[str] = AUDIO_SUFFIXES) -> Iterator[str]:
        """Every path whose ending is one of ``suffixes``, sorted, loose and archived; hidden ones are left out."""
        loose = (p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())
        for path in sorted({*loose, *self._members}):
            parts = PurePosixPath(path)
            if parts.suffix.lower() in suffixes and not any(part.startswith(".") for part in parts.parts):
                yield path

    def _member(self, path: str) -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
        try:
            return self._members[path]
        except KeyError:
            raise FileNotFoundError(f"{path} is neither in {self.root} nor in its zip archives") from None

    def _index(self, path: Path) -> None:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise DatasetError(
                f"{path} is not a readable zip archive: {error}.",
                todo="Download it again, or move it out of the dataset folder if it does not belong there.",
            ) from error
        infos = [i for i in archive.infolist() if not i.is_dir() and not i.filename.startswith("__MACOSX/")]
        tops = {PurePosixPath(i.filename).parts[0] for i in infos}
        wrapped = len(tops) == 1 and all("/" in i.filename for i in infos)
        wrapped = wrapped and next(iter(tops)) not in {"audio", "meta", "evaluation_setup"}
        for info in infos:
            inner = info.filename.split("/", 1)[1] if wrapped else info.filename
            self._members.setdefault(inner, (archive, info))
