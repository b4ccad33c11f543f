"""What a training recipe and a report refuse, and what a fingerprint depends on."""

import pytest
from pydantic import ValidationError

from ascschemas.report import Confusion, Score
from ascschemas.training import TrainingRecipe, WeightDecay

SMALL = {
    "name": "small",
    "features": "logmel64",
    "family": {"kind": "five_conv"},
    "objective": {"kind": "focal", "gamma": 1},
    "optimiser": {"kind": "adadelta"},
    "epochs": 3,
}


def changed(**other):
    return TrainingRecipe.model_validate(SMALL | other)


@pytest.mark.parametrize(
    "other",
    [
        {"features": "logmel128"},
        {"normalise": None},
        {"family": {"kind": "five_conv", "kernel": 5}},
        {"trainer": {"kind": "other"}},
        {"objective": {"kind": "focal", "gamma": 2}},
        {"objective": {"kind": "cross_entropy"}},
        {"optimiser": {"kind": "adadelta", "weight_decay": {"value": 1e-5}}},
        {"schedule": {"kind": "plateau"}},
        {"augmentation": {"mixup": {}}},
        {"batch_size": 32},
        {"epochs": 4},
        {"selection": {"side": "test"}},
        {"early_stopping": 5},
        {"seed": 1},
    ],
)
def test_everything_that_changes_the_result_changes_the_fingerprint(other):
    assert changed(**other).fingerprint != changed().fingerprint


@pytest.mark.parametrize(
    "other", [{"name": "another"}, {"title": "x"}, {"sources": {"epochs": "ours"}}, {"headline_devices": ["b"]}]
)
def test_what_only_describes_does_not(other):
    assert changed(**other).fingerprint == changed().fingerprint


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"selection": {"side": "last", "fraction": 0}, "schedule": {"kind": "plateau"}}, "watch clips"),
        ({"selection": {"side": "last", "fraction": 0}, "early_stopping": 2}, "watch clips"),
        ({"selection": {"side": "validation", "fraction": 0}}, "nothing would be held off"),
        ({"objective": {"kind": "cross_entropy", "gamma": 1}}, "gamma"),
        ({"objective": {"kind": "focal", "temperature": 0}}, "temperature"),
        ({"optimiser": {"kind": "adabound"}}, "adabound"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_cannot_be_meant_is_refused(other, words):
    with pytest.raises(ValidationError, match=words):
        changed(**other)


def test_keras_l2_is_twice_a_coupled_decay():
    assert WeightDecay(value=1e-5, form="keras_l2").coupled == 2e-5
    assert WeightDecay(value=1e-5, form="coupled").coupled == 1e-5


def test_a_score_must_be_its_own_ratio():
    Score(name="b", correct=1, total=4, accuracy=0.25, low=0, high=1)
    with pytest.raises(ValidationError, match="is not 1 / 4"):
        Score(name="b", correct=1, total=4, accuracy=0.5, low=0, high=1)


def test_a_confusion_matrix_is_square():
    Confusion(classes=("a", "b"), counts=((1, 0), (0, 1)))
    with pytest.raises(ValidationError, match="square"):
        Confusion(classes=("a", "b"), counts=((1, 0),))
