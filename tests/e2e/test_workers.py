"""Do processes and a dask cluster give the bytes of one process, whoever is killed, stopped or late on the way?"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import weightless
from click.testing import CliRunner

from asccli.extract import extract as extract_command
from asccli.workers import open_workers
from ascfeat.datasets import open_dataset
from ascfeat.extract import Outcome, extract, run
from ascfeat.jobs import prepare
from ascfeat.pools import PoolError, Threads
from ascfeat.recipes import load_recipe
from ascfeat.store import open_store
from ascschemas.problems import StoreError
from ascschemas.recipe import FeatureRecipe

pytestmark = pytest.mark.slow

CLIPS = 50
RECIPES = {
    "small": "representation: {kind: log_mel, n_fft: 256, hop_length: 128, spectrum: power, n_mels: 16, floor: 1e-8}\n"
    "storage: {clips_per_shard: 8}",
    "spectrum": "representation: {kind: mean_spectrum, n_fft: 256, hop_length: 128}\nstorage: {clips_per_shard: 2}",
    "slow": "representation: {kind: weightless, milliseconds: 30}\nstorage: {clips_per_shard: 4}",
    "slower": "representation: {kind: weightless, milliseconds: 30, factor: 0.5}\nstorage: {clips_per_shard: 1}",
}
"""Units of eight, two, four and one clips; the last unit of the first and the third is short."""


@pytest.fixture(scope="module", autouse=True)
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The representation that takes as long as is asked for, known to every process that is started here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        patch.setenv("ASC_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(sys, "path", [*sys.path])
        weightless.register(tmp_path_factory.mktemp("plug-in"))
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty recordings of an eighth of a second, one of them truncated, and the recipes beside them."""
    root = tmp_path_factory.mktemp("workers") / "noises"
    for i in range(CLIPS):
        path = root / ("low", "high")[i % 2] / f"{i:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(i).standard_normal(1000), 8000)
    torn = root / "low" / "20.wav"
    torn.write_bytes(torn.read_bytes()[:900])
    for name, text in RECIPES.items():
        (root.parent / f"{name}.yaml").write_text(f"name: {name}\n{text}\n")
    return root


@pytest.fixture(scope="module")
def whole(dataset: Path) -> dict[str, bytes]:
    """Every file of stores that one thread of one process made, a clip after the other."""
    features = dataset.parent / "serial"
    extract(dataset, [load(dataset, name) for name in RECIPES], features, device="cpu", threads=1)
    return files(features)


def load(dataset: Path, recipe: str) -> FeatureRecipe:
    return load_recipe(str(dataset.parent / f"{recipe}.yaml"))


def fill(dataset: Path, features: Path, *recipes: str, **how: object) -> list[Outcome]:
    """An extraction by this process."""
    tree, manifest = open_dataset(dataset)
    jobs = prepare(tree, manifest, [load(dataset, name) for name in recipes], features, device="cpu")
    return run(tree, manifest, jobs, device="cpu", **how)


def command(dataset: Path, features: Path, recipe: str, *options: str) -> list[str]:
    """An extraction by the installed command."""
    named = ["--recipe", str(dataset.parent / f"{recipe}.yaml"), "--features", str(features)]
    return ["ascfeat", "extract", str(dataset), *named, "--device", "cpu", *options]


def files(features: Path, *recipes: str) -> dict[str, bytes]:
    """Every file of the stores in a folder; a lock beside a store is not part of it."""
    found = (p for p in features.rglob("*") if p.is_file() and not p.name.startswith("."))
    kept = {p.relative_to(features).as_posix(): p.read_bytes() for p in found}
    return {k: v for k, v in kept.items() if not recipes or k.split("/")[1].removesuffix(".zarr") in recipes}


def of(whole: dict[str, bytes], *recipes: str) -> dict[str, bytes]:
    return {k: v for k, v in whole.items() if k.split("/")[1].removesuffix(".zarr") in recipes}


def until(there: Callable[[], object], process: subprocess.Popen | None = None) -> None:
    """Wait for something, for two minutes at most, and for as long as a process lives."""
    end = time.monotonic() + 120
    while not there():
        assert time.monotonic() < end, "it never came"
        assert process is None or process.poll() is None, "it ended before"
        time.sleep(0.005)


def records(features: Path, recipe: str) -> int:
    """Units of a store that are in its ledger."""
    return len([p for p in features.glob(f"*/{recipe}.zarr/ledger/record/c/*") if not p.name.startswith(".")])


class Cluster:
    """A dask scheduler and its workers, processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.workers: list[subprocess.Popen] = []
        self.port = "0"
        self.start()

    def start(self) -> None:
        """Start the scheduler, at the port that it had before."""
        self.file.unlink(missing_ok=True)
        words = ["--host", "127.0.0.1", "--port", self.port, "--scheduler-file", str(self.file), "--no-dashboard"]
        self.scheduler = self._run("dask_scheduler", *words)
        until(self._address, self.scheduler)
        self.port = self._address().rpartition(":")[2]

    def add(self, count: int, **environment: str) -> None:
        """Start workers of one thread; without a nanny, which would start a killed one again."""
        words = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(self.folder)]
        for _ in range(count):
            self.workers.append(self._run("dask_worker", self._address(), *words, **environment))

    def end(self) -> None:
        """Kill every process of it."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    @property
    def address(self) -> str:
        return self._address()

    def _run(self, module: str, *words: str, **environment: str) -> subprocess.Popen:
        log = (self.folder / "log.txt").open("a")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *words],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )

    def _address(self) -> str:
        try:
            return str(json.loads(self.file.read_text())["address"])
        except (FileNotFoundError, json.JSONDecodeError):
            return ""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler and two workers."""
    made = Cluster(tmp_path)
    try:
        made.add(2)
        yield made
    finally:
        made.end()


def test_a_cluster_gives_the_same_files_though_a_worker_is_killed(dataset, whole, cluster, tmp_path: Path) -> None:
    said: list[str] = []

    def kill(done: int) -> None:
        if done >= 8:
            cluster.workers[0].kill()

    with open_workers(cluster.address, said.append) as pool:
        until(lambda: pool.threads() == 2)
        fill(dataset, tmp_path / "f", *RECIPES, workers=pool, progress=kill, say=said.append)
    assert cluster.workers[0].wait() == -signal.SIGKILL
    assert cluster.workers[1].poll() is None
    assert files(tmp_path / "f") == whole
    for recipe in RECIPES:
        store = open_store(tmp_path / "f/noises" / f"{recipe}.zarr")
        assert (store.seal.usable, store.seal.excluded) == (CLIPS - 1, {"truncated": 1})
    assert re.match(rf"dask: \d worker threads at {cluster.address}, dashboard http://127.0.0.1:\d+", said[0])


def test_a_killed_scheduler_stops_the_job_and_the_same_call_goes_on(dataset, whole, cluster, tmp_path: Path) -> None:
    def kill(done: int) -> None:
        if done >= 8:
            cluster.scheduler.kill()

    with pytest.raises(PoolError, match=r"(?s)The scheduler at .* is gone.*same command goes on where it stopped"):  # noqa: SIM117
        with open_workers(cluster.address, lambda line: None) as pool:
            fill(dataset, tmp_path / "f", "slow", workers=pool, progress=kill)
    assert 2 <= records(tmp_path / "f", "slow") < 13
    cluster.scheduler.wait()
    cluster.start()
    cluster.add(1)
    with open_workers(cluster.address, lambda line: None) as pool:
        (outcome,) = fill(dataset, tmp_path / "f", "slow", workers=pool)
    assert 0 < outcome.computed < CLIPS
    assert files(tmp_path / "f") == of(whole, "slow")


@pytest.mark.parametrize(("workers", "number"), [
    ("threads:2", signal.SIGTERM), ("2", signal.SIGINT), ("dask:2", signal.SIGINT),
])  # fmt: skip
def test_a_signal_stops_the_job_and_says_how_far_it_is(
    dataset, whole, tmp_path: Path, workers: str, number: int
) -> None:
    """Ctrl-C reaches every process of the terminal's group; a batch system signals one."""
    hold = tmp_path / "hold"
    hold.touch()
    features = tmp_path / "features"
    job = subprocess.Popen(
        command(dataset, features, "slow", "--workers", workers), env={**os.environ, weightless.HOLD: str(hold)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    until(lambda: records(features, "slow") >= 2, job)
    (os.killpg if number == signal.SIGINT else os.kill)(job.pid, number)
    hold.unlink()
    said, _ = job.communicate(timeout=120)
    assert job.returncode == (130 if number == signal.SIGINT else 143), said
    assert "Traceback" not in said
    done = int(said.split(" of 50 clips are done")[0].split()[-1])
    assert 8 <= done < CLIPS, said
    assert "the same command goes on from there" in said
    (outcome,) = fill(dataset, features, "slow", workers=Threads(2))
    assert outcome.computed <= CLIPS - done
    assert files(features) == of(whole, "slow")


def test_a_scheduler_that_is_not_there_is_named(monkeypatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr("asccli.workers.CONNECT_SECONDS", 1)
    with pytest.raises(PoolError, match=f"No dask scheduler answers at {address}"), open_workers(address, print):
        pass


def test_two_people_at_once_one_works_and_the_other_waits(dataset, whole, tmp_path: Path) -> None:
    hold, features = tmp_path / "hold", tmp_path / "features"
    hold.touch()
    env = {**os.environ, weightless.HOLD: str(hold)}
    first = subprocess.Popen(command(dataset, features, "slow", "--threads", "1"), stdout=subprocess.DEVNULL, env=env)
    until(lambda: records(features, "slow") >= 1, first)
    with pytest.raises(StoreError, match=f"process {first.pid}"):
        fill(dataset, features, "slow", workers=Threads(2))
    said: list[str] = []

    def waiting(line: str) -> None:
        said.append(line)
        hold.unlink(missing_ok=True)

    (outcome,) = fill(dataset, features, "slow", workers=Threads(2), wait=waiting)
    assert first.wait() == 0
    assert f"process {first.pid}" in said[0]
    assert outcome.computed == 0
    assert files(features) == of(whole, "slow")


@pytest.mark.parametrize("options", [["--workers", "many"], ["--workers", "0"], ["--workers", "2", "--threads", "2"]])
def test_words_that_mean_no_workers_are_refused(dataset: Path, tmp_path: Path, options: list[str]) -> None:
    words = command(dataset, tmp_path, "slow", *options)[2:]
    result = CliRunner().invoke(extract_command, words)
    assert result.exit_code == 2
    assert "threads:N" in result.output
    assert not list(tmp_path.iterdir())
