"""A training recipe refuses what cannot be meant, and its fingerprint covers what changes the result."""

import pytest
from pydantic import ValidationError

from ascschemas.optimisation import Adadelta, WeightDecay
from ascschemas.training import Focal, TrainingRecipe

RECIPE = {
    "name": "mine",
    "features": "logmel256",
    "family": {"kind": "five_conv"},
    "objective": {"kind": "focal"},
    "optimiser": {"kind": "adadelta"},
    "epochs": 5,
}


def recipe(**changes):
    return TrainingRecipe(**(RECIPE | changes))


def test_kind_decides_the_parameters():
    assert isinstance(recipe().objective, Focal)
    assert isinstance(recipe().optimiser, Adadelta)
    with pytest.raises(ValidationError, match="momentum"):
        recipe(optimiser={"kind": "adadelta", "momentum": 0.9})
    with pytest.raises(ValidationError, match="adagrad"):
        recipe(optimiser={"kind": "adagrad"})


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"seed": -1},
        {"early_stopping": 0},
        {"selection": {"side": "validation", "fraction": 0}},
        {"selection": {"side": "last", "fraction": 0}, "early_stopping": 3},
        {"selection": {"side": "last", "fraction": 0}, "schedule": {"kind": "plateau"}},
        {"objective": {"kind": "focal", "alpha": (0, 0)}},
        {"objective": {"kind": "focal", "alpha": {"bus": 0}}},
    ],
)
def test_refuses_what_cannot_be_meant(bad):
    with pytest.raises(ValidationError):
        recipe(**bad)


def test_weight_decay_of_keras_counts_twice():
    assert WeightDecay(value=1e-4, form="keras_l2").factor == 2e-4
    assert WeightDecay(value=1e-4, form="coupled").factor == 1e-4


@pytest.mark.parametrize(
    "said", [{"name": "yours"}, {"title": "A paper"}, {"sources": {"epochs": "ours"}}, {"headline_devices": ("b", "c")}]
)
def test_what_is_only_said_does_not_change_the_fingerprint(said):
    assert recipe(**said).fingerprint == recipe().fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 6},
        {"seed": 1},
        {"features": "logmel128"},
        {"objective": {"kind": "focal", "gamma": 1}},
        {"objective": {"kind": "cross_entropy"}},
        {"optimiser": {"kind": "adadelta", "weight_decay": {"value": 1e-4}}},
        {"augmentation": {"mixup": {"alpha": 0.2}}},
        {"family": {"kind": "five_conv", "width": 2}},
        {"selection": {"side": "test"}},
    ],
)
def test_what_changes_the_result_changes_the_fingerprint(changed):
    assert recipe(**changed).fingerprint != recipe().fingerprint


def test_hyper_parameters_are_dotted_paths():
    values = recipe(objective={"kind": "focal", "alpha": (1, 2)}).hyper_parameters
    assert values["objective.alpha"] == [1, 2]
    assert values["optimiser.weight_decay.value"] == 0
    assert not {"name", "sources", "claims"} & values.keys()
