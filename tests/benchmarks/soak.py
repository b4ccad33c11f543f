"""Four writers and eight readers at once on one library: is a value ever wrong, or an error not written down?

Two writers fight for the same two stores, whose recordings are replaced, added and removed meanwhile; one refreshes
stores of its own; one damages a store of its own and repairs it. The readers open whatever is there, keep it open, read
clips at random, verify it, and read its statistics. Every value is held against the one that the recording named in the
ledger gives, which is known beforehand; and every recording against those that its clip ever had.

``python tests/benchmarks/soak.py --minutes 10`` prints what docs/explanation/what-can-go-wrong.md shows.
"""

import argparse
import hashlib
import os
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # before NumPy is imported

import numpy as np
import soundfile

from ascfeat.datasets import open_dataset
from ascfeat.extract import extract, run
from ascfeat.jobs import prepare
from ascfeat.lock import exclusive
from ascfeat.recipes import load_recipe
from ascfeat.repair import repair
from ascfeat.store import Store, find_stores, open_store, verify
from ascfeat.store.encoding import number_digest
from ascfeat.store.places import Folder
from ascschemas.problems import StoreError

WRITERS, READERS = 4, 8
CLIPS, VERSIONS = 12, 3
RECIPES = {"packed": "storage: {clips_per_shard: 2, compress: true, precision: 0.05dB}",
           "plain": "storage: {clips_per_shard: 2}"}  # fmt: skip
RECIPE = """
name: {name}
representation: {{kind: log_mel, n_fft: 1024, hop_length: 256, spectrum: power, n_mels: 40, floor: 1.0e-8}}
{storage}
"""
DOCUMENTED = {
    "is not finished": r"is not finished",
    "is being written": r"is being written",
    "was written anew": r"was written anew",
    "is not there": r"There is no feature store at",
}
"""What a reader may be told of a store that somebody writes."""
DAMAGED = {"is damaged": r"(?s)cannot be used|is not finished|damaged"}
"""What it may be told, besides, of the store that is damaged on purpose."""


@dataclass(frozen=True)
class Known:
    """What each recording gives, found out before anybody is in the way."""

    values: dict[tuple[str, str], str]
    """Digest of a clip's numbers, by recipe and digest of its recording."""
    means: dict[tuple[str, str], bytes]
    """Mean over time, in the same way."""
    owners: dict[str, str]
    """Clip that a recording belongs to."""


@dataclass(frozen=True)
class Task:
    """What one process is told."""

    number: int
    root: Path
    known: Known
    until: float
    """On the clock that all processes of a machine share."""

    @property
    def library(self) -> Path:
        return self.root / "library"

    def over(self) -> bool:
        return time.monotonic() > self.until


def make(root: Path) -> Known:
    """Three datasets and several versions of each recording; what all of them give."""
    for name, storage in RECIPES.items():
        (root / f"{name}.yaml").write_text(RECIPE.format(name=name, storage=storage))
    owners = {}
    for clip in range(CLIPS):
        for version in range(VERSIONS):
            path = root / "versions" / ("low", "high")[clip % 2] / f"{clip:02}-{version}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = 0.1 * np.random.default_rng([clip, version]).standard_normal(8_000)
            soundfile.write(path, noise, 16_000)
            owners[hashlib.sha256(path.read_bytes()).hexdigest()] = _clip(clip)
    for dataset in "abc":
        for clip in range(CLIPS):
            put(root, dataset, clip, 0)
    values, means = {}, {}
    for recipe, outcome in zip(RECIPES, extract(root / "versions", recipes(root), root / "known"), strict=True):
        store = open_store(outcome.place)
        for position, (record, mean) in enumerate(zip(store.records(), store.statistics()[0], strict=True)):
            got = _numbers(store, position)
            assert number_digest(got) == record.values
            values[recipe, record.source], means[recipe, record.source] = record.values, mean.tobytes()
    for dataset in "abc":
        extract(root / dataset, recipes(root), root / "library")
    return Known(values, means, owners)


def recipes(root: Path) -> list[Any]:
    return [load_recipe(str(root / f"{name}.yaml")) for name in RECIPES]


def put(root: Path, dataset: str, clip: int, version: int) -> None:
    """Give a clip one of its recordings, at once."""
    to = root / dataset / _clip(clip)
    to.parent.mkdir(parents=True, exist_ok=True)
    aside = root / f"{dataset}-{os.getpid()}.wav"
    aside.write_bytes((root / "versions" / to.parent.name / f"{to.stem}-{version}.wav").read_bytes())
    aside.replace(to)


def _clip(clip: int) -> str:
    return f"{('low', 'high')[clip % 2]}/{clip:02}.wav"


def change(task: Task, dataset: str, rng: random.Random) -> None:
    """Replace, add or remove recordings; two of each class always stay."""
    for _ in range(rng.randint(1, 3)):
        clip = rng.randrange(CLIPS)
        if clip >= 4 and rng.random() < 0.3:
            (task.root / dataset / _clip(clip)).unlink(missing_ok=True)
        else:
            put(task.root, dataset, clip, rng.randrange(VERSIONS))


def bring_up_to_date(task: Task, dataset: str, count: Counter[str]) -> None:
    """As ``ascfeat extract`` does it: wait for whoever writes, do what is still missing."""
    tree, manifest = open_dataset(task.root / dataset)
    jobs = prepare(tree, manifest, recipes(task.root), task.library, device="cpu")
    waits: list[str] = []
    done = run(tree, manifest, jobs, device="cpu", threads=1, wait=waits.append)
    count["extractions"] += 1
    count["waited for another"] += len(waits)
    count["clips computed"] += sum(o.computed for o in done)
    count["clips taken as they were"] += sum(o.taken for o in done)


def fight(task: Task, rng: random.Random, count: Counter[str]) -> None:
    """One of two who bring the same stores up to date; one changes the recordings, the other sometimes repairs."""
    if task.number == 0 and rng.random() < 0.7:
        change(task, "a", rng)
    if task.number == 1 and rng.random() < 0.2:
        _repair(task, "a", count)
    bring_up_to_date(task, "a", count)


def refresh(task: Task, rng: random.Random, count: Counter[str]) -> None:
    """Stores of one's own follow their recordings."""
    change(task, "b", rng)
    bring_up_to_date(task, "b", count)


def mend(task: Task, rng: random.Random, count: Counter[str]) -> None:
    """Flip a bit of a store of one's own, as a bad disk would, and repair it."""
    place = Folder(task.library / "c" / f"{rng.choice([*RECIPES])}.zarr")
    files = [key for key in place.files() if "/c/" in key]
    path = place.path / rng.choice(files)
    with exclusive(place, wait=lambda text: None):
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
    _repair(task, "c", count)


def _repair(task: Task, dataset: str, count: Counter[str]) -> None:
    opened = open_dataset(task.root / dataset)
    for recipe in RECIPES:
        try:
            done = repair(Folder(task.library / dataset / f"{recipe}.zarr"), opened, wait=lambda text: None)
            count["repairs"] += 1
            count["problems healed"] += len(done.problems)
        except StoreError as error:
            _documented(error, count, {**DOCUMENTED, "recordings are others by now": "from or by something else"})


def look(task: Task, rng: random.Random, count: Counter[str]) -> None:
    """Open a store, keep it open for a while, and hold whatever it says against what is known."""
    time.sleep(rng.uniform(0, 0.3))
    places = find_stores(task.library)
    if not places:
        return
    place = rng.choice(places)
    allowed = DOCUMENTED | (DAMAGED if "/c/" in str(place) else {})
    try:
        store = open_store(place)
        records, ids = list(store.records()), store.ids
        count["stores opened"] += 1
        _check_records(task, store, records, ids)
        for _ in range(rng.randint(1, 20)):
            _check_values(task, store, records, rng, count)
            time.sleep(rng.uniform(0, 0.1))
        if rng.random() < 0.3:
            _check_statistics(task, store, records, count)
        if rng.random() < 0.3:
            _check_whole(store, count, damaged="is damaged" in allowed)
    except StoreError as error:
        _documented(error, count, allowed)


def _check_records(task: Task, store: Store, records: Sequence[Any], ids: Sequence[str]) -> None:
    recipe = store.header.recipe.name
    for clip, record in zip(ids, records, strict=True):
        if record.excluded == "missing":  # it was removed after the list was made, and before it was read
            continue
        if task.known.owners[record.source] != clip:
            raise AssertionError(f"{store.place}: {clip} was made from a recording of another clip")
        if task.known.values[recipe, record.source] != record.values:
            raise AssertionError(f"{store.place}: the ledger's digest of {clip} is not that of its recording")


def _check_values(task: Task, store: Store, records: Sequence[Any], rng: random.Random, count: Counter[str]) -> None:
    clips = [rng.randrange(len(records)) for _ in range(rng.randint(1, 16))]
    how = store.header.encoding
    numbers = store.read(clips, out=np.empty((len(clips), *store.layout.shape), how.dtype))
    for clip, found in zip(clips, numbers, strict=True):
        if records[clip].excluded:
            continue
        count["values checked"] += found.size
        if number_digest(found) != records[clip].values:
            count["WRONG VALUES"] += 1
            raise AssertionError(f"{store.place}: {store.ids[clip]} has values that are not its own")


def _numbers(store: Store, clip: int) -> np.ndarray:
    return store.read([clip], out=np.empty((1, *store.layout.shape), store.header.encoding.dtype))[0]


def _check_statistics(task: Task, store: Store, records: Sequence[Any], count: Counter[str]) -> None:
    count["statistics"] += 1
    for record, mean in zip(records, store.statistics()[0], strict=True):
        if not record.excluded and task.known.means[store.header.recipe.name, record.source] != mean.tobytes():
            raise AssertionError(f"{store.place}: a mean is not that of its recording")


def _check_whole(store: Store, count: Counter[str], *, damaged: bool) -> None:
    """Nothing is wrong with a store that nobody has written to meanwhile."""
    problems = list(verify(store))
    count["verified"] += 1
    if not problems or damaged:
        return
    with suppress(StoreError):
        store.read([0])  # says so where it was written anew
        if (now := open_store(store.place).seal) and now.digest == store.seal.digest and list(verify(store)):
            raise AssertionError(f"{problems[0]} ({len(problems)} problems)")
    count["changed while it was verified"] += 1


def _documented(error: StoreError, count: Counter[str], allowed: dict[str, str]) -> None:
    for name, pattern in allowed.items():
        if re.search(pattern, error.text()):
            count[f"told: {name}"] += 1
            return
    raise error


def live(work: Callable[..., None], task: Task, seed: int, answers: Any) -> None:
    """Do one's work again and again; what goes wrong is told at the end."""
    rng, count, wrong = random.Random(seed), Counter[str](), []
    while not task.over():
        try:
            work(task, rng, count)
        except Exception:
            wrong.append(traceback.format_exc())
            time.sleep(0.1)
    answers.put((work.__name__, dict(count), wrong))


def soak(root: Path, seconds: float, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Let all of them work; what they did, by what they are, and what went wrong."""
    known = make(root)
    context = get_context("forkserver")  # a clean parent that has imported all this, and opened nothing
    context.set_forkserver_preload(["soak", "librosa.filters", "torch", "numba"])
    answers = context.Queue()
    works = [fight, fight, refresh, mend, *[look] * READERS]
    until = time.monotonic() + seconds
    processes = [
        context.Process(target=live, args=(work, Task(n, root, known, until), seed * 100 + n, answers))
        for n, work in enumerate(works)
    ]
    for process in processes:
        process.start()
    done, wrong = {"writers": Counter[str](), "readers": Counter[str]()}, list[str]()
    for _ in processes:
        name, count, errors = answers.get(timeout=seconds + 300)
        done["readers" if name == "look" else "writers"].update(count)
        wrong += [f"{name}: {text}" for text in errors]
    for process in processes:
        process.join()
    for place in find_stores(root / "library"):  # and at the end, with nobody in the way
        if "/c/" not in str(place):
            extract(root / place.parent.name, recipes(root), root / "library")
            wrong += [str(p) for p in verify(open_store(place))]
    return done, wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what happened; the status is 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description="Four writers and eight readers at once on one library.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--folder", help="where to make everything; one for temporary files where absent")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="asc-soak-", dir=given.folder) as folder:
        os.environ["ASC_CACHE"] = f"{folder}/cache"
        done, wrong = soak(Path(folder), 60 * given.minutes, given.seed)
    for who, count in done.items():
        said = ", ".join(f"{n:,} {what}" for what, n in sorted(count.items(), key=lambda kv: kv[0]))
        print(f"{WRITERS if who == 'writers' else READERS} {who}: {said}")
    print(f"{given.minutes:g} minutes, {len(wrong)} wrong values or errors that are not documented")
    for text in list(dict.fromkeys(wrong))[:5]:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
