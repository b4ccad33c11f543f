"""Do planning and bookkeeping stay flat? An extraction of as many clips as AudioSet has, whose features weigh nothing.

Every step of a real extraction is taken (list, plan, store, units, ledger, seal), with recordings of eight samples and
a representation that multiplies by one, so that what is measured is what each clip and each unit costs beside them.

``python tests/benchmarks/scale.py`` prints the tables of docs/benchmarks.md; ``--clips 2000`` is a small run.
"""

import argparse
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
import weightless

from asccli.memory import keep_freed_memory, leave_imports_alone
from asccli.workers import open_workers
from ascfeat.extract import run
from ascfeat.jobs import prepare
from ascfeat.store import Store

T = TypeVar("T")

WAYS = ("serial", "threads:2", "2", "dask:2")
"""How units are handed out: in this process one after the other, and to two workers of each kind."""


class Peak:
    """The largest resident memory of this process while something runs, sampled."""

    def __init__(self) -> None:
        self.most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        process = psutil.Process()
        while not self._stop.wait(0.02):
            self.most = max(self.most, process.memory_info().rss)


def row(what: str, count: int, do: Callable[[], T]) -> T:
    """Do something and print a line of the table: its time, its time a clip, the memory of this process."""
    with Peak() as peak:
        start = time.perf_counter()
        result = do()
        seconds = time.perf_counter() - start
    now = psutil.Process().memory_info().rss
    most = max(peak.most, now)
    print(f"| {what} | {seconds:.2f} | {1e6 * seconds / count:.2f} | {now / 1e6:.0f} | {most / 1e6:.0f} |", flush=True)
    return result


def steps(clips: int, folder: Path, per_unit: int, workers: str) -> None:
    """The table of steps of one large extraction, in this process."""
    root = folder / "unwritten"
    tree = weightless.Unwritten(root)
    recipe = weightless.recipe("weightless", clips_per_unit=per_unit)
    print("| step | s | µs a clip | memory after, MB | most, MB |\n|---|--:|--:|--:|--:|")
    row("imports", clips, lambda: None)
    manifest = row("list", clips, lambda: weightless.manifest(clips, root))
    row("fingerprint of the list", clips, lambda: manifest.fingerprint)
    jobs = row("plan", clips, lambda: prepare(tree, manifest, [recipe], folder / "features", device="cpu"))
    leave_imports_alone()
    with open_workers(None if workers == "serial" else workers, print) as pool:
        times: list[tuple[float, int]] = []
        how = {"threads": 1} if pool is None else {"workers": pool}
        progress = _clock(times)
        row(
            f"create, compute ({workers}), seal",
            clips,
            lambda: run(tree, manifest, jobs, device="cpu", progress=progress, **how),
        )
    print(f"\nunits of {per_unit} clips: {jobs[0].header.units}; of the last line {times[-1][0] - times[0][0]:.2f} s "
          "passed between the first and the last unit\n")  # fmt: skip
    print("| step | s | µs a clip | memory after, MB | most, MB |\n|---|--:|--:|--:|--:|")
    again = row("plan again: nothing to do", clips, lambda: _prepared(tree, manifest, recipe, folder))
    assert again[0].pending == ()
    store = row("open", clips, lambda: Store(jobs[0].place))
    row("ids and labels", clips, lambda: (store.ids, store.labels))
    row("what is excluded", clips, store.excluded)


def _prepared(tree: weightless.Unwritten, manifest, recipe, folder: Path):
    return prepare(tree, manifest, [recipe], folder / "features", device="cpu")


def _clock(times: list[tuple[float, int]], now: Callable[[], float] = time.perf_counter) -> Callable[[int], None]:
    """Note when the first recordings were done, and when the last ones were, and how many by then."""

    def note(done: int) -> None:
        times[min(1, len(times)) :] = [(now(), done)]

    return note


def _each(times: list[tuple[float, int]], per_unit: int) -> float:
    """Milliseconds a unit, from the first to the last."""
    (first, done), (last, all_done) = times
    return 1000 * (last - first) / max(1, (all_done - done) / per_unit)


@contextmanager
def started(way: str) -> Iterator[dict[str, object]]:
    """How ``run`` is told to work in one way, with the workers warm."""
    if way == "serial":
        yield {"threads": 1}
        return
    with open_workers(way, lambda line: None) as pool:
        yield {"workers": pool}


def ways(clips: int, folder: Path, per_unit: int) -> None:
    """The table of ways to hand units out: what each costs a unit, beside the work itself."""
    root = folder / "unwritten"
    tree, manifest = weightless.Unwritten(root), weightless.manifest(clips, root)
    print("\n| workers | start, s | ms a unit | CPU of this process, ms a unit |\n|---|--:|--:|--:|")
    for way in WAYS:
        number = WAYS.index(way)  # other values, which cannot be taken from the store before
        recipe = weightless.recipe(f"way-{number}", clips_per_unit=per_unit, factor=1.0 + number)
        jobs = prepare(tree, manifest, [recipe], folder / "features", device="cpu")
        wall: list[tuple[float, int]] = []
        cpu: list[tuple[float, int]] = []
        with started(way) as how:
            begin = time.perf_counter()
            clocks = _clock(wall), _clock(cpu, time.process_time)
            run(tree, manifest, jobs, device="cpu", progress=lambda n, c=clocks: [note(n) for note in c], **how)
        start, each, own = wall[0][0] - begin, _each(wall, per_unit), _each(cpu, per_unit)
        print(f"| {way} | {start:.2f} | {each:.2f} | {own:.2f} |", flush=True)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--clips", type=int, default=2_000_000)
    words.add_argument("--clips-per-unit", type=int, default=32, help="log-mels of ten seconds: 32")
    words.add_argument("--ways-clips", type=int, default=32_000, help="clips for the table of workers")
    words.add_argument("--workers", default="threads:2", help="of the large extraction")
    words.add_argument("--folder", type=Path, help="on the disk to be measured")
    words.add_argument("--only", choices=["steps", "ways"])
    given = words.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        os.environ["ASC_CACHE"] = str(folder / "cache")
        weightless.register(folder / "plug-in")
        print(f"{os.cpu_count()} CPUs; {given.clips} clips of {weightless.SAMPLES} samples\n")
        if given.only != "ways":
            steps(given.clips, folder, given.clips_per_unit, given.workers)
        if given.only != "steps":
            ways(given.ways_clips, folder, given.clips_per_unit)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"\nmost memory of this process: {most:.0f} MB")


if __name__ == "__main__":
    main()
