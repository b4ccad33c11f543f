"""Disks that fill up, rights and mounts that go, servers that stop: a clear word, nothing lost, and it goes on.

Real here: a full tmpfs (of bytes and of inodes), rights taken away from another user, a read-only mount and a mount
that goes away under a running extraction, an object store that is killed and one that is stopped. Simulated: a quota
that is only noticed at ``fsync``, and the errors of an NFS server that lost a file (ESTALE) or a broken disk (EIO).
"""

import errno
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent))

import weightless
from forked_commands import World, until

from asccli.ascfeat import ascfeat
from asccli.output import run as run_here
from ascfeat.store import Folder, open_place, open_store, verify

pytestmark = pytest.mark.slow

CLIPS, UNITS = 24, 12
NOBODY = 65534
RECIPE = """
name: slow
representation: {kind: weightless, milliseconds: 30}
storage: {clips_per_shard: 2}
"""
AGAIN = (
    "same command|heal it with `ascfeat repair`|Check that the place can be written|"
    "Free space there, or put the stores elsewhere"
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a dataset of short recordings and a recipe whose representation takes its time."""
    folder = tmp_path_factory.mktemp("faults")
    for above in (folder, folder.parent, folder.parent.parent):
        above.chmod(0o755)  # another user must get here
    for i in range(CLIPS):
        path = folder / "noises" / ("low", "high")[i % 2] / f"{i:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(i).standard_normal(1000), 8000)
    (folder / "slow.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("ASC_CACHE", str(folder / "cache"))
        weightless.register(folder / "plug-in")
        yield folder


@pytest.fixture(scope="module")
def world(bench: Path) -> Iterator[World]:
    made = World(bench, words(bench, bench / "whole"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def mounts(world: World) -> World:
    """The world, where things can be mounted in it."""
    if not world.mounts:
        pytest.skip(world.why)
    return world


@pytest.fixture(scope="module")
def whole(bench: Path, world: World) -> dict[str, bytes]:
    """Every file of a store that met no trouble."""
    return files(bench / "whole")


def words(bench: Path, features: object, *more: str) -> list[str]:
    named = ["--recipe", str(bench / "slow.yaml"), "--features", str(features), "--device", "cpu", "--threads", "1"]
    return ["extract", str(bench / "noises"), *named, *more]


def files(features: Path) -> dict[str, bytes]:
    """Every file of the stores in a folder: nothing else may be left there but locks."""
    found = {p.relative_to(features).as_posix(): p.read_bytes() for p in sorted(features.rglob("*")) if p.is_file()}
    return {key: data for key, data in found.items() if not key.endswith(".lock")}


def records(features: Path) -> int:
    """Units that are in the ledger."""
    at = features / "noises" / "slow.zarr" / "ledger" / "record" / "c"
    return len([n for n in os.listdir(at) if not n.startswith(".")]) if at.is_dir() else 0  # noqa: PTH208


def clear(status: int, said: str, *expected: str) -> None:
    """A failure was told in words: what, where, what to do; the status says that it failed."""
    assert status == 2, said
    assert "Traceback" not in said
    for pattern in (*expected, AGAIN):
        assert re.search(pattern, said), said


@pytest.fixture
def mounted(mounts: World, tmp_path: Path) -> Iterator[Path]:
    """A folder to mount things on."""
    path = tmp_path / "disk"
    path.mkdir()
    yield path
    mounts.ask(shell=f"while umount -l {path} 2>/dev/null; do :; done")


def test_a_disk_that_is_full_at_any_file(bench: Path, mounts: World, mounted: Path, whole: dict[str, bytes]) -> None:
    """Room for one file more, again and again: every kind of file is once the one that has no room."""
    needed = sum(1 for _ in (bench / "whole").rglob("*")) + 1
    created = needed - 4 * UNITS - 1
    levels = [1, 2, 3, 4, created // 2, *range(created - 1, created + 8), created + 29, *range(needed - 2, needed + 6)]
    mounts.shell(f"mount -t tmpfs -o size=16m,nr_inodes={levels[0]},mode=777 none {mounted}")
    hit, done = set(), 0
    for level in levels:
        mounts.shell(f"mount -o remount,nr_inodes={level} {mounted}")
        status, said = mounts.run(*words(bench, mounted))
        if status == 0:
            break
        clear(status, said, str(mounted), "No space left on device")
        hit.add(_kind(said))
        now = records(mounts.seen(mounted))
        assert now >= done, "a unit that was done is done"
        done = now
    assert status == 0
    assert {"lock", "features", "mean", "ledger", "root"} <= hit
    assert files(mounts.seen(mounted)) == whole


def _kind(said: str) -> str:
    """Which file had no room, by the path in the message."""
    kinds = {"lock": r"\.lock", "features": "features/c", "mean": "(mean|variance)/c", "ledger": "ledger/record",
             "root": r"slow\.zarr/(ledger/)?\.(zarr|root)\.json", "usable": "usable"}  # fmt: skip
    at = said[said.rindex("disk/") - 5 :] if "disk/" in said else said
    return next((kind for kind, pattern in kinds.items() if re.search(pattern, at)), "creation")


def test_a_disk_without_bytes(bench: Path, mounts: World, mounted: Path, whole: dict[str, bytes]) -> None:
    """It is said before anything is computed where that can be known, and in the middle where it cannot."""
    mounts.shell(f"mount -t tmpfs -o size=64k,mode=777 none {mounted}")
    told = []
    for size in (64, 260, 300, 340, 380, 420, 460, 2000):
        mounts.shell(f"mount -o remount,size={size}k {mounted}")
        status, said = mounts.run(*words(bench, mounted))
        if status == 0:
            break
        told.append("before" if "cannot hold the features" in said else "after")
        clear(status, said, str(mounted), "No space left|cannot hold the features.\\n.* free +found .* free")
    assert status == 0
    assert "before" in told
    assert "after" in told
    assert files(mounts.seen(mounted)) == whole


def test_rights_taken_away_half_way(bench: Path, world: World, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """By another user than root, who has no rights to lose."""
    user = NOBODY if os.getuid() == 0 else None
    if user is not None and not world.users:
        pytest.skip("there is no other user here")
    for above in (tmp_path, *tmp_path.parents):
        if above.is_relative_to(tempfile.gettempdir()) and above != Path(tempfile.gettempdir()):
            above.chmod(above.stat().st_mode | 0o055)
    features = tmp_path / "features"
    features.mkdir()
    cache = tmp_path / "cache"
    cache.mkdir()
    if user is not None:
        os.chown(features, user, user)
        os.chown(cache, user, user)
    command = world.start(*words(bench, features), user=user, held=True, ASC_CACHE=str(cache))
    until(lambda: records(features) >= 2)
    store = features / "noises" / "slow.zarr"
    folders = [p for p in (store, *store.rglob("*")) if p.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    clear(*world.end(command), "Permission denied", str(store))
    before = records(features)
    assert 2 <= before < UNITS
    clear(*world.run(*words(bench, features), user=user, ASC_CACHE=str(cache)), "Permission denied", str(store))
    for folder in folders:
        folder.chmod(0o755)
    status, said = world.run(*words(bench, features), user=user, ASC_CACHE=str(cache))
    assert status == 0, said
    assert f"going on, {2 * before} of {CLIPS} clips are done" in said
    assert files(features) == whole


def test_a_mount_that_becomes_read_only(bench: Path, mounts: World, mounted: Path, whole: dict[str, bytes]) -> None:
    command = mounts.start(*words(bench, mounted), held=True)
    until(lambda: records(mounts.seen(mounted)) >= 2)
    mounts.shell(f"mount --bind {mounted} {mounted}")
    read_only = f"mount -o remount,bind,ro {mounted}"
    until(lambda: not mounts.ask(shell=read_only)[0])  # refused while a file is being written
    clear(*mounts.end(command), "Read-only file system", str(mounted))
    clear(*mounts.run(*words(bench, mounted)), "Read-only file system", str(mounted))
    mounts.shell(f"umount {mounted}")
    assert 2 <= records(mounts.seen(mounted)) < UNITS
    status, said = mounts.run(*words(bench, mounted))
    assert status == 0, said
    assert "going on" in said
    assert files(mounts.seen(mounted)) == whole


def test_a_share_that_is_unmounted_under_the_writer(
    bench: Path, mounts: World, mounted: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Nothing is written where the share was: that is somebody's own disk."""
    share = tmp_path / "share"
    share.mkdir()
    mounts.shell(f"mount --bind {share} {mounted}")
    command = mounts.start(*words(bench, mounted), held=True)
    until(lambda: records(mounts.seen(mounted)) >= 2)
    mounts.shell(f"umount -l {mounted}")
    clear(*mounts.end(command), str(mounted))
    assert not list(mounts.seen(mounted).rglob("*"))
    assert 2 <= records(share) < UNITS
    mounts.shell(f"mount --bind {share} {mounted}")
    status, said = mounts.run(*words(bench, mounted))
    assert status == 0, said
    assert "going on" in said
    assert files(mounts.seen(mounted)) == whole


def test_recordings_that_are_unmounted_under_the_writer(
    bench: Path, mounts: World, mounted: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """The rest of the clips is not taken for missing."""
    noises = mounted / "noises"
    mounts.shell(f"mkdir {noises} && mount --bind {bench / 'noises'} {noises}")
    features = tmp_path / "features"
    command = mounts.start("extract", noises, *words(bench, features)[2:], held=True)
    until(lambda: records(features) >= 2)
    mounts.shell(f"umount -l {noises}")
    clear(*mounts.end(command), "The dataset folder .* is not there any more", str(mounted))
    assert 2 <= records(features) < UNITS
    mounts.shell(f"mount --bind {bench / 'noises'} {noises}")
    status, said = mounts.run("extract", noises, *words(bench, features)[2:])
    assert status == 0, said
    assert files(features) == whole


def here(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """A command in this process, where errors can be made up."""
    with pytest.raises(SystemExit) as end:
        run_here(ascfeat, arguments)
    out, err = capsys.readouterr()
    return end.value.code or 0, out + err


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EIO])
def test_an_error_that_comes_with_fsync(bench, whole, tmp_path, capsys, monkeypatch, number: int) -> None:
    """Simulated: servers and thin disks take what is written, and only say at the end that there is no room for it."""
    real, calls = os.fsync, [0, 0]

    def fsync(handle: int) -> None:
        calls[0] += 1
        if calls[0] == calls[1]:
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr("ascfeat.store.places.os.fsync", fsync)
    for call in (1, 2, 30, 140, 145, 150, 155):
        calls[:] = 0, call
        status, said = here(capsys, *words(bench, tmp_path / "features"))
        if calls[0] < call:
            break
        clear(status, said, os.strerror(number), str(tmp_path))
    calls[1] = 0
    status, said = here(capsys, *words(bench, tmp_path / "features"))
    assert status == 0, said
    assert files(tmp_path / "features") == whole


@pytest.mark.parametrize(
    ("method", "number"),
    [("write", errno.ESTALE), ("read", errno.EIO), ("size", errno.ESTALE), ("create", errno.EIO)],
)
def test_a_file_handle_goes_stale(bench, whole, tmp_path, capsys, monkeypatch, method: str, number: int) -> None:
    """Simulated at the place: what NFS says of a file that somebody else replaced, and a disk of a broken sector."""
    real, calls = getattr(Folder, method), [0, 0]

    def failing(self: Folder, key: str, *more: object) -> object:
        calls[0] += 1
        if calls[0] == calls[1]:
            raise OSError(number, os.strerror(number), str(self.path / key))
        return real(self, key, *more)

    monkeypatch.setattr(Folder, method, failing)
    for call in (1, 5, 25, 60, 99):
        calls[:] = 0, call
        status, said = here(capsys, *words(bench, tmp_path / "features"))
        if calls[0] < call:
            break
        if status:  # a file that does not read may also be one that is made again
            clear(status, said, os.strerror(number), str(tmp_path))
    calls[1] = 0
    status, said = here(capsys, *words(bench, tmp_path / "features"))
    assert status == 0, said
    assert files(tmp_path / "features") == whole


SOON = {"ASCFEAT_NETWORK_SECONDS": "1"}


def test_an_object_store_that_is_killed_under_the_writer(bench, world, whole, bucket, seaweed) -> None:
    place = open_place(f"{bucket}/noises/slow.zarr")
    env = {**seaweed.environment(), **SOON}
    command = world.start(*words(bench, bucket), held=True, **env)
    until(lambda: sum(1 for _ in place.files("ledger/record")) >= 4)
    seaweed.kill()
    try:
        clear(*world.end(command), re.escape(bucket), "server")
        clear(*world.run(*words(bench, bucket), **env), re.escape(bucket), "server")
    finally:
        seaweed.start()
    assert 3 <= sum(1 for _ in place.files("ledger/record/c")) < UNITS
    status, said = world.run(*words(bench, bucket), **env)  # the lease of the killed one's host is a dead process's
    assert status == 0, said
    assert "going on" in said
    assert {f"noises/slow.zarr/{key}": place.read(key) for key in place.files()} == whole
    assert list(verify(open_store(place))) == []


def test_an_object_store_that_is_silent(bench, world, whole, bucket, seaweed, tmp_path) -> None:
    """It takes connections and says nothing: writing, reading and pushing end in words, and go on afterwards."""
    place = open_place(f"{bucket}/noises/slow.zarr")
    env = {**seaweed.environment(), **SOON}
    command = world.start(*words(bench, bucket), held=True, **env)
    until(lambda: sum(1 for _ in place.files("ledger/record/c")) >= 2)
    with silent(seaweed):
        clear(*world.end(command), re.escape(bucket), "server")
    status, said = world.run(*words(bench, bucket), **env)
    assert status == 0, said
    assert {f"noises/slow.zarr/{key}": place.read(key) for key in place.files()} == whole
    with silent(seaweed):
        reads = [world.start("verify", place, **env), world.start("pull", place, "--features", tmp_path, **env)]
        push = world.start("push", bench / "whole" / "noises" / "slow.zarr", f"{bucket}/copy.zarr", **env)
        for command in (*reads, push):
            status, said = world.end(command)
            assert status == 2, said
            assert "server" in said
            assert "Traceback" not in said
    assert world.run("verify", place, **env)[0] == 0
    assert world.run("pull", place, "--features", tmp_path, **env)[0] == 0
    assert files(tmp_path) == whole
    assert world.run("push", bench / "whole" / "noises" / "slow.zarr", f"{bucket}/copy.zarr", **env)[0] == 0
    copy = open_place(f"{bucket}/copy.zarr")
    assert {f"noises/slow.zarr/{key}": copy.read(key) for key in copy.files()} == whole


class silent:  # noqa: N801
    """A server that is stopped for a while, as a machine that hangs."""

    def __init__(self, server) -> None:
        self.server = server

    def __enter__(self) -> None:
        os.kill(self.server.process.pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self.server.process.pid, signal.SIGCONT)
