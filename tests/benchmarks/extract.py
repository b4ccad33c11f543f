"""How fast is extraction from files to a sealed store? Ratios against a plain script under as many processes.

The script reads with soundfile, computes with librosa and writes one ``.npy`` a clip. Extraction also hashes every
recording, keeps statistics, a ledger and checksums, reads everything back, and recomputes three clips in float64 for
its certificate; all of that is in its time. Imports are not, on either side: both are measured in warm processes.
Milliseconds until a clip was done, and milliseconds of processors: the latter do not depend on what else is idle.
What either writes is new to the disk and to memory, which a virtual machine may have to be given first.

``python tests/benchmarks/extract.py`` prints the tables of docs/benchmarks.md; ``--device cuda:0`` uses a GPU.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import plain  # first: it limits the threads, before NumPy is imported

# isort: split
import librosa
import numpy as np
import soundfile

from asccli.memory import keep_freed_memory, leave_imports_alone
from ascfeat.extract import extract
from ascfeat.recipes import load_recipe

RECIPES = ("logmel128", "logmel256", "logmel64", "mfcc_patches", "cqt_patches", "hpss_mfcc_patches")
TOGETHER = ("logmel256", "logmel128", "mean_spectrum")
"""Recipes that are extracted in one pass and one by one."""


def make_dataset(folder: Path, *, rate: int, channels: int, clips: int, seconds: float) -> list[Path]:
    """Recordings of 24 bits in two classes: noise, a tone, and clicks."""
    generator = np.random.default_rng(0)
    t = np.arange(round(seconds * rate)) / rate
    files = []
    for i in range(clips):
        x = 0.05 * generator.standard_normal((len(t), channels)) + 0.1 * np.sin(2 * np.pi * (200 + 37 * i) * t)[:, None]
        x[:: rate // 3] += 0.5
        files.append(folder / ("tram", "park")[i % 2] / f"{i:05}.wav")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(files[-1], x, rate, subtype="PCM_24")
    os.sync()  # else neither side would have the disk to itself
    return files


class Spent(NamedTuple):
    """What some work took: seconds until it was done, and seconds of processors."""

    wall: float
    cpu: float


def timed(function: Callable[[], object]) -> Spent:
    """What one call takes; of processors, those of all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def script_takes(name: str, files: Sequence[Path], out: Path, processes: int, seconds: float) -> Spent:
    """What the script takes for a file, under so many warm processes, of as many files as it does in about a time."""
    one = partial(processor_seconds, name, out)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        each = sum(pool.map(one, [files[0]] * 4 * processes)) / (4 * processes)
        files = files[: max(2 * processes, round(seconds * processes / each))]
        start = time.perf_counter()
        cpu = sum(pool.map(one, files))
        return Spent((time.perf_counter() - start) / len(files), cpu / len(files))


def processor_seconds(name: str, out: Path, file: Path) -> float:
    """Seconds of processors that the script takes for a file."""
    return timed(partial(plain.script, name, file, out)).cpu


def extract_takes(names: Sequence[str], dataset: Path, out: Path, processes: int, device: str) -> Spent:
    """What extraction takes for a dataset, with as many threads."""
    recipes = [load_recipe(name) for name in names]
    return timed(lambda: extract(dataset, recipes, out, device=device, threads=processes))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--recipes", nargs="*", default=RECIPES)
    words.add_argument("--clips", type=int, default=1024)
    words.add_argument("--script-seconds", type=float, default=60.0, help="after which the script may stop")
    words.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    words.add_argument("--processes", type=int, default=1)
    words.add_argument("--device", default="cpu")
    words.add_argument("--folder", type=Path, help="on the disk to be measured")
    given = words.parse_args()
    keep_freed_memory()  # as the command `ascfeat` does
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        print(
            f"{os.cpu_count()} CPUs; {given.processes} processes of the script, as many threads of extraction; "
            f"device {given.device}; librosa {librosa.__version__}; {given.clips} clips of {given.seconds:g} s\n"
        )
        one_by_one(Path(folder), given)
        one_pass(Path(folder), given)


def one_by_one(folder: Path, given: argparse.Namespace) -> None:
    """The table of ratios: each recipe on recordings that it was made for."""
    print("| recipe | script, ms a clip | extract, ms a clip | ratio | script, CPU | extract, CPU | per core |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in given.recipes:
        rate, channels = plain.recorded(load_recipe(name))
        dataset, warm = folder / f"{rate}-{channels}", folder / f"warm-{rate}-{channels}"
        if not dataset.exists():
            make_dataset(warm, rate=rate, channels=channels, clips=2, seconds=given.seconds)
            make_dataset(dataset, rate=rate, channels=channels, clips=given.clips, seconds=given.seconds)
        files = sorted(dataset.rglob("*.wav"))
        with tempfile.TemporaryDirectory(dir=folder) as here:  # both write new files
            where = Path(here), given.processes
            extract_takes([name], warm, *where, given.device)
            leave_imports_alone()  # as the command does, after its forecast
            ours = [s / len(files) for s in extract_takes([name], dataset, *where, given.device)]
            theirs = script_takes(name, files, *where, given.script_seconds)
        pairs = [f"{1e3 * t:.1f} | {1e3 * o:.1f} | {t / o:.1f}" for t, o in zip(theirs, ours, strict=True)]
        print(f"| {name} | {' | '.join(pairs)} |", flush=True)


def one_pass(folder: Path, given: argparse.Namespace) -> None:
    """What several recipes in one pass save."""
    dataset = folder / "together"
    make_dataset(dataset, rate=44_100, channels=1, clips=given.clips, seconds=given.seconds)
    alone = [extract_takes([n], dataset, folder / n, given.processes, given.device).wall for n in TOGETHER]
    together = extract_takes(TOGETHER, dataset, folder / "one-pass", given.processes, given.device).wall
    each = " + ".join(f"{1e3 * s / given.clips:.1f}" for s in alone)
    print(
        f"\n{', '.join(TOGETHER)}: {1e3 * together / given.clips:.1f} ms a clip in one pass, "
        f"{each} = {1e3 * sum(alone) / given.clips:.1f} ms one by one."
    )


if __name__ == "__main__":
    main()
