"""What ``--workers`` means: threads, processes, or a dask cluster; the door to dask.distributed."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import click
from typing_extensions import override

from asccli.memory import keep_freed_memory
from ascfeat.pools import QUEUED, Pool, PoolError, Processes, Threads

Say = Callable[[str], None]

CONNECT_SECONDS = 30
"""How long a scheduler is waited for."""
PATIENCE_SECONDS = 60.0
"""How long a unit that one machine wrote may stay unseen by another: NFS keeps what it knows for up to a minute."""
END_SECONDS = 60.0
"""How long units under way on a cluster are waited for when a job is stopped."""
LEAST_SLOTS = 8
"""Units offered to a cluster that has no workers yet: an adaptive one starts some because of them."""
FORMS = "N, threads:N, dask, dask:N or tcp://host:8786"
FORM = re.compile(r"((threads:|dask:)?[1-9]\d{0,4}|dask|(tcp|tls|ucx|ws|wss)://\S+)")
AGAIN = "the same command goes on where it stopped."


@contextmanager
def open_workers(text: str | None, say: Say) -> Iterator[Pool | None]:
    """The workers that a person names; none for the default, one process with clips under way on threads.

    Parameters
    ----------
    text : str, optional
        What :func:`known_workers` accepts: ``4`` processes, ``threads:4``, ``dask`` (a cluster on this machine),
        ``dask:4``, or a scheduler's address.
    say : callable
        Given lines about a cluster: its size, its dashboard, that it has no workers.

    Raises
    ------
    PoolError
        When dask is not installed, or no scheduler answers.
    """
    if text is None:
        yield None
    elif text.isdecimal():
        yield Processes(int(text), keep_freed_memory)
    elif text.startswith("threads:"):
        yield Threads(int(text.partition(":")[2]))
    elif text.startswith("dask"):
        with _local_cluster(text.partition(":")[2]) as address, _cluster(address, say) as pool:
            yield pool
    else:
        with _cluster(text, say) as pool:
            yield pool


def known_workers(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """What ``--workers`` was given, if it means something; nothing is started yet."""
    if text is not None and not FORM.fullmatch(text):
        raise click.BadParameter(f"{text} is none of {FORMS}.")
    return text


class Cluster(Pool):
    """The workers of a dask cluster, through a connected client."""

    patience = PATIENCE_SECONDS

    def __init__(self, client: Any, say: Say) -> None:
        self.client, self.say = client, say
        self.address = client.scheduler.address
        self._alone_since: float | None = None
        self._threads = (0.0, 0)

    @override
    def __str__(self) -> str:
        return f"the cluster at {self.address}"

    @override
    def start(self) -> Executor:
        executor: Executor = self.client.get_executor(pure=False)
        return executor

    @override
    def slots(self) -> int:
        return max(LEAST_SLOTS, QUEUED * self.threads())

    def threads(self) -> int:
        """Threads of all workers, as of a second ago."""
        now = time.monotonic()
        if now - self._threads[0] > 1:
            self._threads = now, sum(w["nthreads"] for w in self._workers().values())
        return self._threads[1]

    @override
    def check(self) -> None:
        if self.client.status != "running":
            raise PoolError(
                f"The scheduler at {self.address} is gone, or was started anew; what is published is kept.",
                todo=f"Start the cluster again; {AGAIN}",
            )
        if self._workers():
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
            self.say(f"the cluster at {self.address} has no workers; waiting until some join")

    @override
    def explain(self, error: BaseException, task: object) -> PoolError | None:
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            return PoolError(
                f"{task} have killed every worker of {self.address} that tried them: {_first_line(error)}",
                todo=f"Look whether they need more memory than a worker has, or remove those recordings; {AGAIN}",
            )
        if isinstance(error, CancelledError):
            return PoolError(
                f"The cluster at {self.address} has dropped {task}: it was started anew, or the job cancelled.",
                todo=f"Look at its log; {AGAIN}",
            )
        if isinstance(error, ImportError | AttributeError):
            return PoolError(
                f"A worker of {self.address} cannot run this job: {_first_line(error)}",
                todo=f"Install ascfeat in the same version on every machine that works; {AGAIN}",
            )
        return PoolError(
            f"{task} failed at {self.address}: {type(error).__name__}: {_first_line(error)}",
            todo=f"Look at the cluster's log; {AGAIN}",
        )

    @override
    def drop(self) -> None:
        """Units under way end by themselves; :meth:`end` waits for them."""

    @override
    def end(self, executor: Executor) -> None:
        """Wait until no worker does anything for this job: a unit cannot be interrupted from here."""
        executor.shutdown(wait=False)
        until = time.monotonic() + END_SECONDS
        while self.client.status == "running" and time.monotonic() < until:
            running = _answer(lambda: self.client.run(_ours, wait=True, on_error="ignore"), until - time.monotonic())
            if running is None or not sum(running.values()):
                return
            time.sleep(0.2)

    def _workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return found


def _answer(ask: Callable[[], dict[str, int]], seconds: float) -> dict[str, int] | None:
    """What a cluster says, or None where it says nothing for so long: a worker that hangs answers nobody."""
    said: list[dict[str, int]] = []
    asking = threading.Thread(target=lambda: said.append(ask()), daemon=True)
    asking.start()
    asking.join(seconds)
    return said[0] if said else None


def _ours(dask_worker: Any) -> int:
    """Units that a worker is computing now; run on it."""
    running = dask_worker.state.executing | dask_worker.state.long_running
    return sum(str(task.key).startswith("fill_apart") for task in running)


@contextmanager
def _local_cluster(workers: str) -> Iterator[str]:
    """A cluster of this machine; one process a CPU unless told otherwise."""
    _require()
    from distributed import LocalCluster

    how = {"n_workers": int(workers)} if workers else {}
    start: Any = LocalCluster  # its types are not declared
    with _deaf_to_interrupts():
        cluster = start(threads_per_worker=1, dashboard_address=":0", **how)
    with cluster:
        yield cluster.scheduler_address


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes that a Ctrl-C does not reach, as a terminal sends it to all: they end with their parent."""
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is ignored stays so in a new process
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _cluster(address: str, say: Say) -> Iterator[Cluster]:
    """A connection to a scheduler."""
    _require()
    from distributed import Client

    connect: Any = Client  # its types are not declared
    try:
        client = connect(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise PoolError(
            f"No dask scheduler answers at {address}: {_first_line(error)}",
            todo="Start one with `dask scheduler`, and workers with `dask worker`; then run the same command again.",
        ) from error
    with client:
        pool = Cluster(client, say)
        drawn = "" if find_spec("bokeh") else " (it draws pages where bokeh is installed)"
        say(f"dask: {pool.threads()} worker threads at {address}, dashboard {client.dashboard_link}{drawn}")
        yield pool


def _require() -> None:
    if find_spec("distributed") is None:
        raise PoolError(
            "dask.distributed is not installed.",
            todo='Install it with `pip install "ascfeat[dask]"`, or use --workers N.',
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
