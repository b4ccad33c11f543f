"""Accuracies with their intervals, by group, and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ascschemas.report import Confusion, Score

Z95 = 1.959963984540054
"""The normal deviate that leaves 2.5 % on either side."""

Classes = npt.NDArray[np.int64]


def wilson(correct: int, total: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    ``(p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)`` with ``p = correct / total`` and ``n = total``.

    Parameters
    ----------
    correct, total : int
        ``0 <= correct <= total``, ``total >= 1``.
    z : float
        Normal deviate of the wanted coverage; 95 % by default.

    Returns
    -------
    low, high : float
        Both within 0 and 1.

    References
    ----------
    Wilson, *Probable inference, the law of succession, and statistical inference*, 1927.

    Examples
    --------
    >>> [round(v, 4) for v in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    p, extra = correct / total, z * z / total
    middle = p + extra / 2
    reach = z * math.sqrt(p * (1 - p) / total + extra / (4 * total))
    low = 0.0 if correct == 0 else (middle - reach) / (1 + extra)
    high = 1.0 if correct == total else (middle + reach) / (1 + extra)
    return low, high


def score(name: str, right: npt.NDArray[np.bool_]) -> Score:
    """Accuracy over some clips; ``right`` says which were classified rightly, at least one clip."""
    correct, total = int(right.sum()), len(right)
    low, high = wilson(correct, total)
    return Score(name=name, correct=correct, total=total, accuracy=correct / total, low=low, high=high)


def by_group(groups: Sequence[str], right: npt.NDArray[np.bool_]) -> tuple[Score, ...]:
    """One score per distinct group in alphabetical order; clips without a group (``""``) are in none."""
    of = np.asarray(groups)
    return tuple(score(name, right[of == name]) for name in sorted(set(groups) - {""}))


def confusion(true: Classes, predicted: Classes, classes: Sequence[str]) -> Confusion:
    """How often each true class (rows) was taken for each class (columns)."""
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (true, predicted), 1)
    return Confusion(classes=tuple(classes), counts=tuple(tuple(int(n) for n in row) for row in counts))


def mean_accuracy(scores: Sequence[Score]) -> float:
    """Mean of accuracies: every group counts alike, however many clips it has."""
    return float(np.mean([s.accuracy for s in scores]))
