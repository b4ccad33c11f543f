"""Extract in a child process, kill it at a random moment, and again, until the store is whole.

usage: kill_loop.py DATASET RECIPE FEATURES SEED   prints the number of kills
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from ascfeat.extract import extract
from ascfeat.recipes import load_recipe

PATIENCE = 25
"""Kills after which one run is left alone."""


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
    dataset, recipe, features, seed = sys.argv[1:]
    with tempfile.TemporaryDirectory() as aside:
        start = time.monotonic()
        attempt(dataset, recipe, aside, None)
        undisturbed = time.monotonic() - start
    rng, kills = random.Random(int(seed)), 0
    while not attempt(dataset, recipe, features, rng.uniform(0, undisturbed / 2.5) if kills < PATIENCE else None):
        kills += 1
    print(kills)


if __name__ == "__main__":
    main()
