"""Extract in a child process, kill it at a random moment, and again, until the store is whole.

usage: kill_loop.py DATASET RECIPE FEATURES SEED KILLS   prints the number of kills

A run may outrun its killer, and how long a run takes changes from minute to minute on a busy machine. So a store that
came to be whole after fewer than KILLS is made once more from nothing, with less time for each run.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from ascfeat.extract import extract
from ascfeat.recipes import load_recipe

PATIENCE = 25
"""Kills after which one run is left alone."""

ROUNDS = 8
"""Stores that are made until enough kills hit."""


def attempt(dataset: str, recipe: str, features: str, kill_after: float | None) -> bool:
    """Run an extraction in a child; whether it came to its end."""
    child = os.fork()  # before zarr's event loop runs here: only children ever touch it
    if child == 0:
        extract(Path(dataset), [load_recipe(recipe)], Path(features), device="cpu", threads=2)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit("the extraction failed")
    return os.WIFEXITED(status)


def main() -> None:
    """Measure an undisturbed run, then disturb others within two fifths of its time."""
    dataset, recipe, features, seed, wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as aside:
        start = time.monotonic()
        attempt(dataset, recipe, aside, None)
        longest = (time.monotonic() - start) / 2.5
    rng = random.Random(int(seed))
    for _ in range(ROUNDS):
        shutil.rmtree(features, ignore_errors=True)
        kills = 0
        while not attempt(dataset, recipe, features, rng.uniform(0, longest) if kills < PATIENCE else None):
            kills += 1
        if kills >= int(wanted):
            break
        longest /= 2
    print(kills)


if __name__ == "__main__":
    main()
