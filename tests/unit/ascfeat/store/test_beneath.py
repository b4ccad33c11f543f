"""Does nothing below a store's folder lead its reader out of it, or keep it waiting?"""

import os
from pathlib import Path

import pytest

from ascfeat.store.beneath import Beneath, Outside, strangers


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file in it, a secret beside it, and every kind of way to the secret."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_bytes(b"secret")
    root = tmp_path / "store"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_bytes(b"content")
    (root / "link").symlink_to("../secret/file")
    (root / "inside").symlink_to("a/b/file")
    (root / "folder").symlink_to(tmp_path / "secret")
    (root / "a" / "up").symlink_to("../..")
    (root / "a" / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    return root


def test_files_open(root: Path) -> None:
    below = Beneath(root)
    for _ in range(2):  # folders are looked at once
        handle = below.open("a/b/file")
        assert os.read(handle, 100) == b"content"
        os.close(handle)
    assert below.path("a/b/new") == f"{root}/a/b/new"
    below.refuse("a/b/file")
    below.refuse("not/there/at/all")


def test_the_folder_itself_may_be_linked(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(root)
    os.close(Beneath(tmp_path / "elsewhere").open("a/b/file"))


@pytest.mark.parametrize("key", ["link", "inside", "folder/file", "a/up/secret/file", "a/loop", "pipe"])
def test_links_and_pipes_are_refused(root: Path, key: str) -> None:
    below = Beneath(root)
    for refusing in (below.open, below.refuse):
        with pytest.raises(Outside, match=r"a (link|pipe)"):
            refusing(key)


@pytest.mark.parametrize("key", ["../secret/file", "a/../../secret/file", "/etc/passwd", "", "a//b", "./a", "a\0b"])
def test_paths_that_do_not_only_go_down_are_refused(root: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no path below a folder"):
        Beneath(root).open(key)


def test_what_is_not_there_is_not_found(root: Path) -> None:
    for key in ("x", "a/x/y", "a/b/file/x"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            Beneath(root).open(key)
    with pytest.raises(Outside, match="a folder"):
        Beneath(root).open("a/b")


def test_a_folder_that_appears_later_is_looked_at(root: Path) -> None:
    below = Beneath(root)
    below.path("later/file")
    (root / "later").symlink_to("a")
    with pytest.raises(Outside, match="a link"):
        below.path("later/file")


def test_strangers_are_named_and_not_followed(root: Path) -> None:
    links = dict.fromkeys(["a/loop", "a/up", "folder", "inside", "link"], "a link")
    assert dict(strangers(root)) == {**links, "pipe": "a pipe"}
