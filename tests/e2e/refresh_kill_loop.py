"""Refresh a store in a child process, kill it at random moments, change the dataset again, and so on.

usage: refresh_kill_loop.py DATASET RECIPE FEATURES SEED KILLS   prints the number of kills

It goes on until KILLS have hit, and for four rounds at least. A refresh may outrun its killer, and how long it takes
changes from minute to minute on a busy machine: a round in which no kill hit leaves less time to the next ones.

The dataset turns between two states, which are folders ``a`` and ``b`` beside it. Fresh stores of both are made in
``FEATURES-a`` and ``FEATURES-b``; after each round the refreshed one is copied to ``FEATURES-<round>``.
"""

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from kill_loop import attempt

PATIENCE = 4
"""Kills in a round after which one run is left alone."""

LEAST, MOST = 4, 16
"""Rounds."""


def turn(dataset: Path, state: str) -> None:
    """Bring the dataset into one of its states, file by file, with the dates that they have there."""
    shutil.rmtree(dataset)
    shutil.copytree(dataset.parent / state, dataset)


def undisturbed(dataset: Path, recipe: str, features: str) -> float:
    """Seconds of a refresh from ``a`` to ``b`` that nobody interrupts; leaves fresh stores of both."""
    for state in "ab":
        turn(dataset, state)
        attempt(str(dataset), recipe, f"{features}-{state}", None)
    with tempfile.TemporaryDirectory() as aside:
        shutil.copytree(f"{features}-a", aside, dirs_exist_ok=True)
        start = time.monotonic()
        attempt(str(dataset), recipe, aside, None)
        return time.monotonic() - start


def main() -> None:
    """Turn the dataset there and back again, with kills within the time that a refresh takes."""
    dataset, recipe, features, rng = Path(sys.argv[1]), sys.argv[2], sys.argv[3], random.Random(int(sys.argv[4]))
    longest, wanted, kills = undisturbed(dataset, recipe, features), int(sys.argv[5]), 0
    shutil.copytree(f"{features}-a", features)
    for count in range(MOST):
        if count >= LEAST and kills >= wanted:
            break
        turn(dataset, "ba"[count % 2])
        before = kills
        for tries in range(PATIENCE + 1):
            if attempt(str(dataset), recipe, features, rng.uniform(0, longest) if tries < PATIENCE else None):
                break
            kills += 1
        if kills == before:
            longest /= 2
        shutil.copytree(features, f"{features}-{count}")
    print(kills)


if __name__ == "__main__":
    main()
