"""Does one process at a time write a store, in a folder and in a bucket, whatever becomes of the others?"""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from ascfeat import lock
from ascfeat.holder import Holder
from ascfeat.lock import exclusive, lock_name
from ascfeat.store.places import Folder, open_place
from ascschemas.problems import StoreError

HOLD = """
import sys
from ascfeat.lock import exclusive
with exclusive({place!r}) as held:
    print("held", flush=True)
    sys.stdin.readline()
    held.check()
    print("still held", flush=True)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Who waits looks often."""
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(lock, "REMOTE_POLL_SECONDS", 0.1)


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path):
    """Where a store may come to lie."""
    if request.param == "folder":
        return open_place(tmp_path / "library" / "x.zarr")
    return open_place(f"{request.getfixturevalue('bucket')}/x.zarr")


@contextlib.contextmanager
def holder(place, **environment):
    """Another process that holds the right to write, until a line is sent to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(place=str(place))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout.readline() == "held\n", process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_writer_is_told_who_writes(place):
    with holder(place) as other:
        with pytest.raises(StoreError) as refused, exclusive(place):
            pass
        assert f"process {other.pid}" in refused.value.what
        assert f"{Holder.here().user} on {Holder.here().host}" in refused.value.what
        assert "since 20" in refused.value.what
        other.communicate("\n")
    with exclusive(place) as held:
        held.check()


def test_a_second_writer_may_wait(place):
    with holder(place) as other:
        told = []

        def wait(text):
            told.append(text)
            other.stdin.write("\n")
            other.stdin.flush()

        with exclusive(place, wait=wait) as held:
            held.check()
    assert len(told) == 1
    assert f"{place} is being written by" in told[0]
    assert f"process {other.pid}" in told[0]


def test_a_killed_writer_is_succeeded_at_once(place):
    with holder(place, ASCFEAT_LEASE_SECONDS="86400") as other:
        other.kill()
        other.wait()
        with exclusive(place) as held:
            held.check()


def test_a_killed_writer_that_nobody_has_buried_is_succeeded_too(place):
    with holder(place, ASCFEAT_LEASE_SECONDS="86400") as other:
        other.kill()
        while (status := _state(other.pid)) not in "Z":
            assert status
        with exclusive(place) as held:
            held.check()


def _state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_threads_of_one_process_exclude_each_other(place):
    with exclusive(place), pytest.raises(StoreError, match=f"process {os.getpid()}"), exclusive(place):
        pass


def test_many_take_turns_and_never_two_at_once(place):
    inside, most, turns = 0, 0, 0
    one = threading.Lock()

    def work():
        nonlocal inside, most, turns
        with exclusive(place, wait=lambda text: None) as held:
            with one:
                inside += 1
                most = max(most, inside)
            held.check()
            with one:
                inside -= 1
                turns += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (1, 4)


def test_the_lock_lies_beside_the_store_and_opens_for_nobody_else(place):
    with exclusive(place):
        assert list(place.files()) == []
        assert list(place.parent.files()) == [lock_name(place)]


def test_a_web_server_is_not_written(nginx):
    with pytest.raises(StoreError, match="can only be read"), exclusive(open_place(nginx.url)):
        pass


# of folders


def test_the_lock_of_a_shared_folder_is_the_groups(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    code = f"""
import os; os.umask(0o077)
from ascfeat.lock import exclusive
with exclusive({str(shared / "x.zarr")!r}): pass
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert stat.S_IMODE((shared / ".x.zarr.lock").stat().st_mode) == 0o660


def test_a_lock_that_went_with_its_folder_is_told_as_that(tmp_path):
    """The share was unmounted, most likely: nobody touched the lock."""
    share = tmp_path / "share"
    with exclusive(share / "x.zarr") as held:
        share.rename(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match="share is not there any more, and with it the lock") as told:
            held.check()
    assert "Mount it again" in told.value.todo
    assert not share.exists()


def test_a_lock_removed_by_somebody_is_noticed_before_the_next_write(tmp_path):
    with exclusive(tmp_path / "x.zarr") as held:
        held.check()
        (tmp_path / ".x.zarr.lock").unlink()
        with pytest.raises(StoreError, match="was removed or replaced"):
            held.check()
        with exclusive(tmp_path / "x.zarr"), pytest.raises(StoreError, match="was removed or replaced"):
            held.check()


def test_two_ways_to_one_store_are_one_lock(tmp_path):
    (tmp_path / "real" / "x.zarr").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "y.zarr").symlink_to("real/x.zarr")
    with exclusive(tmp_path / "real" / "x.zarr"):
        for other in ("link/x.zarr", "y.zarr"):
            with pytest.raises(StoreError, match="is being written"), exclusive(tmp_path / other):
                pass


@pytest.mark.parametrize("text", ["", "root@old, process 12\n", "[1]", '{"process": "x"}', "\0\xff"])
def test_whatever_the_lock_file_says_it_locks(tmp_path, text):
    (tmp_path / ".x.zarr.lock").write_text(text)
    with exclusive(Folder(tmp_path / "x.zarr")) as held:
        held.check()
        (tmp_path / ".x.zarr.lock").write_text(text)
        with pytest.raises(StoreError, match="is being written by another process"), exclusive(tmp_path / "x.zarr"):
            pass


# of buckets


@pytest.mark.slow
def test_a_writer_that_was_stopped_loses_its_right_and_learns_it(bucket):
    place = open_place(f"{bucket}/x.zarr")
    with holder(place, ASCFEAT_LEASE_SECONDS="2") as other:
        other.send_signal(signal.SIGSTOP)
        with exclusive(place, wait=lambda text: None) as held:  # comes back when its lease has ended
            held.check()
            other.send_signal(signal.SIGCONT)
            out, errors = other.communicate("\n")
            held.check()
    assert "still held" not in out
    assert "has lost the right to write" in errors
    assert f"process {os.getpid()}" in errors


@pytest.mark.slow
def test_a_writer_that_was_stopped_for_a_while_goes_on_where_nobody_came(bucket):
    place = open_place(f"{bucket}/x.zarr")
    with holder(place, ASCFEAT_LEASE_SECONDS="2") as other:
        other.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        other.send_signal(signal.SIGCONT)
        out, errors = other.communicate("\n")
    assert (out, errors) == ("still held\n", "")


@pytest.mark.slow
def test_a_lease_is_renewed_while_its_holder_works(bucket):
    place = open_place(f"{bucket}/x.zarr")
    with holder(place, ASCFEAT_LEASE_SECONDS="4") as other:
        seen = set()
        until = time.monotonic() + 6
        while time.monotonic() < until:
            seen.add(place.parent.marked(lock_name(place)).tag)
            with pytest.raises(StoreError, match=f"process {other.pid}"), exclusive(place):
                pass
    assert len(seen) > 2


@pytest.mark.slow
def test_a_holder_on_another_machine_is_waited_for_and_then_succeeded(bucket):
    place = open_place(f"{bucket}/x.zarr")
    elsewhere = Holder.here().model_copy(update={"host": "elsewhere", "machine": "another", "process": 1})
    from ascfeat.lease import Lease

    place.parent.write(lock_name(place), [Lease(elsewhere, 3.0).data()])
    told = []
    with pytest.raises(StoreError, match="on elsewhere, process 1,"), exclusive(place):
        pass
    with exclusive(place, wait=told.append) as held:
        held.check()
    assert told
    assert "on elsewhere, process 1," in told[0]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"holder": 1, "seconds": "x", "beat": 0}', b"\xff"])
def test_a_lease_that_does_not_read_lives_as_long_as_others(bucket, data, monkeypatch):
    """It may be of a newer kind: two writers are worse than a minute's wait."""
    place = open_place(f"{bucket}/x.zarr")
    place.parent.write(lock_name(place), [data])
    with pytest.raises(StoreError, match="is being written by"), exclusive(place):
        pass
    monkeypatch.setattr("ascfeat.lease.LEASE_SECONDS", 2.0)
    time.sleep(5)  # the server's clock has whole seconds
    with exclusive(place) as held:
        held.check()


def test_a_lease_removed_by_somebody_is_noticed(bucket, monkeypatch):
    monkeypatch.setenv("ASCFEAT_LEASE_SECONDS", "2")
    place = open_place(f"{bucket}/x.zarr")
    with exclusive(place) as held:
        place.parent.remove(lock_name(place))
        time.sleep(2)
        with pytest.raises(StoreError, match="somebody removed it"):
            held.check()


@pytest.mark.parametrize("said", ["x", "1", "-3", "nan", "1e9"])
def test_a_lease_of_no_sensible_length_is_refused(bucket, monkeypatch, said):
    monkeypatch.setenv("ASCFEAT_LEASE_SECONDS", said)
    with pytest.raises(StoreError, match="ASCFEAT_LEASE_SECONDS"), exclusive(f"{bucket}/x.zarr"):
        pass


def test_what_is_known_of_a_process():
    here = Holder.here()
    assert not here.dead
    assert here.model_copy(update={"started": "1"}).dead  # its number was given to another since
    assert not here.model_copy(update={"machine": "another", "started": "1"}).dead
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent("input()")], stdin=subprocess.PIPE)
    it = here.model_copy(update={"process": child.pid, "started": ""})
    assert not it.dead
    child.communicate(b"\n")
    assert it.dead
    assert Holder.read(here.text(), age=200) == here.model_copy(update={"age": 200})
    assert str(Holder.read(here.text(), age=7500)).endswith("UTC, for 2 h 5 min")
    assert str(Holder.read("", age=3)) == "another process, for 3 s"
