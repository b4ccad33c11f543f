"""The losses against closed form, the papers' check values, and torch's own cross-entropy; float64."""

import math

import pytest
import torch

from ascmodels.objectives import focal_loss, objective, probabilities
from ascschemas.problems import RecipeError
from ascschemas.training import CrossEntropy, Focal

HALF = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
SURE = torch.tensor([[0.9, 0.1]], dtype=torch.float64).log()
FIRST = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
FORMS = ("per_class", "target_probability")


@pytest.mark.parametrize("form", FORMS)
def test_the_check_values_of_both_forms(form):
    alpha = torch.tensor([0.7, 0.3], dtype=torch.float64)
    assert float(focal_loss(HALF, FIRST, form=form, gamma=3, alpha=alpha)) == pytest.approx(0.0606504, abs=5e-8)
    assert float(focal_loss(SURE, FIRST, form=form, gamma=1)) == pytest.approx(0.0105361, abs=5e-8)


def test_the_check_value_of_the_heated_softmax():
    logits = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    assert float(probabilities(logits, CrossEntropy(temperature=10))[0, 0]) == pytest.approx(0.549834, abs=5e-7)
    assert float(focal_loss(logits, FIRST, temperature=10)) == pytest.approx(-math.log(0.5498339973), abs=1e-9)


def random_batch(classes=5, n=7):
    draw = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn((n, classes), generator=draw, dtype=torch.float64)
    return logits, torch.rand((n, classes), generator=draw, dtype=torch.float64).softmax(1)


def by_hand(logits, labels, *, form, gamma, alpha, temperature):
    total = 0.0
    for z, y in zip(logits.tolist(), labels.tolist(), strict=True):
        e = [math.exp(v / temperature) for v in z]
        p = [v / sum(e) for v in e]
        if form == "per_class":
            total -= sum(a * (1 - q) ** gamma * t * math.log(q) for q, t, a in zip(p, y, alpha, strict=True))
        else:
            q = sum(q * t for q, t in zip(p, y, strict=True))
            total -= sum(t * a for t, a in zip(y, alpha, strict=True)) * (1 - q) ** gamma * math.log(q)
    return total / len(logits)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("gamma", "temperature"), [(0, 1), (1, 20), (2, 0.5), (3.5, 10)])
def test_mixed_labels_against_the_equations_written_out(form, gamma, temperature):
    logits, labels = random_batch()
    alpha = [0.2, 1.0, 0.5, 0.9, 0.7]
    ours = focal_loss(logits, labels, form=form, gamma=gamma, alpha=torch.tensor(alpha), temperature=temperature)
    expected = by_hand(logits, labels, form=form, gamma=gamma, alpha=alpha, temperature=temperature)
    assert float(ours) == pytest.approx(expected, rel=1e-7)


def test_without_focus_it_is_cross_entropy():
    logits, labels = random_batch()
    expected = torch.nn.functional.cross_entropy(logits / 20, labels)
    assert float(focal_loss(logits, labels, temperature=20)) == pytest.approx(float(expected), rel=1e-12)


def test_the_forms_agree_on_one_hot_labels_and_differ_on_mixtures():
    logits, mixed = random_batch()
    hard = torch.nn.functional.one_hot(mixed.argmax(1), 5).double()
    on = {form: [float(focal_loss(logits, y, form=form, gamma=1)) for y in (hard, mixed)] for form in FORMS}
    assert on["per_class"][0] == pytest.approx(on["target_probability"][0], rel=1e-12)
    assert abs(on["per_class"][1] - on["target_probability"][1]) > 0.01


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_certain_outputs_give_finite_losses_and_gradients(form, gamma):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), form=form, gamma=gamma)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_the_gradient_is_that_of_finite_differences():
    logits, labels = random_batch(n=2)
    for form in FORMS:
        one = logits.clone().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda z, f=form: focal_loss(z, labels[:2], form=f, gamma=1, temperature=3), one
        )


@pytest.mark.parametrize("form", FORMS)
def test_eps_stands_where_the_equation_has_it(form):
    alpha = torch.tensor([0.7, 0.3], dtype=torch.float64)
    found = focal_loss(SURE, FIRST, form=form, gamma=3, alpha=alpha, eps=1e-2)
    assert float(found) == pytest.approx(-0.7 * (0.1 + 1e-2) ** 3 * math.log(0.9 + 1e-2), rel=1e-12)


def test_the_per_class_form_of_a_mixture_is_the_mixture_of_the_losses():
    logits, _ = random_batch()
    one, two = (torch.nn.functional.one_hot(torch.arange(7) * k % 5, 5).double() for k in (1, 3))
    mixed = focal_loss(logits, 0.3 * one + 0.7 * two, form="per_class", gamma=2)
    apart = [focal_loss(logits, y, form="target_probability", gamma=2) for y in (one, two)]
    assert float(mixed) == pytest.approx(float(0.3 * apart[0] + 0.7 * apart[1]), rel=1e-12)


def test_class_weights_go_by_name():
    spec = Focal(form="target_probability", gamma=1, alpha={"bus": 0.5, "airport": 2.0, "tram": 9.0})
    loss = objective(spec, ("airport", "bus"), torch.device("cpu"))
    weights = torch.tensor([2.0, 0.5])
    expected = focal_loss(HALF, FIRST, form="target_probability", gamma=1, alpha=weights)
    assert float(loss(HALF, FIRST)) == float(expected)
    with pytest.raises(RecipeError, match=r"objective.alpha=none") as refused:
        objective(spec, ("airport", "park"), torch.device("cpu"))
    assert "park" in str(refused.value)
