"""Are workers kept busy and never filled up, and what becomes of a job when they die?"""

import os
import signal
import sys
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # spawned processes are told this path

import killing

from ascfeat.pools import DEATHS, QUEUED, Pool, PoolError, Processes, Threads, each


def gone(processes: set[int]) -> bool:
    """Whether all of some processes end, soon."""
    until = time.monotonic() + 20
    while any(psutil.pid_exists(p) for p in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_every_task_is_answered_by_threads() -> None:
    assert sorted(each(Threads(3), killing.double, range(100))) == [(i, 2 * i) for i in range(100)]


def test_no_more_than_a_few_tasks_are_taken_ahead() -> None:
    taken, answered = [], 0
    for _ in each(Threads(2), killing.double, (taken.append(i) or i for i in range(200))):
        answered += 1
        assert len(taken) - answered <= QUEUED * 2
    assert answered == 200


def test_a_straggler_holds_nobody_up() -> None:
    others_done = threading.Event()
    answers = each(Threads(2), lambda i: others_done.wait(60) if i == 0 else True, range(50))
    found = []
    for task, came in answers:
        found.append(task)
        if len(found) == 49:
            others_done.set()
        assert came
    assert found[-1] == 0


def test_an_error_stops_the_others_and_is_raised() -> None:
    begun = []

    def fail(i: int) -> int:
        begun.append(i)
        if i == 5:
            raise ValueError("five")
        return i

    before = threading.active_count()
    with pytest.raises(ValueError, match="five"):
        list(each(Threads(2), fail, range(1000)))
    assert len(begun) < 30
    assert threading.active_count() == before


@pytest.mark.slow
def test_a_dead_process_is_replaced_and_its_tasks_done_again(tmp_path: Path) -> None:
    said: list[str] = []
    tasks = [(i, str(tmp_path)) for i in range(20)]
    found = list(each(Processes(2), killing.die_once, tasks, say=said.append))
    assert sorted(n for _, n in found) == list(range(20))
    assert (tmp_path / "died").exists()
    assert len(said) == 1
    assert "a worker process died; 2 processes are started again" in said[0]


@pytest.mark.slow
def test_a_task_that_kills_every_time_is_named_and_others_are_not_blamed() -> None:
    found = []
    with pytest.raises(PoolError, match=rf"^3 have killed {DEATHS} worker processes"):  # noqa: PT012
        for task, _ in each(Processes(2), killing.die_always, range(40)):
            found.append(task)
    assert {0, 1, 2} <= set(found)
    assert 3 not in found


@pytest.mark.slow
def test_processes_go_when_the_job_is_let_go() -> None:
    answers = each(Processes(2), killing.pid, range(1000))
    seen = {next(answers)[1] for _ in range(10)}
    assert all(psutil.pid_exists(p) for p in seen)
    assert os.getpid() not in seen
    answers.close()
    assert gone(seen)


PARENT = """
import sys
sys.path[:0] = {path!r}
import killing
from ascfeat.pools import Processes, each
if __name__ == "__main__":
    for _, pid in each(Processes(2), killing.pid, range(10**9)):
        print(pid, flush=True)
"""


@pytest.mark.slow
def test_processes_go_when_their_parent_is_killed(tmp_path: Path) -> None:
    import subprocess

    program = tmp_path / "parent.py"
    program.write_text(PARENT.format(path=[str(Path(__file__).parent)]))
    parent = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    seen = {int(parent.stdout.readline()) for _ in range(20)}
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(seen)


@pytest.mark.slow
def test_a_process_computes_on_one_thread(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert dict(each(Processes(1), killing.threads, [1])) == {1: "1"}


class Gone(Pool):
    """A cluster whose scheduler is gone: nothing ever comes back, and a look at it tells."""

    def __str__(self) -> str:
        return "a cluster"

    def start(self) -> Executor:
        class Silent(ThreadPoolExecutor):
            def submit(self, *_: object) -> Future:
                return Future()

        return Silent(1)

    def slots(self) -> int:
        return 0

    def drop(self) -> None:
        self.dropped = True

    def check(self) -> None:
        raise PoolError("The scheduler is gone.", todo="Start it.")


def test_a_pool_that_is_gone_says_so(monkeypatch) -> None:
    monkeypatch.setattr("ascfeat.pools.POLL_SECONDS", 0.01)
    pool = Gone()
    with pytest.raises(PoolError, match="scheduler is gone"):
        list(each(pool, killing.double, [1]))
    assert pool.dropped
