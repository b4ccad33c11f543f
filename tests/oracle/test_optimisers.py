"""Adadelta, weight decay and the plateau schedule against their equations written out."""

import numpy as np
import pytest
import torch

from ascmodels.families.five_conv import FiveConv
from ascmodels.optimisers import optimiser, parameter_groups, schedule
from ascmodels.testing.stores import layout
from ascschemas.training import Adadelta, Adam, Constant, Plateau, Selection, Sgd, WeightDecay

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


def rates(spec, values, monitor="accuracy"):
    weight = torch.nn.Parameter(torch.zeros(1))
    steps = torch.optim.SGD([weight], lr=0.5)
    plan = schedule(spec, steps, Selection(monitor=monitor))
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
    plan = schedule(spec, steps, Selection())
    for value in values[:4]:
        plan.after_epoch(value)
    again = schedule(spec, steps, Selection())
    again.load_state_dict(plan.state_dict())
    for value in values[4:]:
        again.after_epoch(value)
    assert steps.param_groups[0]["lr"] == pytest.approx(rates(spec, values)[-1])
