"""Where units are computed: threads of this process, processes of this machine; and what becomes of dying workers."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from typing_extensions import override

from ascschemas.problems import AscError

Task = TypeVar("Task")
Answer = TypeVar("Answer")

QUEUED = 2
"""Units under way or waiting for each worker: one to compute and the next; a unit waits as a description only."""
DEATHS = 3
"""Times that a unit may take its worker with it before the job stops and names it."""
RESTARTS = 20
"""Times that dead workers are replaced in one job: a machine that kills more of them needs a person."""
POLL_SECONDS = 1.0
"""How often a pool is asked whether it is still there while no unit comes back."""


class PoolError(AscError):
    """Workers that keep dying, or are gone."""


class Pool(ABC):
    """Workers for the units of one job."""

    apart = True
    """Whether workers are other processes, which see a description of the job and not its objects."""
    patience = 0.0
    """Seconds until what one machine has written must be seen by another."""

    @abstractmethod
    def __str__(self) -> str:
        """The workers in words: ``4 processes``."""

    @abstractmethod
    def start(self) -> Executor:
        """New workers; called again when the old ones died."""

    @abstractmethod
    def slots(self) -> int:
        """Units to keep under way now."""

    def check(self) -> None:
        """Raise PoolError where the workers are gone for good; asked while no unit comes back."""
        return

    def explain(self, error: BaseException, task: object) -> AscError | None:
        """What an error of the executor itself means, in words; None where the error speaks for itself."""
        return None

    @abstractmethod
    def drop(self) -> None:
        """The job is stopped: let units under way go, or let them end, soon."""

    def end(self, executor: Executor) -> None:
        """Wait until workers do nothing any more for this job."""
        executor.shutdown(wait=True)

    def stopped(self) -> bool:
        """Whether the job is stopped, for units that run in this process."""
        return False


class Threads(Pool):
    """So many whole units at once, in threads of this process."""

    apart = False

    def __init__(self, count: int) -> None:
        self.count = count
        self._stop = threading.Event()

    @override
    def __str__(self) -> str:
        return f"{self.count} threads, each with a unit of its own"

    @override
    def start(self) -> Executor:
        self._stop.clear()
        return ThreadPoolExecutor(self.count, thread_name_prefix="unit")

    @override
    def slots(self) -> int:
        return QUEUED * self.count

    @override
    def drop(self) -> None:
        self._stop.set()

    @override
    def stopped(self) -> bool:
        return self._stop.is_set()


class Processes(Pool):
    """So many new processes of this machine; spawned, because a fork of a process with threads can lock up.

    A spawned process imports the program that started it, so a script needs its ``if __name__ == "__main__":``.

    Parameters
    ----------
    count : int
        Processes.
    begin : callable, optional
        Called first in each; it must be importable.
    """

    def __init__(self, count: int, begin: Callable[[], object] | None = None) -> None:
        self.count, self.begin = count, begin
        self._alive: Connection | None = None

    @override
    def __str__(self) -> str:
        return f"{self.count} processes"

    @override
    def start(self) -> Executor:
        self.drop()
        context = get_context("spawn")
        theirs, self._alive = context.Pipe(duplex=False)
        return ProcessPoolExecutor(self.count, mp_context=context, initializer=_begin, initargs=(theirs, self.begin))

    @override
    def slots(self) -> int:
        return QUEUED * self.count

    @override
    def drop(self) -> None:
        if self._alive is not None:
            self._alive.close()
            self._alive = None


def _begin(alive: Connection, begin: Callable[[], object] | None) -> None:
    """Prepare a new process: one thread for each library, deaf to Ctrl-C, and gone when its parent is.

    The parent holds the other end of ``alive``; when that is closed, by the parent or by its death, the process ends
    at once. What it was computing is dropped: nothing of a unit is seen before it is whole.
    """
    import signal

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # read when NumPy is imported, which comes later
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    threading.Thread(target=_leave_with, args=(alive,), daemon=True).start()
    if begin is not None:
        begin()


def _leave_with(alive: Connection) -> None:
    try:
        alive.recv()
    except (EOFError, OSError):
        os._exit(1)


def each(
    pool: Pool,
    function: Callable[..., Answer],
    tasks: Iterable[Task],
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Generator[tuple[Task, Answer], None, None]:
    """Yield tasks with their answers as they come, computed by a pool that is kept busy and never filled up.

    Tasks are taken from the iterator as workers become free, so there may be any number of them. A slow one holds
    nobody up. When workers die, they are replaced and what they were doing is done again, one task at a time until it
    is clear which of them kills.

    Parameters
    ----------
    pool : Pool
        Started here, and let go at the end.
    function : callable
        Of a task; importable where the pool is of other processes.
    tasks : iterable
        What to do; each is done at least once.
    say : callable
        Given a line when workers were replaced.

    Raises
    ------
    PoolError
        When a task has killed ``DEATHS`` workers, when too many died, or when the pool is gone.
    """
    crew = _Crew(pool, function, iter(tasks), say)
    try:
        while crew.busy():
            yield from crew.answers()
        pool.end(crew.executor)
    except BaseException:
        pool.drop()
        raise
    finally:
        crew.let_go()
        pool.drop()


class _Crew(Generic[Task, Answer]):
    """The tasks under way, those to be tried again, and the executor of the moment."""

    def __init__(
        self, pool: Pool, function: Callable[..., Answer], tasks: Iterator[Task], say: Callable[[str], None]
    ) -> None:
        self.pool, self.function, self.tasks, self.say = pool, function, tasks, say
        self.executor = pool.start()
        self.under_way: dict[Future[Answer], Task] = {}
        self.suspects: deque[Task] = deque()
        """What dead workers may have been doing; tried again alone."""
        self.deaths: Counter[str] = Counter()
        self.restarts = 0

    def busy(self) -> bool:
        """Give workers what they have room for; whether anything is under way."""
        try:
            if self.suspects:
                if not self.under_way:
                    self._submit(self.suspects.popleft())
                return True
            while len(self.under_way) < max(1, self.pool.slots()):
                task = next(self.tasks, None)
                if task is None:
                    break
                self._submit(task)
        except BrokenExecutor:  # noticed by `submit`; the futures under way tell the rest
            if not self.under_way:
                self._replace([])
        return bool(self.under_way) or bool(self.suspects)

    def answers(self) -> Iterator[tuple[Task, Answer]]:
        """What has come back by now; waits for something, but never longer than until the pool is looked at again."""
        ready, _ = wait(self.under_way, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        if not ready:
            self.pool.check()
        lost: list[Task] = []
        for future in ready:
            yield from self._collect(future, lost)
        if lost:  # the others break, too, or were done just before
            for future in list(self.under_way):
                yield from self._collect(future, lost)
            self._replace(lost)

    def let_go(self) -> None:
        """Forget what has not begun."""
        for future in self.under_way:
            future.cancel()
        self.pool.end(self.executor)

    def _submit(self, task: Task) -> None:
        try:
            self.under_way[self.executor.submit(self.function, task)] = task
        except BrokenExecutor:
            self.suspects.append(task)
            raise

    def _collect(self, future: Future[Answer], lost: list[Task]) -> Iterator[tuple[Task, Answer]]:
        task = self.under_way.pop(future)
        try:
            answer = future.result()
        except BrokenExecutor:
            lost.append(task)
            return
        except (Exception, CancelledError) as error:
            self.pool.check()
            explained = self.pool.explain(error, task)
            if explained is None:
                raise
            raise explained from error
        yield task, answer

    def _replace(self, lost: list[Task]) -> None:
        """New workers for dead ones; what they may have been doing is tried again, alone."""
        self.restarts += 1
        self.deaths.update(map(str, lost))
        worst = max(lost, key=lambda task: self.deaths[str(task)], default=None)
        if worst is not None and self.deaths[str(worst)] >= DEATHS:
            raise PoolError(
                f"{worst} have killed {DEATHS} worker processes, the last time alone.",
                todo="Look whether they need more memory than there is, or remove those recordings; "
                "then run the same command again: it goes on where it stopped.",
            )
        if self.restarts > RESTARTS:
            raise PoolError(
                f"Worker processes died {self.restarts} times.",
                todo="Look who kills them (memory, most often), take fewer --workers, and run the same command again: "
                "it goes on where it stopped.",
            )
        self.pool.end(self.executor)
        self.executor = self.pool.start()
        self.suspects.extend(lost)
        self.say(f"a worker process died; {self.pool} are started again, and {len(lost)} units are done again")
