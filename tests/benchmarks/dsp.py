"""How fast are the representations? Ratios against librosa doing the same steps, one thread, clips in memory.

``python tests/benchmarks/dsp.py`` prints the table of docs/benchmarks.md; ``--device cuda:0`` adds a GPU's.
"""

import argparse
import os
import time
from collections.abc import Callable

import librosa
import numpy as np
import plain  # first: it limits the threads

from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascschemas.dataset import AudioFormat

RECIPES = (
    "logmel128", "logmel256", "logmel64", "mfcc_patches", "mfcc_patches_fine", "cqt_patches", "hpss_mfcc_patches",
    "mean_spectrum",
)  # fmt: skip


def seconds(function: Callable[[], object], repeats: int) -> float:
    """The shortest of several times, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(name: str, *, length: float, repeats: int, device: str) -> dict[str, float]:
    """Seconds a clip of each backend and of librosa's script, on the same clip, in one run."""
    recipe = load_recipe(name)
    rate, channels = plain.recorded(recipe)
    audio = AudioFormat(sample_rate=rate, channels=channels, frames=round(length * rate))
    x = (0.1 * np.random.default_rng(0).standard_normal((1, channels, audio.frames))).astype(np.float32)
    steps, kind = plain.steps(recipe, rate), representation(recipe.representation)
    found = {"script": seconds(lambda: [steps(y) for y in plain.heard(x[0])], min(repeats, 3))}
    for backend in ("numba", "torch", "nnaudio"):
        if device != "cpu" and backend == "numba":
            continue
        transform = kind.build(audio, device=device, backend=backend)
        found[backend] = seconds(lambda t=transform: t(x), repeats if backend == "numba" else min(repeats, 3))
    return found


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--recipes", nargs="*", default=RECIPES)
    words.add_argument("--seconds", type=float, default=10.0, help="length of the clip")
    words.add_argument("--repeats", type=int, default=15)
    words.add_argument("--device", default="cpu")
    given = words.parse_args()
    print(f"{os.cpu_count()} CPUs, one used; device {given.device}; librosa {librosa.__version__}")
    print("\n| recipe | librosa, ms | numba | torch | nnaudio | best ratio |\n|---|--:|--:|--:|--:|--:|")
    for name in given.recipes:
        found = measure(name, length=given.seconds, repeats=given.repeats, device=given.device)
        script = found.pop("script")
        cells = [f"{1e3 * found[b]:.1f}" if b in found else "–" for b in ("numba", "torch", "nnaudio")]
        print(f"| {name} | {1e3 * script:.1f} | {' | '.join(cells)} | {script / min(found.values()):.1f} |", flush=True)


if __name__ == "__main__":
    main()
