"""Folds by location against scikit-learn's StratifiedGroupKFold, on clips laid out as TAU 2019 is."""

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from ascmodels.folds import folds

SCENES = (
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street",
    "tram",
    "walk",
)
CLIP = 1 / 1440
"""What one clip more or less changes in the share of its class."""


@dataclass(frozen=True)
class Table:
    """As much of a store as folds look at."""

    labels: tuple[str, ...]
    locations: tuple[str, ...]
    place: str = "made up"

    @property
    def ids(self):
        return tuple(f"{i}.wav" for i in range(len(self.labels)))

    @property
    def segments(self):
        return ("",) * len(self.labels)


def recorded(seed, shared):
    """1,440 clips of each scene at some fifty locations of several sizes; every ``shared``-th has all scenes."""
    draw, labels, locations = np.random.default_rng(seed), [], []
    for scene in SCENES:
        places = int(draw.integers(40, 56))
        for place, clips in enumerate(draw.multinomial(1440, draw.dirichlet(np.full(places, 6.0)))):
            common = shared and place % shared == 0
            labels += [scene] * clips
            locations += [f"{'all' if common else scene}-{place}"] * clips
    return Table(tuple(labels), tuple(locations))


def unevenness(labels, numbers, count):
    """How far the largest or smallest share of a class is from 1/K."""
    of = np.array(labels)
    shares = [np.bincount(numbers[of == scene] - 1, minlength=count) / np.sum(of == scene) for scene in set(labels)]
    return np.abs(np.array(shares) - 1 / count).max()


def by_scikit_learn(table, count):
    numbers = np.empty(len(table.labels), dtype=np.int64)
    splitter = StratifiedGroupKFold(count)
    for number, (_, test) in enumerate(splitter.split(table.labels, table.labels, table.locations), start=1):
        numbers[test] = number
    return numbers


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("shared", [0, 5])
def test_folds_are_as_even_as_scikit_learns_and_keep_locations_whole(count, shared):
    ours, theirs = [], []
    for table in (recorded(seed, shared) for seed in range(6)):
        found, other = folds(table, count), by_scikit_learn(table, count)
        assert set(found) == set(range(1, count + 1))  # every clip is tested in one fold
        assert len({*zip(table.locations, found, strict=True)}) == len({*table.locations})  # no location in two
        ours.append(unevenness(table.labels, found, count))
        theirs.append(unevenness(table.labels, other, count))
        assert np.ptp(np.bincount(found)[1:]) < 0.005 * len(table.labels)
    assert np.max(np.subtract(ours, theirs)) < (3.5 if shared else 0.5) * CLIP
    assert np.mean(ours) < np.mean(theirs) + 0.5 * CLIP
