"""Kill extractions by SIGKILL at random moments of their lives, again and again: is each store at last as if never hit?

Three kinds of life: ``extract`` fills two stores of different precisions in one pass; ``refresh`` follows a dataset in
which recordings are replaced, added and removed, also between a kill and the next start; ``workers`` does either with
two worker processes, of which a kill leaves the workers alive half of the time. After every kill each file that is
there must be whole: the bytes of one of the stores that nobody interrupted. What was published is not computed again.

``python tests/benchmarks/kills.py`` prints the table of docs/explanation/what-can-go-wrong.md; ``--place s3`` does the
same on a real object store, which is started for it.
"""

import argparse
import hashlib
import importlib
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # before NumPy is imported
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import servers
import soundfile

from ascfeat.extract import extract
from ascfeat.pools import Processes
from ascfeat.recipes import load_recipe

CLIPS = 30
LIVES = {"extract": 0.5, "refresh": 0.4, "workers": 0.1}
"""Kinds of life, and their shares of the kills."""
RECIPES = {"packed": "storage: {clips_per_shard: 2, compress: true, precision: 0.05dB}",
           "plain": "storage: {clips_per_shard: 2}"}  # fmt: skip
RECIPE = """
name: {name}
representation: {{kind: log_mel, n_fft: 1024, hop_length: 256, spectrum: power, n_mels: 40, floor: 1.0e-8}}
{storage}
"""
PATIENCE = 12
"""Kills after which one run is left alone."""

Files = Mapping[str, str]
"""Digest of each file, by its path below the folder of stores."""


class Home(ABC):
    """Where stores lie, seen without the package under test, and without a thread that a fork would lose."""

    @abstractmethod
    def __truediv__(self, name: str) -> str:
        """Features folder, or URL, of that name."""

    @abstractmethod
    def read(self, name: str) -> dict[str, bytes]:
        """Every file below it."""

    @abstractmethod
    def fill(self, name: str, files: Mapping[str, bytes]) -> None:
        """Put files there."""

    @abstractmethod
    def clear(self, name: str) -> None:
        """Remove what is there."""


class Disk(Home):
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __truediv__(self, name: str) -> str:
        return str(self.root / name)

    def read(self, name: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for path in (self.root / name).rglob("*"):
            try:
                found[path.relative_to(self.root / name).as_posix()] = path.read_bytes()
            except (IsADirectoryError, FileNotFoundError):  # an orphaned worker may be at work
                continue
        return found

    def fill(self, name: str, files: Mapping[str, bytes]) -> None:
        for key, data in files.items():
            path = self.root / name / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def clear(self, name: str) -> None:
        shutil.rmtree(self.root / name, ignore_errors=True)


class Objects(Home):
    """A prefix of a bucket, through boto3."""

    def __init__(self, server: servers.ObjectStore) -> None:
        self.client: Any = server.client()
        self.prefix = secrets.token_hex(6)

    def __truediv__(self, name: str) -> str:
        return f"s3://{servers.SHARED}/{self.prefix}/{name}"

    def read(self, name: str) -> dict[str, bytes]:
        found = {}
        for key in self._keys(name):
            try:
                data = self.client.get_object(Bucket=servers.SHARED, Key=key)["Body"].read()
            except self.client.exceptions.NoSuchKey:
                continue
            found[key.removeprefix(f"{self.prefix}/{name}/")] = data
        return found

    def fill(self, name: str, files: Mapping[str, bytes]) -> None:
        for key, data in files.items():
            self.client.put_object(Bucket=servers.SHARED, Key=f"{self.prefix}/{name}/{key}", Body=data)

    def clear(self, name: str) -> None:
        for key in self._keys(name):
            self.client.delete_object(Bucket=servers.SHARED, Key=key)

    def _keys(self, name: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=servers.SHARED, Prefix=f"{self.prefix}/{name}/")
        return [o["Key"] for page in found for o in page.get("Contents", [])]


@dataclass
class Tally:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    """By where they hit."""
    rounds: int = 0
    """Stores brought to their end and compared."""
    identical: int = 0


@dataclass
class Bench:
    """The datasets, the stores that nobody interrupted, and where the others lie."""

    root: Path
    home: Home
    whole: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files of the stores of each state of the dataset."""

    def dataset(self, state: str) -> Path:
        return self.root / state / "noises"

    def digests(self, state: str) -> Files:
        return digests(self.whole[state])

    def make_whole(self, states: str) -> float:
        """Make the stores of some states undisturbed; seconds that the last of them took."""
        for state in states:
            start = time.monotonic()
            self.home.clear(f"whole-{state}")
            assert self.attempt(state, f"whole-{state}", None) is not None
            spent = time.monotonic() - start
            self.whole[state] = stores(self.home.read(f"whole-{state}"))
            _import(self.root / "modules.json")
        return spent

    def attempt(self, state: str, name: str, kill_after: float | None, *, workers: int = 0, group: bool = True
    ) -> list[int] | None:  # fmt: skip
        """Extract in a child and perhaps kill it; clips computed for each store, or None where it was killed."""
        report = self.root / "report.json"
        report.unlink(missing_ok=True)
        child = os.fork()  # nothing is open here that a fork would break: no event loop, no client of obstore
        if child == 0:
            _live(self.dataset(state), self.root, self.home / name, workers, report)
        if kill_after is not None:
            time.sleep(kill_after)
            (os.killpg if group and _leads(child) else os.kill)(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise SystemExit("an extraction failed; what it says stands above")
        computed: list[int] | None = json.loads(report.read_text()) if os.WIFEXITED(status) else None
        return computed


def _live(dataset: Path, recipes: Path, features: str, workers: int, report: Path) -> None:
    """The life of a child, from its first byte to its last."""
    try:
        os.setsid()
        made = extract(
            dataset, [load_recipe(str(recipes / f"{name}.yaml")) for name in RECIPES], features, device="cpu",
            threads=None if workers else 2, workers=Processes(workers) if workers else None,
        )  # fmt: skip
        (report.parent / "modules.json").write_text(json.dumps(sorted({*sys.modules} - {"__main__"})))
        report.write_text(json.dumps([o.computed for o in made]))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _import(modules: Path) -> None:
    """Import what a whole life has imported, so that the children to come need not: only they ever use it."""
    for name in json.loads(modules.read_text()):
        with suppress(Exception):  # some are made up by others
            importlib.import_module(name)


def _leads(process: int) -> bool:
    try:
        return os.getpgid(process) == process
    except ProcessLookupError:
        return False


def make_datasets(root: Path) -> None:
    """Thirty recordings of half a second, one damaged; the same with one replaced; and with one added, one removed."""
    for i in range(CLIPS):
        noise(root / "a" / "noises" / ("low", "high")[i % 2] / f"{i:02}.wav", i)
    torn = root / "a" / "noises" / "low" / "10.wav"
    torn.write_bytes(torn.read_bytes()[:3000])
    for state in "bc":
        shutil.copytree(root / "a", root / state)
        noise(root / state / "noises" / "low" / "06.wav", 100 + ord(state))
    noise(root / "b" / "noises" / "high" / "00.wav", 200)  # before all others: every unit holds other clips
    (root / "b" / "noises" / "low" / "04.wav").unlink()
    for name, storage in RECIPES.items():
        (root / f"{name}.yaml").write_text(RECIPE.format(name=name, storage=storage))


def noise(path: Path, seed: int) -> None:
    """Write half a second of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(8_000), 16_000)


def stores(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files of stores: without locks, older states and unpublished files, whose names begin with a point."""
    return {k: v for k, v in files.items() if not any(part.startswith(".") for part in k.split("/"))}


def digests(files: Mapping[str, bytes]) -> Files:
    """Digest of each file."""
    return {key: hashlib.sha256(data).hexdigest() for key, data in files.items()}


def one_round(bench: Bench, life: str, seconds: float, rng: random.Random, left: int, tally: Tally) -> None:
    """From nothing, or from a store of another state, to the end, through several kills."""
    name, workers = f"round-{tally.rounds}", 2 if life == "workers" else 0
    refreshing = life == "refresh" or (workers and rng.random() < 0.5)
    if refreshing:
        bench.home.fill(name, bench.whole[rng.choice("abc")])
    state, kills = "a" if not refreshing else rng.choice("abc"), 0
    while True:
        before = stores(bench.home.read(name)) if not refreshing else {}
        after = rng.uniform(0, seconds) if kills < min(left, PATIENCE) else None
        computed = bench.attempt(state, name, after, workers=workers, group=rng.random() < 0.5)
        if computed is not None:
            break
        kills += 1
        found = bench.home.read(name)
        _each_is_whole(bench, stores(found), "abc" if refreshing else "a")
        tally.kills[_where(found)] += 1
        if refreshing and rng.random() < 0.3:  # the dataset changes once more before the next start
            state = rng.choice("abc")
    if not refreshing:
        _nothing_twice(before, computed, orphans=bool(workers))
    _end_of_orphans(name)
    tally.rounds += 1
    found = bench.home.read(name)
    tally.identical += digests(stores(found)) == bench.digests(state)
    _nothing_left(found, state)
    bench.home.clear(name)


def _each_is_whole(bench: Bench, found: Mapping[str, bytes], states: str) -> None:
    """Every file but an unsealed root is that of a store that nobody interrupted."""
    wholes = [bench.whole[s] for s in states]
    for key, data in found.items():
        root = key.endswith((".zarr/zarr.json", "ledger/root.json")) and _unsealed(data)
        if not root and not any(w.get(key) == data for w in wholes):
            raise SystemExit(f"{key} is torn: {len(data)} bytes that no whole store has")


def _unsealed(root: bytes) -> bool:
    return "ascfeat_seal" not in json.loads(root)["attributes"]


def _nothing_twice(before: Mapping[str, bytes], computed: Sequence[int], *, orphans: bool) -> None:
    """What was published is not computed again; workers that outlive a kill may have published more by then."""
    for number, recipe in enumerate(RECIPES):
        done = 2 * sum(f"/{recipe}.zarr/ledger/record/c/" in key for key in before)
        if not (computed[number] <= CLIPS - done if orphans else computed[number] == CLIPS - done):
            raise SystemExit(f"{recipe}: {done} clips were done, and {computed[number]} were computed")


def _nothing_left(found: Mapping[str, bytes], state: str) -> None:
    """Only locks are left beside the stores, and what was to become one: ``ascfeat gc`` takes it away."""
    left = [key for key in found if key not in stores(found) and ".lock" not in Path(key).name]
    if left:
        raise SystemExit(f"left behind in the end, at state {state}: {left[:5]}")


def _where(found: Mapping[str, bytes]) -> str:
    """In which part of its life a process was killed, by what it left."""
    roots = [data for key, data in stores(found).items() if key.endswith(".zarr/zarr.json")]
    if any(".before/" in key for key in found):
        return "while the older state of a store waited"
    if len(roots) < len(RECIPES):
        return "before both stores were created"
    if all(_unsealed(root) for root in roots):
        return "while units were written"
    return "between the two seals" if any(_unsealed(root) for root in roots) else "with both stores sealed"


def _end_of_orphans(name: str) -> None:
    """Wait until workers that lost their parent are gone; they see it at once."""
    until = time.monotonic() + 60
    while any(_is_of(process, name) for process in Path("/proc").glob("[0-9]*")):
        if time.monotonic() > until:
            raise SystemExit("a worker outlives its parent")
        time.sleep(0.05)


def _is_of(process: Path, name: str) -> bool:
    """Whether a process was spawned by a child of ours that is gone."""
    try:
        ours = f"ASC_KILLS={os.getpid()}".encode() in (process / "environ").read_bytes().split(b"\0")
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return ours and int(process.name) != os.getpid() and state != "Z"
    except OSError:
        return False


@contextmanager
def home_of(kind: str, root: Path) -> Iterator[Home]:
    """The disk, or an object store that is started for it."""
    if kind == "folder":
        yield Disk(root)
        return
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of weed
    with servers.object_store() as server:
        os.environ.update({**server.environment(), "ASCFEAT_NETWORK_SECONDS": "20"})
        yield Objects(server)


def report(kind: str, life: str, tally: Tally, spent: float) -> None:
    """A line of the table, and where the kills hit."""
    print(f"| {kind} | {life} | {tally.kills.total()} | {tally.identical} of {tally.rounds} |", flush=True)
    hits = ", ".join(f"{n} {where}" for where, n in sorted(tally.kills.items(), key=lambda kv: -kv[1]))
    print(f"    {hits}; {spent:.0f} s", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the status is 1 where a store came out otherwise."""
    parser = argparse.ArgumentParser(description="Kill extractions again and again, and look at what they leave.")
    parser.add_argument("--kills", type=int, default=200, help="in all")
    parser.add_argument("--place", choices=["folder", "s3"], default="folder")
    parser.add_argument("--of", nargs="+", choices=list(LIVES), default=list(LIVES), help="kinds of life")
    parser.add_argument("--folder", help="where to make everything; one for temporary files where absent")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    wrong, scratch = 0, tempfile.TemporaryDirectory(prefix="asc-kills-", dir=given.folder)
    with scratch as folder, home_of(given.place, Path(folder)) as home:
        os.environ.update({"ASC_CACHE": f"{folder}/cache", "ASC_KILLS": str(os.getpid())})
        bench = Bench(Path(folder), home)
        make_datasets(bench.root)
        seconds = bench.make_whole("aa" if given.of == ["extract"] else "cba")  # the first also imports
        print("| place | life | kills | stores byte-identical at the end |\n|---|---|--:|--:|")
        shares = sum(LIVES[life] for life in given.of)
        for life in given.of:
            rng, tally, start = random.Random(f"{given.seed} {life}"), Tally(), time.monotonic()
            lasting = _lasting(bench, life, seconds)
            wanted = max(1, round(given.kills * LIVES[life] / shares))
            while tally.kills.total() < wanted:
                one_round(bench, life, lasting, rng, wanted - tally.kills.total(), tally)
            report(given.place, life, tally, time.monotonic() - start)
            wrong += tally.rounds - tally.identical
    return 1 if wrong else 0


def _lasting(bench: Bench, life: str, seconds: float) -> float:
    """How long a life takes that nobody disturbs."""
    if life == "extract":
        return seconds
    start = time.monotonic()
    if life == "refresh":
        bench.home.fill("undisturbed", bench.whole["a"])
        start = time.monotonic()
    bench.attempt("b", "undisturbed", None, workers=2 if life == "workers" else 0)
    spent = time.monotonic() - start
    bench.home.clear("undisturbed")
    return spent


if __name__ == "__main__":
    sys.exit(main())
