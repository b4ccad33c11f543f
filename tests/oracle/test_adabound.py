"""AdaBound against its step written out in float64, its bounds under a schedule, and going on from a state."""

import numpy as np
import pytest
import torch
from torch import nn

from ascmodels.optimisers import optimiser, schedule
from ascschemas.optimisation import AdaBound, WeightDecay
from ascschemas.training import TrainingRecipe

YE = {"kind": "adabound", "lr": 1e-3, "final_lr": 0.1}
"""As ye2019 has it; the rest are the defaults of its authors."""
EPS = 1e-8


def recipe(every=200, factor=0.9, **more):
    values = {
        "name": "bounded",
        "features": "made_up",
        "family": {"kind": "five_conv"},
        "objective": {"kind": "cross_entropy"},
        "optimiser": YE | more,
        "schedule": {"kind": "steps", "factor": factor, "every": every},
        "epochs": 1,
    }
    return TrainingRecipe.model_validate(values)


def network(seed=0):
    """A convolution and a dense layer: two groups, where weight decay is for kernels only."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Linear(6, 2)).double()


def gradients(parameters, seed):
    """Of another size for each weight, so that some steps meet the lower bound, some the upper, some neither."""
    sizes, draw = np.random.default_rng(99), np.random.default_rng(seed)
    return [draw.normal(size=p.shape) * 10.0 ** sizes.uniform(-5, 1, p.shape) for p in parameters]


class ByHand:
    """The step of the paper: Adam's rate for each weight, clipped between two bounds."""

    def __init__(self, weights, lr=1e-3, final_lr=0.1, beta1=0.9, beta2=0.999, gamma=1e-3, under_root=0.0):
        self.theta = [w.copy() for w in weights]
        self.m = [np.zeros_like(w) for w in weights]
        self.v = [np.zeros_like(w) for w in weights]
        self.lr, self.final_lr, self.betas, self.gamma, self.t = lr, final_lr, (beta1, beta2), gamma, 0
        self.under_root = under_root
        self.met = {"lower": 0, "between": 0, "upper": 0}

    def step(self, gradient, lr):
        self.t += 1
        (b1, b2), t = self.betas, self.t
        low, high = bounds(t, lr, self.lr, self.final_lr, self.gamma)
        for i, g in enumerate(gradient):
            self.m[i] = b1 * self.m[i] + (1 - b1) * g
            self.v[i] = b2 * self.v[i] + (1 - b2) * g**2
            eta = lr * np.sqrt(1 - b2**t) / (1 - b1**t) / (np.sqrt(self.v[i] + self.under_root) + EPS)
            self.theta[i] = self.theta[i] - np.clip(eta, low, high) * self.m[i]
            self.met["lower"] += int((eta < low).sum())
            self.met["upper"] += int((eta > high).sum())
            self.met["between"] += int(((eta >= low) & (eta <= high)).sum())


def bounds(t, lr, base_lr=1e-3, final_lr=0.1, gamma=1e-3):
    final = final_lr * lr / base_lr
    return final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))


def give(net, gradient):
    for p, g in zip(net.parameters(), gradient, strict=True):
        p.grad = torch.from_numpy(g.copy())


def arrays(net):
    return [p.detach().numpy().copy() for p in net.parameters()]


@pytest.mark.parametrize("scope", ["all", "conv_kernels"])
@pytest.mark.parametrize("foreach", [True, False])
def test_six_hundred_steps_under_the_schedule_are_those_of_the_equations(scope, foreach):
    plan = recipe(weight_decay={"value": 0.0, "scope": scope})
    net = network()
    steps = optimiser(plan.optimiser, net)
    assert len(steps.param_groups) == (1 if scope == "all" else 2)
    for group in steps.param_groups:
        group["foreach"] = foreach
    rate, paper, library = schedule(plan, steps), ByHand(arrays(net)), ByHand(arrays(net), under_root=1e-15)
    for t in range(600):
        given, lr = gradients(paper.theta, seed=t), 1e-3 * 0.9 ** (t // 200)
        give(net, given)
        paper.step(given, lr)
        library.step(given, lr)
        steps.step()
        rate.after_step()
    assert min(paper.met.values()) > 100  # both bounds have been met, and neither
    for seen, wanted, exactly in zip(arrays(net), paper.theta, library.theta, strict=True):
        np.testing.assert_allclose(seen, wanted, rtol=0, atol=1e-7)
        np.testing.assert_allclose(seen, exactly, rtol=1e-10)


@pytest.mark.parametrize(
    ("t", "lr", "low", "high"),
    [(1, 1e-3, 9.99e-5, 100.1), (1000, 5.905e-4, 0.02952, 0.11810), (5000, 7.179e-5, 5.982e-3, 8.615e-3)],
)
def test_a_schedule_scales_both_bounds_as_it_scales_the_rate(t, lr, low, high):
    assert lr == pytest.approx(1e-3 * 0.9 ** (t // 200), rel=1e-3)
    assert bounds(t, 1e-3 * 0.9 ** (t // 200)) == pytest.approx((low, high), rel=1e-3)
    for gradient, bound in ((1e9, low), (1e-7, high)):  # far too large, and far too small, for Adam's own rate
        weight = nn.Linear(1, 1, bias=False).double()
        steps = optimiser(AdaBound(**YE), weight)
        steps.param_groups[0] |= {"lr": 1e-3 * 0.9 ** (t // 200), "step": t - 1}
        before = weight.weight.item()
        weight.weight.grad = torch.full((1, 1), gradient, dtype=torch.float64)
        steps.step()
        assert (before - weight.weight.item()) / (0.1 * gradient) == pytest.approx(bound, rel=1e-3)


def test_tiny_gradients_take_the_step_of_the_equations_too():
    """The library adds 1e-15 to v under the root; where that is not nothing, the upper bound has been met."""
    for size in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10):
        weight = nn.Linear(4, 1, bias=False).double()
        steps, hand = optimiser(AdaBound(**YE), weight), ByHand(arrays(weight))
        start = arrays(weight)[0]
        for t in range(50):
            draw = np.random.default_rng(t).normal(size=(1, 4)) * size
            give(weight, [draw])
            hand.step([draw], lr=1e-3)
            steps.step()
        np.testing.assert_allclose(arrays(weight)[0] - start, hand.theta[0] - start, rtol=1e-4)


def test_it_goes_on_from_its_state_bit_for_bit():
    plan = recipe(every=7)
    whole, first, second = network(), network(), network(seed=1)

    def trained(net, steps, rate, span):
        for t in span:
            give(net, gradients(arrays(net), seed=t))
            steps.step()
            rate.after_step()

    def fresh(net):
        steps = optimiser(plan.optimiser, net)
        return steps, schedule(plan, steps)

    trained(whole, *fresh(whole), range(30))
    steps, rate = fresh(first)
    trained(first, steps, rate, range(13))
    again, later = fresh(second)
    second.load_state_dict(first.state_dict())
    again.load_state_dict(steps.state_dict())
    later.load_state_dict(rate.state_dict())
    trained(second, again, later, range(13, 30))
    for seen, wanted in zip(arrays(second), arrays(whole), strict=True):
        np.testing.assert_array_equal(seen, wanted)


def test_decay_through_the_gradient_or_beside_the_step_is_told_apart():
    for form, taken in (("coupled", True), ("decoupled", False)):
        weight = nn.Linear(3, 1, bias=False).double()
        spec = AdaBound(**YE, weight_decay=WeightDecay(value=0.1, form=form))
        steps, hand = optimiser(spec, weight), ByHand(arrays(weight))
        for t in range(5):
            draw = np.random.default_rng(t).normal(size=(1, 3))
            give(weight, [draw])
            steps.step()
            if taken:
                hand.step([draw + 0.1 * hand.theta[0]], lr=1e-3)
            else:
                hand.theta[0] = hand.theta[0] * (1 - 1e-3 * 0.1)
                hand.step([draw], lr=1e-3)
        np.testing.assert_allclose(arrays(weight)[0], hand.theta[0], rtol=1e-8)
