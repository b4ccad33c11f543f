"""Do all places keep one contract: folders, buckets of a real object store, and, to read, a real web server?"""

import errno
import itertools
import os
import pickle
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ascfeat.store.places import Folder, Place, open_place
from ascschemas.problems import StoreError

CONTENT = {"a/b": b"0123456789", "a/b.c": b"next", "a/d/e": b"deep", "top": b"", "z.zarr/c/0": bytes(range(256)) * 64}
"""Files that every readable place of these tests has."""


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path) -> Place:
    """An empty place to read and write."""
    if request.param == "folder":
        made = open_place(tmp_path / "library" / "place")
    else:
        made = open_place(f"{request.getfixturevalue('bucket')}/library/place")
    made.make()
    return made


@pytest.fixture(params=["folder", "bucket", "web"])
def filled(request, tmp_path) -> Place:
    """A place that holds ``CONTENT``, to read."""
    if request.param == "web":
        server = request.getfixturevalue("nginx")
        _write(Folder(server.files / "contract"))
        return open_place(f"{server.listed}/contract")
    where = tmp_path / "place" if request.param == "folder" else f"{request.getfixturevalue('bucket')}/a/place"
    found = open_place(where)
    _write(found)
    return found


def _write(place):
    place.make()
    for key, data in CONTENT.items():
        place.write(key, [data])


def test_reads_whole_files_their_ends_and_their_sizes(filled):
    assert {key: filled.read(key) for key in CONTENT} == CONTENT
    assert {key: filled.size(key) for key in CONTENT} == {key: len(data) for key, data in CONTENT.items()}
    assert [filled.tail("a/b", n) for n in (0, 1, 10, 99)] == [b"", b"9", b"0123456789", b"0123456789"]
    assert filled.tail("top", 5) == b""


def test_spans_come_in_their_order_into_the_arrays_given(filled):
    spans = [(7, 10), (0, 2), (2, 7), (4, 4)]
    one = np.full(5, 255, np.uint8)
    seen = [
        one[: stop - start].tobytes()
        for (start, stop), _ in zip(spans, filled.spans("a/b", spans, [one] * 4), strict=True)
    ]
    assert seen == [b"789", b"01", b"23456", b""]
    assert list(filled.spans("a/b", [], [])) == []


def test_a_span_past_the_end_is_an_error(filled):
    out = np.zeros(20, np.uint8)
    for span in ((8, 11), (10, 12), (50, 60)):
        with pytest.raises(EOFError):
            list(filled.spans("a/b", [(0, 2), span], [out, out]))


def test_what_is_not_there_is_not_found(filled):
    out = np.zeros(4, np.uint8)
    for ask in (
        lambda key: filled.read(key),
        lambda key: filled.tail(key, 3),
        lambda key: filled.size(key),
        lambda key: filled.modified(key),
        lambda key: list(filled.spans(key, [(0, 2)], [out])),
    ):
        for key in ("a/x", "x/y/z", "a/b.zarr"):
            with pytest.raises(FileNotFoundError):
                ask(key)
    assert [filled.exists(key) for key in ("a/b", "a/x", "a", "x/y", "")] == [True, False, False, False, False]


def test_lists_files_sorted_and_folders(filled):
    assert list(filled.files()) == sorted(CONTENT)
    assert list(filled.files("a")) == ["a/b", "a/b.c", "a/d/e"]
    assert list(filled.files("a/d")) == ["a/d/e"]
    assert filled.folders() == ["a", "z.zarr"]
    assert (filled / "a").folders() == ["d"]
    assert filled.total() in (None, sum(map(len, CONTENT.values())))
    assert "place" in filled.parent.folders() or "contract" in filled.parent.folders()


@pytest.mark.parametrize("key", ["../x", "/x", "a/../../x", "..", "a/..", "/etc/passwd"])
def test_keys_that_leave_the_place_are_refused(filled, key):
    out = np.zeros(4, np.uint8)
    for ask in (
        filled.read,
        filled.size,
        filled.exists,
        lambda key: filled.tail(key, 1),
        lambda key: list(filled.files(key)),
        lambda key: list(filled.spans(key, [(0, 1)], [out])),
        lambda key: filled.write(key, [b"x"]),
        lambda key: filled.create(key, b"x"),
        filled.remove,
    ):
        with pytest.raises((ValueError, StoreError)):
            ask(key)


def test_knows_its_name_its_parent_and_itself(filled):
    below = filled / "a" / "log.zarr"
    assert (below.name, below.stem, below.parent) == ("log.zarr", "log", filled / "a")
    assert below == filled / "a/log.zarr"
    assert len({below, filled / "a/log.zarr", filled}) == 2
    assert below != filled
    assert open_place(below.absolute) == below
    assert open_place(below) is below


def test_goes_to_another_process(filled):
    copy = pickle.loads(pickle.dumps(filled))
    assert copy == filled
    assert copy.read("a/b") == CONTENT["a/b"]
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).read('a/b').decode())"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(filled), capture_output=True, check=True)
    assert done.stdout.strip() == CONTENT["a/b"]


def test_is_safe_to_use_from_several_threads(filled):
    def ask(n: int) -> bool:
        out = np.zeros(256, np.uint8)
        start = (n % 64) * 256
        list(filled.spans("z.zarr/c/0", [(start, start + 256)], [out]))
        return out.tobytes() == bytes(range(256)) and filled.read("a/b") == CONTENT["a/b"]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(200)))


def test_writes_replace_and_are_removed(place):
    place.write("a/b", [b"old"])
    before = place.modified("a/b")
    place.write("a/b", [b"ne", np.frombuffer(b"w", np.uint8), b"", np.zeros(0, np.uint8)])
    assert place.read("a/b") == b"new"
    assert place.modified("a/b") >= before > 1.7e9
    place.remove("a/b")
    place.remove("a/b")
    place.remove("never/there")
    assert not place.exists("a/b")
    assert list(place.files()) == []


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(place):
    place.write("a", [b"whole"])

    def pieces(size):
        yield np.zeros(size, np.uint8)
        raise RuntimeError("the disk of the source")

    for key, size in (("a", 10), ("a", 70 << 20), ("new", 10)):
        with pytest.raises(RuntimeError, match="of the source"):
            place.write(key, pieces(size))
    assert place.read("a") == b"whole"
    assert list(place.files()) == ["a"]
    if isinstance(place, Folder):
        assert [p.name for p in place.path.iterdir()] == ["a"]


def test_readers_see_whole_files_only(place):
    versions = [bytes([i]) * 300_000 for i in range(12)]
    place.write("a", [versions[0]])
    done = threading.Event()
    seen: list[bytes] = []

    def look():
        while not done.is_set():
            seen.append(place.read("a"))

    with ThreadPoolExecutor(3) as pool:
        lookers = [pool.submit(look) for _ in range(3)]
        for version in versions:
            place.write("a", [version[:100_000], version[100_000:]])
        done.set()
        [looker.result() for looker in lookers]
    assert seen
    assert {len(set(data)) for data in seen} == {1}
    assert {len(data) for data in seen} == {300_000}


def test_of_sixteen_who_create_one_succeeds(place):
    attempts = 3 if isinstance(place, Folder) else 1  # SeaweedFS lets those who wait look once a second
    for attempt in range(attempts):
        key, start = f"lock/{attempt}", threading.Barrier(16)

        def create(i: int, key: str = key, start: threading.Barrier = start) -> bool:
            start.wait()
            return place.create(key, b"%d" % i)

        with ThreadPoolExecutor(16) as pool:
            won = [i for i, told in enumerate(pool.map(create, range(16))) if told]
        assert len(won) == 1
        assert place.read(key) == b"%d" % won[0]
        assert not place.create(key, b"late")
    assert len(list(place.files())) == attempts


def test_big_files_come_back(place):
    big = np.random.default_rng(0).integers(0, 256, 70 << 20, np.uint8)
    place.write("big", [big[: 33 << 20], big[33 << 20 :]])  # more than is sent at once
    assert place.size("big") == big.size
    assert place.tail("big", 100) == big[-100:].tobytes()
    out = np.empty(big.size, np.uint8)
    spans = list(itertools.pairwise([*range(0, big.size, 7 << 20), big.size]))
    list(place.spans("big", spans, [out[start:stop] for start, stop in spans]))
    assert np.array_equal(out, big)


def test_adopts_a_folder_once(place, tmp_path):
    folders = [tmp_path / f"aside{i}" for i in range(4)]
    for i, folder in enumerate(folders):
        (folder / "a" / "c").mkdir(parents=True)
        (folder / "a" / "c" / "0").write_bytes(b"same")
        (folder / "zarr.json").write_bytes(b"made by %d" % i)
    start = threading.Barrier(4)

    def adopt(folder: Path) -> bool:
        start.wait()
        return place.adopt(folder, "zarr.json")

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(adopt, folders))
    assert sorted(told) == [False, False, False, True]
    assert place.read("zarr.json") == b"made by %d" % told.index(True)
    assert list(place.files()) == ["a/c/0", "zarr.json"]
    assert not folders[told.index(True)].exists()


def test_clears_itself_and_leaves_its_neighbours(place):
    neighbour = place.parent / f"{place.name}.other"
    for each in (place, neighbour):
        each.make()
        each.write("zarr.json", [b"{}"])
        each.write("a/c/0", [b"1"])
    place.clear()
    place.clear()
    assert list(place.files()) == []
    assert list(neighbour.files()) == ["a/c/0", "zarr.json"]
    if isinstance(place, Folder):  # SeaweedFS goes on naming an emptied folder for a while
        assert place.parent.folders() == [neighbour.name]


def test_zarr_reads_it(place):
    zarr = pytest.importorskip("zarr")
    if isinstance(place, Folder):
        where = place.path
    else:
        from zarr.storage import ObjectStore

        where = ObjectStore(place.objects.rooted(place.prefix))
    values = np.arange(12.0).reshape(3, 4)
    zarr.create_array(where, name="x", data=values, chunks=(1, 4), zarr_format=3)
    found = zarr.open_group(place.zarr(), mode="r", use_consolidated=False) if place.exists("zarr.json") else None
    array = found["x"] if found is not None else zarr.open_array(place.zarr(), path="x", mode="r")
    assert np.array_equal(array[:], values)


# of folders alone


@pytest.mark.parametrize("write", [lambda p, key: p.write(key, [b"1"]), lambda p, key: p.create(key, b"1")])
@pytest.mark.parametrize("key", ["top", "a/c/0"])
def test_a_folder_that_is_gone_is_not_made_anew(tmp_path, write, key):
    """It may lie on a share that was unmounted: what is in its stead is somebody's own disk."""
    place = Folder(tmp_path / "library" / "place")
    with pytest.raises(FileNotFoundError):
        write(place, key)
    assert not list(tmp_path.iterdir())
    place.make()
    place.make()
    write(place, key)
    assert place.read(key) == b"1"


def test_a_share_that_goes_while_a_file_is_written(tmp_path):
    place, elsewhere = Folder(tmp_path / "place"), tmp_path / "elsewhere"
    place.make()

    def pieces():
        yield b"half"
        place.path.rename(elsewhere)
        yield b"whole"

    with pytest.raises(FileNotFoundError):
        place.write("a/c/0", pieces())
    assert [p.name for p in tmp_path.iterdir()] == ["elsewhere"]
    assert list(Folder(elsewhere).files()) == []


def test_everything_below_a_groups_folder_is_the_groups_whatever_the_umask(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    aside = tmp_path / "aside"
    (aside / "b").mkdir(parents=True, mode=0o700)
    (aside / "b" / "zarr.json").touch(0o600)
    code = f"""
import os; os.umask(0o077)
from pathlib import Path
from ascfeat.lock import exclusive
from ascfeat.store.places import Folder
place = Folder(Path({str(shared)!r}) / "data" / "x.zarr")
place.make()
place.write("a/c/0", [b"1"])
place.create("a/once", b"1")
(place.parent / "y.zarr").adopt(Path({str(aside)!r}), "b/zarr.json")
with exclusive(place):
    pass
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    folders = [p for p in shared.rglob("*") if p.is_dir()]
    files = [p for p in shared.rglob("*") if p.is_file()]
    assert {p.name for p in files} == {"0", "once", "zarr.json", ".x.zarr.lock"}
    assert {oct(stat.S_IMODE(p.stat().st_mode)) for p in files} == {"0o660"}
    assert {oct(stat.S_IMODE(p.stat().st_mode)) for p in folders} == {"0o2770"}


def test_elsewhere_the_umask_rules(tmp_path):
    code = f"""
import os; os.umask(0o027)
from ascfeat.store.places import Folder
place = Folder({str(tmp_path / "x")!r})
place.make()
place.write("a/b", [b"1"])
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert stat.S_IMODE((tmp_path / "x" / "a" / "b").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "x" / "a").stat().st_mode) == 0o750


def test_a_folder_that_can_only_be_read_is_read_and_says_so_when_written(tmp_path):
    place = Folder(tmp_path / "place")
    _write(place)
    code = f"""
import os, errno
from ascfeat.store.places import Folder
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
place = Folder({str(place.path)!r})
assert place.read("a/b") == b"0123456789" and len(list(place.files())) == {len(CONTENT)}
for act in (lambda: place.write("a/b", [b"x"]), lambda: place.create("new", b"x"), lambda: place.remove("a/b")):
    try:
        act()
    except OSError as error:
        assert error.errno in (errno.EACCES, errno.EROFS), error
    else:
        raise AssertionError("it could be written")
"""
    readable = tmp_path
    while os.getuid() == 0 and readable != readable.parent:
        if not readable.stat().st_mode & 0o005:
            readable.chmod(readable.stat().st_mode | 0o055)
        readable = readable.parent
    for path in (place.path, *place.path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")
    for path in (place.path, *place.path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_creates_once_also_where_files_have_no_second_names(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    place = Folder(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda i: place.create("once", b"%d" % i), range(16)))
    assert sorted(told) == [False] * 15 + [True]
    assert place.read("once") == b"%d" % told.index(True)
    assert (tmp_path / "once").stat().st_mode & 0o077 == Folder(tmp_path)._mode(tmp_path, 0o666) & 0o077
    assert [p.name for p in tmp_path.iterdir()] == ["once"]


def test_the_umask_is_read_and_stays(tmp_path):
    before = os.umask(0o027)
    try:
        Folder(tmp_path).write("a", [b"1"])
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
        assert os.umask(0o022) == 0o027
    finally:
        os.umask(before)


def test_leftovers_of_a_killed_writer_are_swept_and_never_listed(tmp_path):
    place = Folder(tmp_path / "x.zarr")
    place.make()
    place.write("a/0", [b"1"])
    (place.path / "a" / ".1.abc.partial").write_bytes(b"half")
    (tmp_path / ".x.zarr.abc.partial").mkdir()
    (tmp_path / ".x.zarr2.abc.partial").mkdir()
    assert list(place.files()) == ["a/0"]
    place.sweep()
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".x.zarr2.abc.partial", "0", "a", "x.zarr"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("gs://bucket/x", "is not one of s3://, http://, https://"),
        ("s3:///x", "names no bucket or server"),
        ("s3://bucket/a//b", "empty step"),
        ("http://host/a/../../b", "empty step, . or .."),
        ("http://host/a%2F..%2F..%2Fb", "empty step, . or .."),
        ("http://user:secret@host/a", "more than a server and a path"),
        ("https://host/a?signature=secret", "more than a server and a path"),
    ],
)
def test_urls_that_name_no_place_are_refused(url, why):
    with pytest.raises(StoreError) as error:
        open_place(url)
    assert why in error.value.what
    assert "secret" not in str(error.value)
