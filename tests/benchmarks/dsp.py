"""How fast are the representations? Ratios against librosa doing the same steps, one thread, clips in memory.

``python tests/benchmarks/dsp.py`` prints the table of docs/benchmarks.md; ``--device cuda:0`` adds a GPU's.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import librosa
import numpy as np
import plain  # first: it limits the threads

from asccli.memory import keep_freed_memory
from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascschemas.dataset import AudioFormat

RECIPES = (
    "logmel128", "logmel256", "logmel64", "mfcc_patches", "mfcc_patches_fine", "cqt_patches", "hpss_mfcc_patches",
    "mean_spectrum",
)  # fmt: skip


def measure(name: str, *, length: float, clips: int, rounds: int, device: str) -> dict[str, float]:
    """Seconds a clip of each backend and of librosa's script: the median over rounds that time one after the other."""
    recipe = load_recipe(name)
    rate, channels = plain.recorded(recipe)
    audio = AudioFormat(sample_rate=rate, channels=channels, frames=round(length * rate))
    x = (0.1 * np.random.default_rng(0).standard_normal((clips, channels, audio.frames))).astype(np.float32)
    steps, kind = plain.steps(recipe, rate), representation(recipe.representation)
    run: dict[str, Callable[[], object]] = {"script": lambda: [steps(y) for one in x for y in plain.heard(one)]}
    for backend in ("numba", "torch", "nnaudio") if device == "cpu" else ("torch", "nnaudio"):
        run[backend] = partial(kind.build(audio, device=device, backend=backend), x)
    return {who: statistics.median(seconds) / clips for who, seconds in interleaved(run, rounds).items()}


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
    words.add_argument("--clips", type=int, default=4)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--device", default="cpu")
    given = words.parse_args()
    keep_freed_memory()  # as the command `ascfeat` does; librosa gains by it as well
    print(f"{os.cpu_count()} CPUs, one used; device {given.device}; librosa {librosa.__version__}; medians, ms a clip")
    print("\n| recipe | librosa | numba | torch | nnaudio | librosa / best |\n|---|--:|--:|--:|--:|--:|")
    for name in given.recipes:
        found = measure(name, length=given.seconds, clips=given.clips, rounds=given.rounds, device=given.device)
        script = found.pop("script")
        cells = [f"{1e3 * found[b]:.1f}" if b in found else "–" for b in ("numba", "torch", "nnaudio")]
        print(f"| {name} | {1e3 * script:.1f} | {' | '.join(cells)} | {script / min(found.values()):.1f} |", flush=True)


if __name__ == "__main__":
    main()
