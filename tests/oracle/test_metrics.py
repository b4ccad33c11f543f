"""Accuracies and confusion matrices against scikit-learn, and intervals against scipy."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from ascmodels.metrics import by_group, confusion, mean_accuracy, score, wilson

CLASSES = ("bus", "park", "tram", "metro")


@pytest.fixture
def guessed():
    draw = np.random.default_rng(5)
    true = draw.integers(0, 4, 300)
    return true, np.where(draw.random(300) < 0.6, true, draw.integers(0, 4, 300))


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (0, 540), (540, 540), (335, 540), (1, 4185), (7, 10)])
def test_intervals_are_those_of_scipy(correct, total):
    expected = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    assert wilson(correct, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_accuracies_and_matrix_are_those_of_scikit_learn(guessed):
    true, guess = guessed
    right = true == guess
    assert score("overall", right).accuracy == pytest.approx(metrics.accuracy_score(true, guess), abs=1e-15)
    ours = confusion(true, guess, CLASSES)
    assert ours.counts == tuple(map(tuple, metrics.confusion_matrix(true, guess).tolist()))
    per_class = by_group([CLASSES[t] for t in true], right)
    assert mean_accuracy(per_class) == pytest.approx(metrics.balanced_accuracy_score(true, guess), abs=1e-15)
    recalls = metrics.recall_score(true, guess, average=None)
    assert {s.name: s.accuracy for s in per_class} == pytest.approx(dict(zip(CLASSES, recalls, strict=True)), abs=1e-15)
