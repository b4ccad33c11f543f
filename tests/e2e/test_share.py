"""Stores go to shares, buckets and web servers and come back the same, whatever breaks on the way."""

import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ascfeat.share import run, transfer
from ascfeat.store import Folder, Writer, open_place, open_store, verify
from ascfeat.store.places import PlaceError
from ascschemas.problems import StoreError, StoreMismatch

RECIPE = """
name: {name}
representation: {{kind: log_mel, n_fft: 1024, hop_length: 256, spectrum: power, n_mels: {bands}, floor: 1.0e-8}}
storage: {{clips_per_shard: 2, compress: {compress}}}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stores of one small dataset, one compressed; 21 clips in eleven units, so that the last is not full."""
    root = tmp_path_factory.mktemp("share")
    for i in range(21):
        path = root / "noises" / ("low", "high")[i % 2] / f"{i:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(i).standard_normal(16_000), 16_000)
    for name, bands, compress in (("small", 40, "false"), ("packed", 40, "true"), ("other", 24, "false")):
        (root / f"{name}.yaml").write_text(RECIPE.format(name=name, bands=bands, compress=compress))
    named = [word for recipe in sorted(root.glob("*.yaml")) for word in ("--recipe", str(recipe))]
    command = ["ascfeat", "extract", *named, str(root / "noises"), "--features", str(root / "features")]
    subprocess.run([*command, "--device", "cpu"], check=True, capture_output=True)
    return root / "features"


def ascfeat(*arguments: object, status: int = 0) -> str:
    """What a command says; it must end with that status."""
    done = subprocess.run(["ascfeat", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def files(place) -> dict[str, bytes]:
    return {key: place.read(key) for key in open_place(place).files()}


def whole(place) -> None:
    """A place holds a store in which nothing is wrong."""
    assert list(verify(open_store(place))) == []


@pytest.mark.usefixtures("quick")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "packed"])
def test_to_a_bucket_and_back_by_the_commands(library, bucket, tmp_path, name):
    store, url = library / "noises" / f"{name}.zarr", f"{bucket}/library"
    digest = open_store(store).seal.digest
    said = ascfeat("push", store, url)
    assert "all are checked" in said
    assert digest in said
    assert files(open_place(f"{url}/noises/{name}.zarr")) == files(Folder(store))
    assert "whole, nothing to do" in ascfeat("push", store, url)
    assert "all are checked" in ascfeat("pull", f"{url}/noises/{name}.zarr", "--features", tmp_path)
    assert files(Folder(tmp_path / "noises" / f"{name}.zarr")) == files(Folder(store))
    whole(tmp_path / "noises" / f"{name}.zarr")
    left = {key for key in open_place(url).files() if ".zarr/" not in key}
    assert left == {f"noises/.{name}.zarr.lock"}


@pytest.mark.parametrize("listing", ["url", "listed"])
def test_from_a_plain_web_server(library, nginx, tmp_path, listing):
    shutil.copytree(library, nginx.files / "library", dirs_exist_ok=True)
    said = ascfeat("pull", f"{getattr(nginx, listing)}/library/noises/small.zarr", "--features", tmp_path)
    assert "all are checked" in said
    assert files(Folder(tmp_path / "noises" / "small.zarr")) == files(Folder(library / "noises" / "small.zarr"))
    shutil.rmtree(nginx.files / "library")


def test_a_copy_may_be_named(library, tmp_path):
    ascfeat("push", library / "noises" / "small.zarr", tmp_path / "deep" / "mine.zarr")
    whole(tmp_path / "deep" / "mine.zarr")


def test_a_web_server_cannot_be_pushed_to(library, nginx):
    said = ascfeat("push", library / "noises" / "small.zarr", nginx.url, status=2)
    assert "can only be read" in said


def test_another_store_is_never_replaced(library, tmp_path):
    small, other = library / "noises" / "small.zarr", library / "noises" / "other.zarr"
    ascfeat("push", other, tmp_path / "x.zarr")
    before = files(Folder(tmp_path / "x.zarr"))
    said = ascfeat("push", small, tmp_path / "x.zarr", status=2)
    assert open_store(small).seal.digest in said
    assert open_store(other).seal.digest in said
    assert files(Folder(tmp_path / "x.zarr")) == before


def test_an_unfinished_store_neither_goes_nor_is_replaced(library, tmp_path):
    shutil.copytree(library / "noises" / "small.zarr", tmp_path / "x.zarr")
    Writer(tmp_path / "x.zarr").unseal()
    assert "is not finished" in ascfeat("push", tmp_path / "x.zarr", tmp_path / "library", status=2)
    said = ascfeat("push", library / "noises" / "small.zarr", tmp_path / "x.zarr", status=2)
    assert "an extraction that is not finished" in said
    assert not (tmp_path / "library").exists()


def test_files_of_somebody_are_left_alone(library, tmp_path):
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "thesis.txt").write_text("years of work")
    said = ascfeat("push", library / "noises" / "small.zarr", tmp_path / "x.zarr", status=2)
    assert "holds 1 files, first thesis.txt, and is no feature store" in said
    assert (tmp_path / "x.zarr" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "key", ["features/c/1/0/0/0", "mean/c/0/0/0", "clip/c/0", "ledger/record/c/2", "usable/c/0", "frequency/c/0"]
)
def test_a_damaged_store_is_not_copied(library, tmp_path, key):
    shutil.copytree(library / "noises" / "small.zarr", tmp_path / "x.zarr")
    data = bytearray((tmp_path / "x.zarr" / key).read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "x.zarr" / key).write_bytes(data)
    with pytest.raises(StoreError, match=f"{key}.*checksum"):
        run(transfer(tmp_path / "x.zarr", tmp_path / "y.zarr"))
    assert not (tmp_path / "y.zarr" / "zarr.json").exists()
    (tmp_path / "x.zarr" / key).unlink()
    with pytest.raises(StoreError, match=f"no file {key}"):
        run(transfer(tmp_path / "x.zarr", tmp_path / "y.zarr"))
    assert not (tmp_path / "y.zarr" / "zarr.json").exists()
    shutil.copy(library / "noises" / "small.zarr" / key, tmp_path / "x.zarr" / key)
    assert run(transfer(tmp_path / "x.zarr", tmp_path / "y.zarr")).made
    whole(tmp_path / "y.zarr")


def test_metadata_that_do_not_hold_are_not_copied(library, tmp_path):
    shutil.copytree(library / "noises" / "small.zarr", tmp_path / "x.zarr")
    at = tmp_path / "x.zarr" / "mean" / "zarr.json"
    at.write_text(at.read_text().replace("float64", "float32"))
    with pytest.raises(StoreError, match="mean"):
        transfer(tmp_path / "x.zarr", tmp_path / "y.zarr")


def test_what_arrived_damaged_is_sent_again(library, tmp_path):
    store = library / "noises" / "small.zarr"
    _break_off(store, tmp_path / "x.zarr", after=60)
    shard, half, metadata = (
        tmp_path / "x.zarr" / key for key in ("features/c/1/0/0/0", "mean/c/0/0/0", "clip/zarr.json")
    )
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    half.write_bytes(half.read_bytes()[:10])
    metadata.write_bytes(metadata.read_bytes().replace(b"clip", b"clop"))
    done = run(transfer(store, tmp_path / "x.zarr"))
    assert done.made
    assert 3 <= done.sent < done.files
    assert files(Folder(tmp_path / "x.zarr")) == files(Folder(store))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".x.zarr.lock", "x.zarr"]


def test_what_another_copy_left_is_not_taken_for_this_one(library, tmp_path):
    other = library / "noises" / "other.zarr"
    _break_off(library / "noises" / "small.zarr", tmp_path / "x.zarr", after=60)
    done = run(transfer(other, tmp_path / "x.zarr"))
    assert done.sent == done.files
    assert files(Folder(tmp_path / "x.zarr")) == files(Folder(other))


def test_a_file_lost_at_the_target_is_brought_again(library, tmp_path):
    store = library / "noises" / "small.zarr"
    run(transfer(store, tmp_path / "x.zarr"))
    (tmp_path / "x.zarr" / "features" / "c" / "1" / "0" / "0" / "0").unlink()
    (tmp_path / "x.zarr" / "ledger" / "root.json").unlink(missing_ok=True)
    assert run(transfer(store, tmp_path / "x.zarr")).sent == 1
    assert files(Folder(tmp_path / "x.zarr")) == files(Folder(store))


def test_a_store_that_changes_while_it_is_copied_is_not_published(library, tmp_path):
    shutil.copytree(library / "noises" / "small.zarr", tmp_path / "x.zarr")
    task = transfer(tmp_path / "x.zarr", tmp_path / "y.zarr")
    root = tmp_path / "x.zarr" / "zarr.json"
    root.write_bytes(root.read_bytes() + b" ")
    with pytest.raises(StoreError, match="has changed while"):
        run(task)
    assert not (tmp_path / "y.zarr" / "zarr.json").exists()


def test_two_who_push_the_same_do_it_once(library, bucket):
    store = library / "noises" / "small.zarr"
    made = []

    def push():
        made.append(run(transfer(store, f"{bucket}/x.zarr"), wait=lambda text: None).made)

    threads = [threading.Thread(target=push) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, True]
    assert files(open_place(f"{bucket}/x.zarr")) == files(Folder(store))


class _Stopped(Exception):
    """A copy that is broken off in the middle."""


def _break_off(store, to, *, after):
    def stop(done):
        if done >= after:
            raise _Stopped

    task = transfer(store, to)
    assert after < len(task.keys)
    with pytest.raises(_Stopped):
        run(task, progress=stop)
    assert not task.target.exists("zarr.json")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["bucket", "folder"])
def test_killed_at_any_moment_again_and_again(library, request, tmp_path, where):
    """Killed a little later each time, it is never half a store, and at last a whole one."""
    store = library / "noises" / "small.zarr"
    place = open_place(tmp_path / "x.zarr" if where == "folder" else f"{request.getfixturevalue('bucket')}/x.zarr")
    kills = 0
    for attempt in range(20):
        before = sum(1 for _ in place.files())
        process = subprocess.Popen(
            ["ascfeat", "push", str(store), str(place), "--threads", "1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "ASCFEAT_LEASE_SECONDS": "10"},
        )
        while process.poll() is None and sum(1 for _ in place.files()) <= before + 8 + 6 * attempt:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        errors = process.communicate()[1]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += 1
        if place.exists("zarr.json"):
            whole(place)
    assert kills >= 3, "too few kills hit for this to prove anything"
    assert "digest" in ascfeat("push", store, place)
    assert files(place) == files(Folder(store))
    if where == "folder":
        assert sorted(p.name for p in tmp_path.iterdir()) == [".x.zarr.lock", "x.zarr"]


@pytest.mark.slow
def test_a_server_that_is_stopped_and_started_again_loses_nothing(library, bucket, seaweed, monkeypatch):
    monkeypatch.setenv("ASCFEAT_NETWORK_SECONDS", "1")
    monkeypatch.setenv("ASCFEAT_LEASE_SECONDS", "2")  # which cannot be given back while there is no server
    store, place = library / "noises" / "small.zarr", open_place(f"{bucket}/x.zarr")
    task = transfer(store, place)
    stopped = []

    def stop(done):
        if done == 30:
            seaweed.kill()
            stopped.append(done)

    try:
        with pytest.raises(PlaceError, match="no connection to the server") as told:
            run(transfer(store, place), progress=stop)
        assert "goes on" in told.value.todo
    finally:
        seaweed.start()
    assert stopped == [30]
    done = run(task, wait=lambda text: None)
    assert done.made
    assert 0 < done.sent < done.files
    assert files(place) == files(Folder(store))


def test_a_store_of_the_wrong_digest_is_refused_by_its_ledger(library, tmp_path):
    """Every file holds by itself, and the ledger is another store's: only the seal tells."""
    shutil.copytree(library / "noises" / "small.zarr", tmp_path / "x.zarr")
    records = tmp_path / "x.zarr" / "ledger" / "record" / "c"
    (records / "0").write_bytes((records / "1").read_bytes())
    with pytest.raises(StoreError, match="not the one that") as told:
        run(transfer(tmp_path / "x.zarr", tmp_path / "y.zarr"))
    assert told.value.differences[0].expected == open_store(library / "noises" / "small.zarr").seal.digest
    assert not (tmp_path / "y.zarr" / "zarr.json").exists()


def test_the_target_itself_is_refused(library):
    store = library / "noises" / "small.zarr"
    with pytest.raises(StoreError, match="is the store itself"):
        transfer(store, library)


def test_mismatch_is_a_mismatch(library, tmp_path):
    run(transfer(library / "noises" / "packed.zarr", tmp_path / "x.zarr"))
    with pytest.raises(StoreMismatch):
        run(transfer(library / "noises" / "small.zarr", tmp_path / "x.zarr"))
