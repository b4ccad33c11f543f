"""Cross-validation by location: splits that every store of labelled clips has without storing them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ascmodels.sides import group_of
from ascmodels.source import ClipTable
from ascschemas.problems import Difference, RunError

NAME = re.compile(r"location([1-9]\d*)_([1-9]\d*)")
EXAMPLES = tuple(f"location5_{number}" for number in range(1, 6))
"""The names of five folds."""


@dataclass(frozen=True)
class Fold:
    """One of several folds: its clips test, all others train."""

    count: int
    """K, how many folds there are."""
    number: int
    """k, 1 to K."""

    @property
    def together(self) -> str:
        """What all K folds are called: ``location5``."""
        return f"location{self.count}"


def fold(split: str) -> Fold | None:
    """The fold that ``location<K>_<k>`` names; None for any other name.

    Examples
    --------
    >>> fold("location5_1")
    Fold(count=5, number=1)
    >>> fold("fold1"), fold("location5_6"), fold("location1_1")
    (None, None, None)
    """
    said = NAME.fullmatch(split)
    found = Fold(int(said[1]), int(said[2])) if said else None
    return found if found and found.count > 1 and found.number <= found.count else None


def sides_of(source: ClipTable, wanted: Fold) -> npt.NDArray[np.str_]:
    """``test`` for the clips of a fold, ``train`` for those of the others, ``unused`` for clips without a label.

    Clips without values are in a fold like the others, so that every store of a dataset has the same folds.

    Raises
    ------
    RunError
        When there are fewer locations than folds.
    """
    numbers = folds(source, wanted.count)
    return np.where(numbers == 0, "unused", np.where(numbers == wanted.number, "test", "train"))


def folds(source: ClipTable, count: int) -> npt.NDArray[np.int64]:
    """The fold of each clip, 1 to ``count``; 0 for clips without a label.

    Clips of one location (else of one segment, else single clips) stay together. The groups, those with the largest
    ``sum_c (v_c / N_c)²`` first, go one by one to the fold f where ``sum_c n_cf v_c / N_c² + n_f v / N²`` is smallest,
    with ``v_c`` clips of class c in the group, ``n_cf`` in the fold so far and ``N_c`` in all, and the same of all
    classes together. That raises ``sum_f (sum_c (n_cf / N_c)² + (n_f / N)²)`` least, which is smallest where folds are
    even. Of equals the first name goes first, and to the first fold: there is no seed, and no order of clips.

    Raises
    ------
    RunError
        When there are fewer groups than folds.
    """
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for clip, label in enumerate(source.labels):
        if label:
            groups[group_of(source, clip)][label] += 1
    if len(groups) < count:
        raise RunError(
            f"{source.place} cannot be divided into {count} folds.",
            differences=[Difference(field="locations", expected=f"at least {count}", found=str(len(groups)))],
            todo="Choose fewer folds, such as location2_1, or one of the dataset's own splits.",
        )
    number = _dealt(groups, count)
    return np.array([number[group_of(source, c)] if label else 0 for c, label in enumerate(source.labels)])


def _dealt(groups: dict[str, Counter[str]], count: int) -> dict[str, int]:
    """The fold of each group; fractions, so that no rounding decides."""
    classes = sum(groups.values(), Counter[str]())
    share = {label: Fraction(1, n * n) for label, n in classes.items()} | {"": Fraction(1, classes.total() ** 2)}
    sizes = {name: {**clips, "": clips.total()} for name, clips in groups.items()}  # "": of all classes
    large = {name: sum(share[label] * n * n for label, n in clips.items()) for name, clips in groups.items()}
    have = [Counter[str]() for _ in range(count)]
    number = {}
    for name in sorted(groups, key=lambda g: (-large[g], g)):
        cost = [sum(share[label] * full[label] * n for label, n in sizes[name].items()) for full in have]
        chosen = cost.index(min(cost))
        have[chosen].update(sizes[name])
        number[name] = chosen + 1
    return number
