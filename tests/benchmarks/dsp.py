"""How fast are the representations? Ratios against librosa doing the same steps, clips in memory.

``python tests/benchmarks/dsp.py`` prints the table of docs/benchmarks.md: one thread on both sides. With
``--device cuda:0`` the GPU's backends stand against librosa in as many processes as there are CPUs.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import plain  # first: it limits the threads, before NumPy is imported

# isort: split
import librosa
import numpy as np

from asccli.memory import keep_freed_memory
from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascschemas.dataset import AudioFormat

RECIPES = (
    "logmel128", "logmel256", "logmel64", "mfcc_patches", "mfcc_patches_fine", "cqt_patches", "hpss_mfcc_patches",
    "mean_spectrum",
)  # fmt: skip


def measure(name: str, given: argparse.Namespace, pool: Executor | None) -> dict[str, float]:
    """Seconds a clip of each backend and of librosa's script: the median over rounds that time one after the other."""
    recipe = load_recipe(name)
    rate, channels = plain.recorded(recipe)
    audio = AudioFormat(sample_rate=rate, channels=channels, frames=round(given.seconds * rate))
    x = np.stack([plain.noise(rate, channels, given.seconds, seed) for seed in range(given.clips)])
    kind = representation(recipe.representation)
    run: dict[str, Callable[[], object]] = {"script": lambda: [plain.features(name, rate, one) for one in x]}
    if pool is not None:
        run["script"] = lambda: list(
            pool.map(partial(plain.features_of_noise, name, given.seconds), range(given.clips))
        )
    for backend in ("numba", "torch", "nnaudio") if given.device == "cpu" else ("torch", "nnaudio"):
        run[backend] = partial(kind.build(audio, device=given.device, backend=backend), x)
    return {who: statistics.median(seconds) / given.clips for who, seconds in interleaved(run, given.rounds).items()}


def interleaved(run: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Times of each function in every round, the first round not counted: noise then falls on all of them alike."""
    found: dict[str, list[float]] = {who: [] for who in run}
    for _ in range(rounds + 1):
        for who, function in run.items():
            start = time.perf_counter()
            function()
            found[who].append(time.perf_counter() - start)
    return {who: times[1:] for who, times in found.items()}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--recipes", nargs="*", default=RECIPES)
    words.add_argument("--seconds", type=float, default=10.0, help="length of the clip")
    words.add_argument("--clips", type=int, default=4, help="in a batch; at least eight for each process")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--device", default="cpu")
    given = words.parse_args()
    keep_freed_memory()  # as the command `ascfeat` does; librosa gains by it as well
    cores = 1 if given.device == "cpu" else os.cpu_count() or 1
    given.clips = max(given.clips, 8 * cores if cores > 1 else 1)  # every process has work in every round
    print(
        f"{os.cpu_count()} CPUs; librosa {librosa.__version__} in {cores} processes; others on {given.device}; "
        f"{given.clips} clips of {given.seconds:g} s at once; medians of {given.rounds} rounds, ms a clip"
    )
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn"), initializer=keep_freed_memory) as pool:
        table(given, pool if cores > 1 else None)


def table(given: argparse.Namespace, pool: Executor | None) -> None:
    """One line a recipe."""
    print("\n| recipe | librosa | numba | torch | nnaudio | librosa / best |\n|---|--:|--:|--:|--:|--:|")
    for name in given.recipes:
        found = measure(name, given, pool)
        script = found.pop("script")
        cells = [f"{1e3 * found[b]:.1f}" if b in found else "–" for b in ("numba", "torch", "nnaudio")]
        print(f"| {name} | {1e3 * script:.1f} | {' | '.join(cells)} | {script / min(found.values()):.1f} |", flush=True)


if __name__ == "__main__":
    main()
