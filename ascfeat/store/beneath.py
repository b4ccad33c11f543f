"""Files below a folder and never through a link: a store that others made cannot lead its reader out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ascschemas.problems import StoreError

READING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Without waiting: a named pipe would keep its opener until somebody writes into it."""
REMEMBERED: Final = 1 << 16
"""Folders known to be none's link."""


class Outside(StoreError):
    """Something below a folder that is a link, a pipe or a device, where only files and folders may be."""

    def __init__(self, root: str, key: str, kind: str) -> None:
        super().__init__(
            f"{root} cannot be used: {key} leads through {kind}.",
            todo="A store has files and folders only: put the file itself there, or copy the store with `cp -rL`.",
        )


class Beneath:
    """The regular files below a folder; safe to use from several threads.

    The folder itself may be reached through links: where a lab keeps its stores is its own affair. Against somebody
    who changes folders into links while they are read it is no guard: who may write a store may write its values.

    Parameters
    ----------
    root : Path
        The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self._folders: set[str] = set()

    def __reduce__(self) -> tuple[type[Beneath], tuple[Path]]:
        return Beneath, (Path(self._root),)

    def open(self, key: str) -> int:
        """A handle for reading a file; the caller closes it.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        Outside
            When a step of the path is a link, or what is there is no regular file.
        """
        path = self.path(key)
        try:
            handle = os.open(path, READING)
        except OSError:
            self._refuse(path, key)
            raise
        if not stat.S_ISREG(mode := os.fstat(handle).st_mode):
            os.close(handle)
            raise Outside(self._root, key, _kind(mode))
        return handle

    def path(self, key: str) -> str:
        """The path of a file or folder, there or not, once every folder above it is known to be one.

        Raises
        ------
        ValueError
            When the key is no relative path that goes down only.
        Outside
            When a folder above it is a link or something else.
        """
        if "\0" in key or {"", ".", ".."} & {*key.split("/")}:
            raise ValueError(f"{key!r} is no path below a folder")
        at = key.rfind("/")
        if at > 0 and key[:at] not in self._folders:
            self._above(key[:at], key)
        return f"{self._root}/{key}"

    def refuse(self, key: str) -> None:
        """Refuse a link or anything else that is neither file nor folder; for what something else opens by its path.

        Raises
        ------
        Outside
            When it is one, or a folder above it is.
        """
        self._refuse(self.path(key), key)

    def _above(self, folder: str, key: str) -> None:
        """Look at a folder and those above it, down to the root; remember those that are there."""
        at = -1
        while at < len(folder):
            at = folder.find("/", at + 1) if "/" in folder[at + 1 :] else len(folder)
            there = self._refuse(f"{self._root}/{folder[:at]}", key)
            if not there:
                return
            if len(self._folders) >= REMEMBERED:
                self._folders.clear()
            self._folders.add(folder[:at])

    def _refuse(self, path: str, key: str) -> bool:
        """Whether there is something at a path, which is a file or a folder."""
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise Outside(self._root, key, f"{_kind(mode)}, {path}")
        return True


def strangers(root: Path) -> Iterator[tuple[str, str]]:
    """Everything below a folder that is neither file nor folder: ``(key, what it is)``; links are not followed."""
    folders = [""]
    while folders:
        here = folders.pop()
        with os.scandir(root / here) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                key = f"{here}/{entry.name}" if here else entry.name
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    folders.append(key)
                elif not stat.S_ISREG(mode):
                    yield key, _kind(mode)


def _kind(mode: int) -> str:
    known = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return known.get(stat.S_IFMT(mode), "a device")
