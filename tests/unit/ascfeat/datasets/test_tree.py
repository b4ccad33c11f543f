"""The files of a dataset folder: loose, linked or archived, and what cannot be read."""

import zipfile

import pytest

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
