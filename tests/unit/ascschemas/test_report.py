"""Scores are what they are made of."""

import pytest
from pydantic import ValidationError

from ascschemas.report import Confusion, Score


def test_accuracy_is_correct_over_total():
    Score(name="overall", correct=1, total=3, accuracy=1 / 3, low=0, high=1)
    with pytest.raises(ValidationError, match="is not 1 / 3"):
        Score(name="overall", correct=1, total=3, accuracy=0.34, low=0, high=1)


def test_a_score_of_no_clips_is_refused():
    with pytest.raises(ValidationError, match="total"):
        Score(name="tram", correct=0, total=0, accuracy=0, low=0, high=1)


@pytest.mark.parametrize("counts", [(), ((1, 2),), ((1, 2), (3,)), ((1,), (2,))])
def test_a_confusion_matrix_is_square(counts):
    with pytest.raises(ValidationError, match="is square"):
        Confusion(classes=("bus", "tram"), counts=counts)
