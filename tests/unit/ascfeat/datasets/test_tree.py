"""The files of a dataset folder: loose, linked or archived, and what cannot be read."""

import os
import random
import tracemalloc
import zipfile

import pytest

from ascfeat.datasets.opening import open_dataset
from ascfeat.datasets.tree import Tree
from ascschemas.problems import DatasetError


def archive(path, members):
    with zipfile.ZipFile(path, "w") as target:
        for name, data in members.items():
            target.writestr(name, data)


def test_top_folder_of_an_archive_is_left_out_of_paths(lay):
    root = lay({})
    archive(root / "x.meta.zip", {"TAU/meta.csv": "m", "TAU/evaluation_setup/fold1_train.csv": "t"})
    archive(root / "x.audio.1.zip", {"TAU/audio/1.wav": b"1"})
    tree = Tree(root)
    assert tree.text("meta.csv") == "m"
    assert tree.read("audio/1.wav") == b"1"
    assert tree.size("audio/1.wav") == 1
    assert tree.titles == {"set", "TAU"}
    assert tree.folder() == ("audio", "evaluation_setup", "meta.csv", "x.audio.1.zip", "x.meta.zip")
    assert tree.folder("evaluation_setup") == ("fold1_train.csv",)


@pytest.mark.parametrize("top", ["audio", "evaluation_setup"])
def test_folder_that_belongs_to_the_layout_is_kept(lay, top):
    root = lay({})
    archive(root / "x.zip", {f"{top}/1.wav": b"1"})
    assert Tree(root).exists(f"{top}/1.wav")


def test_loose_file_comes_before_archived_one(lay):
    root = lay({"meta.csv": "loose"})
    archive(root / "x.zip", {"meta.csv": "archived", "other": ""})
    assert Tree(root).text("meta.csv") == "loose"


def test_files_are_sorted_and_hidden_ones_left_out(lay):
    root = lay({"b/2.WAV": "", "a/1.flac": "", "a/note.txt": "", ".trash/3.wav": "", "a/._1.wav": "", "__MACOSX/x": ""})
    archive(root / "x.zip", {"c/3.wav": b"", "__MACOSX/c/3.wav": b""})
    assert list(Tree(root).files()) == ["3.wav", "a/1.flac", "b/2.WAV"]


def test_linked_folders_are_followed_once(lay, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "1.wav").write_bytes(b"")
    root = lay({})
    (root / "audio").symlink_to(disk)
    (disk / "up").symlink_to(root)
    assert list(Tree(root).files()) == ["audio/1.wav"]


def test_byte_order_mark_and_line_ends_are_no_text(lay):
    root = lay({"a.csv": "\ufeffx\r\ny\rz\n", "b.csv": "x\r\ny".encode("utf-16")})
    assert Tree(root).text("a.csv") == "x\ny\nz\n"
    assert Tree(root).text("b.csv") == "x\ny"


def test_other_encodings_are_refused_with_the_byte(lay):
    root = lay({"a.csv": "café".encode("latin-1")})
    with pytest.raises(DatasetError, match=r"a\.csv in .* is not UTF-8 text: byte 3 is 0xe9"):
        Tree(root).text("a.csv")


def test_missing_file_is_a_dataset_error_as_text_and_file_not_found_as_bytes(lay):
    tree = Tree(lay({}))
    with pytest.raises(DatasetError, match="cannot be read"):
        tree.text("meta.csv")
    with pytest.raises(FileNotFoundError):
        tree.read("meta.csv")
    assert not tree.exists("a" * 5000)
    assert not tree.exists("a\0b")


def test_damaged_archive_is_named(lay):
    root = lay({"broken.zip": b"PK\x03\x04 not an archive"})
    with pytest.raises(DatasetError, match=r"broken\.zip is not a readable zip archive"):
        Tree(root)


def test_damaged_member_is_an_os_error(lay):
    root = lay({})
    archive(root / "x.zip", {"a.wav": b"0123456789" * 50})
    data = bytearray((root / "x.zip").read_bytes())
    data[60] ^= 0xFF
    (root / "x.zip").write_bytes(bytes(data))
    with pytest.raises(OSError, match=r"a\.wav in .*x\.zip cannot be unpacked"):
        Tree(root).read("a.wav")


def test_no_folder_is_a_dataset_error(lay, tmp_path):
    with pytest.raises(DatasetError, match="There is no dataset folder at"):
        Tree(tmp_path / "nowhere")
    (tmp_path / "file.csv").write_text("")
    with pytest.raises(DatasetError, match="it must be a folder"):
        Tree(tmp_path / "file.csv")


def test_folder_without_permission_is_not_skipped(lay, monkeypatch):
    root = lay({"a/1.wav": "", "b/2.wav": ""})
    tree = Tree(root)

    def walk(top, followlinks, onerror):
        onerror(PermissionError(13, "Permission denied", str(root / "b")))
        return iter(())

    monkeypatch.setattr("ascfeat.datasets.tree.os.walk", walk)
    with pytest.raises(DatasetError, match=r"The folder .*b cannot be read"):
        list(tree.files())


@pytest.mark.parametrize("path", ["../secret.wav", "a/../../secret.wav", "/etc/passwd", "a\0b"])
def test_paths_that_lead_outside_are_not_there(lay, tmp_path, path):
    (tmp_path / "secret.wav").write_bytes(b"secret")
    tree = Tree(lay({"a/1.wav": ""}))
    assert not tree.exists(path)
    for look in (tree.read, tree.size, tree.modified):
        with pytest.raises(FileNotFoundError):
            look(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        tree.text(path)


def test_members_that_would_lead_outside_are_never_written_and_never_clips(lay, tmp_path):
    root = lay({})
    archive(root / "x.zip", {"../out.wav": b"1", "/abs.wav": b"2", "./.": b"3", ".": b"4", "bus/in.wav": b"5"})
    tree = Tree(root)
    assert tree.read("bus/in.wav") == b"5"
    assert list(tree.files()) == ["//abs.wav", "bus/in.wav"]
    with pytest.raises(DatasetError, match="a file inside the dataset folder"):
        open_dataset(root, "folders")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["set", "x.zip"]


def rewritten(path, old: bytes, new: bytes) -> None:
    """Put other bytes into an archive, wherever the old ones are."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def test_a_member_of_a_name_that_is_empty_is_left_out(lay):
    root = lay({})
    archive(root / "x.zip", {"a": b"1", "b.wav": b"2"})
    data = bytearray((root / "x.zip").read_bytes())
    at = data.find(b"PK\1\2")
    data[at + 46] = 0  # zipfile ends a name at NUL
    (root / "x.zip").write_bytes(bytes(data))
    assert list(Tree(root).files()) == ["b.wav"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_ways_of_packing_without_bounds_are_refused(lay, method):
    """45 bytes of bzip2 are 45 MB, and zipfile unpacks them before it looks at the size that is declared."""
    root = lay({})
    with zipfile.ZipFile(root / "x.zip", "w", method) as target:
        target.writestr("a.wav", b"0" * (1 << 20))
    with pytest.raises(OSError, match="another method than deflate"):
        Tree(root).read("a.wav")


def test_a_bomb_is_refused_by_its_sizes(lay, monkeypatch):
    monkeypatch.setattr("ascfeat.datasets.tree.UNPACKED", 1 << 20)
    root = lay({})
    with zipfile.ZipFile(root / "x.zip", "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("bomb.wav", b"\0" * (2 << 20))
        target.writestr("small.wav", b"\0" * (1 << 20))
        target.writestr("honest.wav", random.Random(0).randbytes(10_240) + b"\0" * (1 << 20))
    tree = Tree(root)
    with pytest.raises(OSError, match=r"\d+ bytes of its archive unpack to 2097152"):
        tree.read("bomb.wav")
    assert len(tree.read("small.wav")) == 1 << 20
    assert len(tree.read("honest.wav")) == 10_240 + (1 << 20)


@pytest.mark.parametrize("claimed", [100, 1 << 30])
def test_a_size_that_lies_is_found_without_unpacking_more(lay, claimed):
    root = lay({})
    with zipfile.ZipFile(root / "x.zip", "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a.wav", b"\0" * (64 << 20))
    packed = (64 << 20).to_bytes(4, "little")
    rewritten(root / "x.zip", packed, claimed.to_bytes(4, "little"))
    tree = Tree(root)
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match=r"cannot be unpacked|unpack to|holds"):
            tree.read("a.wav")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_members_that_share_their_bytes_are_refused(lay):
    """Archives whose members overlap unpack a few bytes thousands of times."""
    root = lay({})
    archive(root / "x.zip", {"a.wav": b"0" * 1000, "b.wav": b"1" * 10})
    rewritten(root / "x.zip", (10).to_bytes(4, "little") * 2, (1000).to_bytes(4, "little") * 2)
    with pytest.raises(DatasetError, match=r"x\.zip is not a readable zip archive: its members take 2000 bytes"):
        Tree(root)


def test_enormous_files_are_not_read(lay):
    root = lay({"a.wav": "", "meta.csv": ""})
    for name in ("a.wav", "meta.csv"):
        with (root / name).open("r+b") as file:
            file.truncate(1 << 40)  # sparse: it takes no disk
    with pytest.raises(OSError, match="it has 1099511627776 bytes, and at most 4294967296 are read"):
        Tree(root).read("a.wav")
    with pytest.raises(DatasetError, match="at most 268435456 are read"):
        Tree(root).text("meta.csv")


def test_a_pipe_is_no_archive_and_not_waited_for(lay):
    root = lay({})
    os.mkfifo(root / "x.zip")
    with pytest.raises(DatasetError, match="it is no file"):
        Tree(root)
