"""Adadelta, weight decay and the plateau schedule against their equations written out."""

import math

import numpy as np
import pytest
import torch

from ascmodels import papers
from ascmodels.families.five_conv import FiveConv
from ascmodels.optimisers import optimiser, parameter_groups, schedule
from ascmodels.testing.stores import layout
from ascschemas.optimisation import AdaBound, Adadelta, Adam, Constant, Cosine, Plateau, Sgd, Steps, WeightDecay
from ascschemas.training import Selection

NGUYEN = Adadelta(lr=0.5, weight_decay=WeightDecay(value=1e-5, form="keras_l2", scope="conv_kernels"))


def quadratic(spec, steps=20):
    """Weights of a convolution that minimises the sum of its squares, as numpy sees them after each step."""
    network = torch.nn.Conv1d(1, 1, 3, bias=False).double()
    network.weight.data = torch.tensor([[[1.0, -2.0, 0.5]]], dtype=torch.float64)
    steps_of = optimiser(spec, network)
    path = [network.weight.detach().numpy().copy()]
    for _ in range(steps):
        steps_of.zero_grad()
        (network.weight**2).sum().backward()
        steps_of.step()
        path.append(network.weight.detach().numpy().copy())
    return path


def test_adadelta_with_keras_l2_takes_the_steps_of_its_equations():
    spec = NGUYEN.model_copy(update={"weight_decay": WeightDecay(value=0.1, form="keras_l2", scope="conv_kernels")})
    path = quadratic(spec)
    theta, squares, deltas = path[0], 0.0, 0.0
    for seen in path[1:]:
        gradient = 2 * theta + 2 * 0.1 * theta  # of the loss, and of 0.1 * sum(theta^2)
        squares = 0.95 * squares + 0.05 * gradient**2
        step = np.sqrt(deltas + 1e-7) / np.sqrt(squares + 1e-7) * gradient
        deltas = 0.95 * deltas + 0.05 * step**2
        theta = theta - 0.5 * step
        np.testing.assert_allclose(seen, theta, rtol=1e-12)


def test_nguyens_decay_is_twice_its_value_on_convolution_kernels_only():
    network = FiveConv().build((layout(),), 3)
    decayed, rest = parameter_groups(network, NGUYEN.weight_decay)
    assert decayed["weight_decay"] == 2e-5
    assert rest["weight_decay"] == 0
    assert [p.dim() for p in decayed["params"]] == [4] * 5
    assert {id(p) for g in (decayed, rest) for p in g["params"]} == {id(p) for p in network.parameters()}
    assert len(decayed["params"]) + len(rest["params"]) == len(list(network.parameters()))


@pytest.mark.parametrize("spec", [Sgd(lr=0.05, momentum=0.9, nesterov=True), Adam(lr=0.1), Adadelta()])
def test_the_others_descend(spec):
    path = quadratic(spec, steps=60)
    assert (path[-1] ** 2).sum() < (path[0] ** 2).sum()


def recipe(spec, monitor="accuracy"):
    whole = papers.load("five_conv_small")
    return whole.model_copy(update={"schedule": spec, "selection": Selection(monitor=monitor)})


def rates(spec, values, monitor="accuracy"):
    weight = torch.nn.Parameter(torch.zeros(1))
    steps = torch.optim.SGD([weight], lr=0.5)
    plan = schedule(recipe(spec, monitor), steps)
    seen = []
    for value in values:
        plan.after_epoch(value)
        seen.append(steps.param_groups[0]["lr"])
    return seen


def test_the_seventeenth_epoch_without_improvement_lowers_the_rate():
    spec = Plateau(factor=0.1, patience=16)
    assert rates(spec, [0.5] + [0.5] * 16) == [0.5] * 17
    assert rates(spec, [0.5] + [0.5] * 17)[-1] == pytest.approx(0.05)
    assert rates(spec, [0.5] + [0.5] * 34)[-1] == pytest.approx(0.005)
    assert rates(spec, [0.5] + [0.5] * 33)[-1] == pytest.approx(0.05)


def test_the_smallest_improvement_counts_and_starts_the_count_again():
    better = [0.5] + [0.4] * 16 + [0.5 + 1e-9] + [0.4] * 16
    assert rates(Plateau(factor=0.1, patience=16), better) == [0.5] * len(better)


def test_a_loss_improves_downwards():
    assert rates(Plateau(factor=0.5, patience=1), [2.0, 1.0, 0.5, 0.4], "loss") == [0.5] * 4
    assert rates(Plateau(factor=0.5, patience=1), [1.0, 2.0, 2.0], "loss") == [0.5, 0.5, 0.25]


def test_a_constant_rate_stays():
    assert rates(Constant(), [0.1, None, 0.1]) == [0.5] * 3


def test_a_schedule_goes_on_from_its_state():
    values, spec = [0.5] * 12, Plateau(factor=0.1, patience=5)
    weight = torch.nn.Parameter(torch.zeros(1))
    steps = torch.optim.SGD([weight], lr=0.5)
    plan = schedule(recipe(spec), steps)
    for value in values[:4]:
        plan.after_epoch(value)
    again = schedule(recipe(spec), steps)
    again.load_state_dict(plan.state_dict())
    for value in values[4:]:
        again.after_epoch(value)
    assert steps.param_groups[0]["lr"] == pytest.approx(rates(spec, values)[-1])


def test_a_schedule_may_watch_what_selects_nothing():
    falling = Plateau(factor=0.5, patience=0, monitor="loss")
    assert rates(falling, [2.0, 1.0, 0.5]) == [0.5] * 3
    assert rates(falling, [0.5, 1.0, 2.0]) == [0.5, 0.25, 0.125]


def test_a_rate_stays_at_its_lowest():
    assert rates(Plateau(factor=0.1, patience=0, min_lr=0.01), [0.5] * 5) == pytest.approx(
        [0.5, 0.05, 0.01, 0.01, 0.01]
    )


def test_steps_count_batches_and_not_epochs():
    weight = torch.nn.Parameter(torch.zeros(1))
    steps = torch.optim.SGD([weight], lr=1e-3)
    plan, seen = schedule(recipe(Steps(factor=0.9, every=200)), steps), []
    for number in range(1, 5001):
        seen.append(steps.param_groups[0]["lr"])  # of this batch
        steps.step()
        plan.after_step()
        if number % 135 == 0:
            plan.after_epoch(0.5)
    assert seen == pytest.approx([1e-3 * 0.9 ** (t // 200) for t in range(5000)], rel=1e-9)


def test_a_cosine_starts_again():
    spec = Cosine(period=4, min_lr=0.1)
    law = [0.1 + 0.4 * (1 + math.cos(math.pi * (e % 4) / 4)) / 2 for e in range(1, 10)]
    assert rates(spec, [None] * 9) == pytest.approx(law)


def test_decoupled_decay_takes_its_share_of_the_weights_and_leaves_the_step_alone():
    def stepped(value):
        network = torch.nn.Linear(1, 1, bias=False).double()
        torch.nn.init.constant_(network.weight, 2.0)
        steps = optimiser(Adam(lr=0.1, weight_decay=WeightDecay(value=value, form="decoupled")), network)
        network.weight.grad = torch.tensor([[3.0]], dtype=torch.float64)
        steps.step()
        return float(network.weight.detach())

    assert stepped(0.5) - stepped(0.0) == pytest.approx(-0.1 * 0.5 * 2.0, rel=1e-12)


def test_amsgrad_and_adabound_are_the_libraries_own():
    network = torch.nn.Linear(2, 1)
    assert optimiser(Adam(amsgrad=True), network).param_groups[0]["amsgrad"]
    bounded = optimiser(AdaBound(lr=2e-3, final_lr=0.2, gamma=5e-3), network).param_groups[0]
    assert (bounded["lr"], bounded["final_lr"], bounded["gamma"]) == (2e-3, 0.2, 5e-3)
