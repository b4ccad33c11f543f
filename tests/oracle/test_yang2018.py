"""The recipes of yang2018 against the arithmetic of the paper's tables and against Keras' schedule."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascmodels import papers
from ascmodels.optimisers import schedule
from ascschemas.dataset import AudioFormat

ROWS = [name for name in papers.names() if name.startswith("yang2018_")]
SCENES = ["airport", "bus", "metro", "metro_station", "park"]
SCENES += ["public_square", "shopping_mall", "street_pedestrian", "street_traffic", "tram"]


def by_class(name):
    claims = {c.group: c.value for c in papers.load(name).claims if c.scope == "class"}
    return [claims[scene] for scene in SCENES]


@pytest.mark.parametrize("name", ROWS)
def test_the_printed_average_is_that_of_the_printed_classes(name):
    (average,) = (c.value for c in papers.load(name).claims if c.scope == "class_mean")
    assert len(papers.load(name).claims) == 11
    assert average == pytest.approx(np.mean(by_class(name)), abs=0.1)


def test_there_is_a_recipe_for_each_column_of_the_tables():
    subtask_a = [f"yang2018_1a{row}" for row in ("", "_cross_entropy", "_single_scale")]
    assert [*ROWS] == sorted([*subtask_a, *(name.replace("1a", "1b") for name in subtask_a)])
    without = papers.load("yang2018_1a_single_scale").hyper_parameters
    assert (without["family.multi_scale"], without["objective.kind"]) == (False, "cross_entropy")


@pytest.mark.parametrize(("subtask", "correlation", "gamma"), [("1a", -0.90, 3), ("1b", -0.96, 1)])
def test_the_weights_are_largest_for_the_scenes_that_cross_entropy_finds_hardest(subtask, correlation, gamma):
    """Which says that the paper lists them in alphabetical order; in the order of its text the sign is positive."""
    objective = papers.load(f"yang2018_{subtask}").objective
    assert (objective.gamma, objective.eps, objective.form) == (gamma, 1e-7, "target_probability")
    assert sorted(objective.alpha) == SCENES
    weights = [objective.alpha[scene] for scene in SCENES]
    found = spearmanr(weights, by_class(f"yang2018_{subtask}_cross_entropy")).statistic
    assert found == pytest.approx(correlation, abs=0.005)


@pytest.mark.parametrize(("sample_rate", "frames"), [(48_000, 469), (44_100, 431)])
def test_the_features_have_the_shapes_of_both_subtasks(sample_rate, frames):
    kind = representation(load_recipe(papers.load("yang2018_1a").features[0]).representation)
    layout = kind.layout(AudioFormat(sample_rate=sample_rate, channels=1, frames=10 * sample_rate))
    assert layout.shape == (1, 128, frames)


@pytest.mark.slow
def test_the_rate_falls_as_keras_lowers_it_by_default():
    recipe = papers.load("yang2018_1a")
    losses = np.abs(np.random.default_rng(5).normal(1, 0.3, 90)) + np.linspace(1, 0, 90) ** 8
    losses[40:60] = losses[:40].min() - np.arange(20) * 9e-5  # better, and by too little
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.optimiser.lr)
    ours, plan = [], schedule(recipe, optimiser)
    for loss in losses:
        plan.after_epoch(float(loss))
        ours.append(optimiser.param_groups[0]["lr"])
    assert {round(-np.log10(rate)) for rate in ours} == {1, 2, 3, 4, 5}
    np.testing.assert_allclose(ours, keras_rates(losses, recipe.optimiser.lr, recipe.schedule.min_lr), rtol=1e-6)


def keras_rates(losses, lr, lowest):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    callback = keras.callbacks.ReduceLROnPlateau(mode="min", min_lr=lowest)
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=lr)))
    callback.on_train_begin()
    rates = []
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        rates.append(callback.model.optimizer.learning_rate)
    return rates
