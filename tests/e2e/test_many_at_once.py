"""Many at once on one library: two who want the same, readers of what is written anew, writers that are killed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent))

import weightless
from forked_commands import World, until

from ascfeat.extract import extract
from ascfeat.recipes import load_recipe
from ascfeat.store import Store, open_place, open_store
from ascfeat.store.encoding import number_digest
from ascschemas.problems import StoreError

pytestmark = pytest.mark.slow

CLIPS = 24
RECIPE = """
name: slow
representation: {kind: weightless, milliseconds: 30}
storage: {clips_per_shard: 2}
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a dataset of short recordings and a recipe whose representation takes its time."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(CLIPS):
        noise(folder / "noises" / ("low", "high")[i % 2] / f"{i:02}.wav", i)
    (folder / "slow.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("ASC_CACHE", str(folder / "cache"))
        weightless.register(folder / "plug-in")
        yield folder


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(1000), 8000)


def words(bench: Path, features: object) -> list[str]:
    named = ["--recipe", str(bench / "slow.yaml"), "--features", str(features), "--device", "cpu", "--threads", "1"]
    return ["extract", str(bench / "noises"), *named]


@pytest.fixture(scope="module")
def world(bench: Path) -> Iterator[World]:
    made = World(bench, words(bench, bench / "whole"))
    yield made
    made.close()


def files(place: object) -> dict[str, bytes]:
    found = open_place(place)
    return {key: found.read(key) for key in found.files()}


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_two_people_extract_the_same(bench: Path, world: World, tmp_path: Path, request, seaweed, where: str) -> None:
    """One works; the other waits, is told for whom, and finds nothing left to do."""
    features = str(tmp_path / "features") if where == "folder" else request.getfixturevalue("bucket")
    env = seaweed.environment() if where == "bucket" else {}
    both = [world.start(*words(bench, features), held=True, **env) for _ in range(2)]
    until(lambda: any("waiting" in c.said for c in both))
    for command in both:  # whichever works
        command.hold.unlink()
    ends = dict(zip([c.process for c in both], [world.end(c) for c in both], strict=True))
    assert [status for status, _ in ends.values()] == [0, 0], ends
    waited = {process: said for process, (_, said) in ends.items() if "waiting" in said}
    assert len(waited) == 1, ends
    (other, said), (worker,) = *waited.items(), {*ends} - {*waited}
    assert re.search(rf"is being written by .*, process {worker}, since .*: waiting", said), said
    assert f"sealed, {CLIPS} of {CLIPS} clips usable" in said
    assert "computed in" not in said, "it did what the other one did"
    assert f"clips usable; {CLIPS} computed in" in ends[worker][1]
    assert other != worker
    assert files(f"{features}/noises/slow.zarr") == files(bench / "whole" / "noises" / "slow.zarr")
    status, said = world.run(*words(bench, features), **env)
    assert (status, "sealed, nothing to do" in said) == (0, True), said


@pytest.mark.parametrize("added", [False, True], ids=["replaced", "added"])
@pytest.mark.parametrize("warm", [False, True], ids=["first-read", "read-before"])
def test_a_store_that_is_written_anew_under_its_reader(bench: Path, tmp_path: Path, added: bool, warm: bool) -> None:
    """Positions that were right when it was opened are never answered with the values of other clips."""
    for i in range(6):
        noise(tmp_path / "noises" / ("low", "high")[i % 2] / f"{i:02}.wav", i)
    recipe = load_recipe(str(bench / "slow.yaml"))
    (outcome,) = extract(tmp_path / "noises", [recipe], tmp_path / "features")
    store = open_store(outcome.place)
    digests = [r.values for r in store.records() if r is not None]
    if warm:
        store.read(range(6))
    noise(tmp_path / "noises" / "low" / "00.wav", 100)
    if added:
        noise(tmp_path / "noises" / "high" / "00.wav", 101)  # before all others: every position is another clip's
    extract(tmp_path / "noises", [recipe], tmp_path / "features")
    for look in (store.statistics, lambda: store.sel(clip=store.ids[0]).numpy(), lambda: [*store.records()]):
        with pytest.raises(StoreError, match="written anew since it was opened"):
            look()
    with pytest.raises(StoreError, match="written anew since it was opened") as told:
        store.read(range(6))
    assert told.value.differences[0].expected == store.seal.digest
    assert told.value.differences[0].found == Store(store.place).seal.digest
    again = open_store(store.place)
    assert [number_digest(v) for v in again.read(range(again.header.clips))] == [r.values for r in again.records()]
    assert digests != [r.values for r in again.records()]


def program(root: Path, name: str, *more: str) -> str:
    """What a benchmark program prints; it must find nothing wrong."""
    command = [sys.executable, str(root / "tests" / "benchmarks" / name), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("place", "lives", "kills"), [("folder", ["extract", "refresh"], 10), ("s3", ["extract"], 3)])
def test_killed_a_few_times(root: Path, seaweed: object, place: str, lives: list[str], kills: int) -> None:
    """A small run of the program that does it by the hundred."""
    said = program(root, "kills.py", "--kills", str(kills), "--place", place, "--of", *lives)
    for life in lives:
        hits, same, rounds = re.search(rf"\| {place} \| {life} \| (\d+) \| (\d+) of (\d+) \|", said).groups()
        assert int(hits) >= (4 if life == "refresh" else 2)
        assert same == rounds


def test_writers_and_readers_at_once(root: Path) -> None:
    """Twenty seconds of the program that does it for ten minutes."""
    said = program(root, "soak.py", "--minutes", "0.33")
    assert int(re.search(r"([\d,]+) values checked", said)[1].replace(",", "")) > 10_000
    assert "0 wrong values or errors that are not documented" in said
