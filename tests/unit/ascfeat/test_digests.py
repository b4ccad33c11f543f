"""Is an unchanged recording known without reading it, and a changed one never believed?"""

import hashlib
import os
import pickle
import random
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from ascfeat import digests as module
from ascfeat.changes import hashed, stamps
from ascfeat.datasets.tree import Tree
from ascfeat.digests import Digests, cache_file, stamp
from ascschemas.problems import AudioError

CLIP = "audio/a.wav"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Three recordings of 1000 bytes; dates are settled after 20 ms here, so that no test need wait two seconds."""
    monkeypatch.setattr(module, "SETTLED_NS", 20_000_000)
    for name in "abc":
        path = tmp_path / "set" / "audio" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 1000)
    time.sleep(0.05)
    return Tree(tmp_path / "set")


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    """A cache that is not there yet."""
    return Digests(tmp_path / "cache" / "digests.sqlite")


def known(digests: Digests, tree: Tree, clip: str = CLIP) -> str | None:
    at = stamp(tree, clip)
    assert at is not None
    return digests.known([at])[0]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_was_read_is_known_in_this_process_and_the_next(tree: Tree, digests: Digests) -> None:
    assert known(digests, tree) is None
    data, found = digests.read(tree, CLIP)
    assert (data, found) == (b"a" * 1000, sha256(b"a" * 1000))
    assert known(digests, tree) == found
    assert known(Digests(digests.file), tree) == found
    assert known(pickle.loads(pickle.dumps(digests)), tree) == found
    assert known(digests, tree, "audio/b.wav") is None


def test_many_are_asked_at_once_in_order(tree: Tree, digests: Digests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASKED_AT_ONCE", 2)
    clips = ["audio/c.wav", "audio/none.wav", "audio/a.wav", "audio/b.wav"]
    seen: list[int] = []
    found = list(hashed(tree, clips, digests, threads=2, progress=seen.append))
    assert found == [sha256(b"c" * 1000), None, sha256(b"a" * 1000), sha256(b"b" * 1000)]
    assert seen == [1, 2, 3, 4]
    at = list(stamps(tree, clips, threads=3))
    assert at[1] is None
    assert digests.known([s for s in at if s]) == [found[0], found[2], found[3]]


def same_size_older_date(path: Path) -> None:
    path.with_name("new").write_bytes(b"x" * 1000)
    os.utime(path.with_name("new"), ns=(0, 0))
    path.with_name("new").replace(path)


def in_place_and_dated_back(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"x" * 1000)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def another_folder_moved_there(path: Path) -> None:
    """Every date of the new file is older than the moving: only its inode tells."""
    new = path.parent.with_name("elsewhere")
    new.mkdir()
    (new / path.name).write_bytes(b"x" * 1000)
    os.utime(new / path.name, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
    path.parent.rename(path.parent.with_name("old"))
    new.rename(path.parent)


def longer(path: Path) -> None:
    path.write_bytes(b"a" * 1001)


@pytest.mark.parametrize("change", [same_size_older_date, in_place_and_dated_back, another_folder_moved_there, longer])
def test_a_changed_recording_is_not_believed(tree: Tree, digests: Digests, change) -> None:
    _, old = digests.read(tree, CLIP)
    assert known(digests, tree) == old
    change(tree.root / CLIP)
    time.sleep(0.05)
    assert known(digests, tree) is None
    new = digests.read(tree, CLIP)[1]
    assert new != old
    assert known(digests, tree) == new


def test_a_file_that_changed_just_now_is_not_trusted(tree: Tree, digests: Digests, monkeypatch) -> None:
    """Within a date's coarseness a second change leaves the same stamp."""
    monkeypatch.setattr(module, "SETTLED_NS", 2_000_000_000)
    (tree.root / CLIP).write_bytes(b"y" * 1000)
    digests.read(tree, CLIP)
    monkeypatch.setattr(module, "SETTLED_NS", 0)
    assert known(digests, tree) is None


def test_a_file_that_was_young_when_kept_is_not_trusted_while_young(tree: Tree, digests: Digests, monkeypatch) -> None:
    digests.read(tree, CLIP)
    monkeypatch.setattr(module, "SETTLED_NS", 3600 * 10**9)
    assert known(digests, tree) is None


def test_a_file_that_changes_while_it_is_read_is_not_kept(tree: Tree, digests: Digests, monkeypatch) -> None:
    def changing(tree: Tree, clip: str) -> bytes:
        data = tree.read(clip)
        (tree.root / clip).write_bytes(b"z" * 1000)
        return data

    monkeypatch.setattr(module, "read", changing)
    digests.read(tree, CLIP)
    time.sleep(0.05)
    assert stamp(tree, CLIP).settled, "nothing else keeps it from being known"
    assert known(digests, tree) is None


def test_archived_recordings_are_known_by_their_crc(tmp_path: Path, digests: Digests) -> None:
    root = tmp_path / "packed"
    root.mkdir()

    def pack(content: bytes) -> Tree:
        (root / "set.zip").unlink(missing_ok=True)
        with zipfile.ZipFile(root / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("audio/a.wav", content)
        return Tree(root)

    tree = pack(b"a" * 1000)
    _, old = digests.read(tree, CLIP)
    assert known(digests, pack(b"a" * 1000)) == old
    assert known(digests, pack(b"b" * 1000)) is None


def test_a_missing_recording_has_no_stamp_and_says_so(tree: Tree, digests: Digests) -> None:
    assert stamp(tree, "audio/none.wav") is None
    assert stamp(tree, "audio") is None
    with pytest.raises(AudioError, match="no such file"):
        digests.read(tree, "audio/none.wav")


GARBAGE = {
    "text": lambda file: file.write_text("not a database" * 100),
    "empty": lambda file: file.write_bytes(b""),
    "torn": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "another table": lambda file: _other_table(file),
    "noise in the pages": lambda file: file.write_bytes(file.read_bytes()[:100] + random.Random(0).randbytes(8092)),
}


def _other_table(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as base:
        base.execute("CREATE TABLE digest (something TEXT)")
    base.close()


@pytest.mark.parametrize("damage", GARBAGE)
def test_a_damaged_cache_is_made_anew(tree: Tree, digests: Digests, damage: str) -> None:
    _, right = digests.read(tree, CLIP)
    digests.flush()
    GARBAGE[damage](digests.file)
    again = Digests(digests.file)
    assert known(again, tree) in (None, right)
    again.read(tree, CLIP)
    again.flush()
    assert known(Digests(digests.file), tree) == right


def test_a_row_that_does_not_prove_itself_is_not_believed(tree: Tree, digests: Digests) -> None:
    digests.read(tree, CLIP)
    digests.flush()
    with sqlite3.connect(digests.file) as base:
        base.execute("UPDATE digest SET sha256 = ?", (bytes(32),))
    base.close()
    assert known(Digests(digests.file), tree) is None


def test_single_flipped_bits_give_the_right_digest_or_none(tree: Tree, digests: Digests) -> None:
    right = {clip: digests.read(tree, clip)[1] for clip in ("audio/a.wav", "audio/b.wav", "audio/c.wav")}
    digests.flush()
    whole, rng, believed = digests.file.read_bytes(), random.Random(4), 0
    for _ in range(200):
        torn = bytearray(whole)
        torn[rng.randrange(len(torn))] ^= 1 << rng.randrange(8)
        digests.file.write_bytes(torn)
        again = Digests(digests.file)
        for clip, expected in right.items():
            found = known(again, tree, clip)
            believed += found is not None
            assert found in (None, expected)
        again._close()
    assert 0 < believed < 600


def test_a_cache_that_cannot_be_written_is_done_without(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for file in (tmp_path / "file" / "digests.sqlite", None, Path("/proc/nothing/digests.sqlite")):
        digests = Digests(file)
        assert digests.read(tree, CLIP)[1] == sha256(b"a" * 1000)
        digests.flush()
        assert known(digests, tree) is None


def test_a_locked_cache_is_done_without_and_not_thrown_away(tree: Tree, digests: Digests, monkeypatch) -> None:
    digests.read(tree, CLIP)
    digests.flush()
    real = sqlite3.connect
    monkeypatch.setattr(module.sqlite3, "connect", lambda *a, **k: real(*a, **{**k, "timeout": 0.01}))
    holder = real(digests.file)
    holder.execute("BEGIN EXCLUSIVE")
    assert known(Digests(digests.file), tree) is None
    holder.rollback()
    holder.close()
    assert known(Digests(digests.file), tree) == sha256(b"a" * 1000)


WRITER = """
import sys
from pathlib import Path
from ascfeat.digests import Digests, Stamp
digests = Digests(Path(sys.argv[1]))
for i in range(300):
    digests.keep(Stamp(f"{sys.argv[2]}/{i}", i, (i,), 0, True), f"{int(sys.argv[2]) * 1000 + i:064x}")
"""


@pytest.mark.slow
def test_processes_write_at_once_and_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "digests.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), str(n)]) for n in range(3)]
    assert [w.wait() for w in writers] == [0, 0, 0]
    asked = [module.Stamp(f"{n}/{i}", i, (i,), 0, True) for n in range(3) for i in range(300)]
    assert Digests(file).known(asked) == [f"{n * 1000 + i:064x}" for n in range(3) for i in range(300)]


def test_the_cache_is_where_people_keep_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASC_CACHE", "/mine")
    assert cache_file() == Path("/mine/digests-1.sqlite")
    monkeypatch.delenv("ASC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_file() == Path("/somewhere/ascfeat/digests-1.sqlite")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative, and so not valid")
    assert cache_file() == Path.home() / ".cache/ascfeat/digests-1.sqlite"


def test_it_names_no_file(tree: Tree, digests: Digests) -> None:
    digests.read(tree, CLIP)
    digests.flush()
    assert b"a.wav" not in digests.file.read_bytes()
