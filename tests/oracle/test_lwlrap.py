"""lwlrap against scikit-learn and its definition, its interval against resampling, the loss of tags against torch."""

import numpy as np
import pytest
import torch
from torch import nn

from ascmodels.objectives import binary_cross_entropy, objective, probabilities
from ascmodels.tagging import by_head, lwlrap, precisions, ranked
from ascschemas.training import BinaryCrossEntropy

DRAW = np.random.default_rng(5)


def clips(n, tags, share=0.3, ties=False):
    has = (DRAW.random((n, tags)) < share).astype(np.float32)
    has[np.arange(n), DRAW.integers(0, tags, n)] = 1
    scores = DRAW.normal(size=(n, tags)) + has
    return (np.round(scores) if ties else scores), has


def by_hand(scores, has):
    """Every positive's precision at its rank, ties counted against it."""
    total = 0.0
    for row, own in zip(scores, has, strict=True):
        for k in np.flatnonzero(own):
            above = row >= row[k]
            total += own[above].sum() / above.sum()
    return total / has.sum()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "tags"), [(1, 3), (40, 5), (200, 80)])
def test_it_is_scikit_learns_with_clips_weighed_by_their_labels(n, tags, ties):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, has = clips(n, tags, ties=ties)
    found = precisions(torch.from_numpy(scores), torch.from_numpy(has)).numpy()
    expected = metrics.label_ranking_average_precision_score(has, scores, sample_weight=has.sum(axis=1))
    assert found.sum() / has.sum() == pytest.approx(expected, abs=1e-12)
    assert lwlrap("all", found, has).accuracy == pytest.approx(expected, abs=1e-12)
    assert by_hand(scores, has) == pytest.approx(expected, abs=1e-6)


def test_it_adds_up_over_batches_and_over_tags():
    scores, has = clips(50, 7)
    s, y = torch.from_numpy(scores), torch.from_numpy(has)
    parts = [ranked(s[i : i + 8], y[i : i + 8]) for i in range(0, 50, 8)]
    whole = by_hand(scores, has)
    assert sum(p for p, _ in parts) / sum(n for _, n in parts) == pytest.approx(whole, abs=1e-6)
    precise = precisions(s, y).numpy()
    per_tag = [lwlrap(str(k), precise[:, k : k + 1], has[:, k : k + 1]) for k in range(7)]
    assert sum(t.accuracy * t.total for t in per_tag) / sum(t.total for t in per_tag) == pytest.approx(whole, abs=1e-6)


def test_its_interval_is_as_wide_as_resampled_clips_scatter():
    scores, has = clips(300, 6)
    precise = precisions(torch.from_numpy(scores), torch.from_numpy(has)).numpy()
    found = lwlrap("all", precise, has)
    some = DRAW.integers(0, 300, size=(2000, 300))
    again = precise.sum(axis=1)[some].sum(axis=1) / has.sum(axis=1)[some].sum(axis=1)
    low, high = np.quantile(again, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.006)
    assert found.high == pytest.approx(high, abs=0.006)


def test_a_few_clips_that_are_all_right_make_no_tag_certain():
    score = lwlrap("one", np.array([[1.0, 0.5]]), np.array([[1.0, 1.0]]))
    assert (score.accuracy, score.total) == (0.75, 2)
    assert score.low < 0.2
    assert score.high > 0.95
    three = lwlrap("three", np.ones((3, 1)), np.ones((3, 1)))
    assert (three.accuracy, three.high) == (1.0, 1.0)
    # 5 of 7 after two are counted in on either side: 5/7 - 1.96 sqrt(7/6 * 10/7 / 49)
    assert three.low == pytest.approx(5 / 7 - 1.959964 * (7 / 6 * 10 / 7 / 49) ** 0.5, abs=1e-6)


def test_the_loss_is_torchs_and_the_probabilities_are_sigmoids():
    z, y = torch.randn(9, 4, dtype=torch.float64) * 20, torch.rand(9, 4, dtype=torch.float64)
    expected = nn.functional.binary_cross_entropy_with_logits(z, y)
    spec = BinaryCrossEntropy()
    torch.testing.assert_close(objective(spec, "abcd", torch.device("cpu"))(z, y), expected)
    torch.testing.assert_close(probabilities(z, spec), torch.sigmoid(z))


def test_of_two_heads_each_learns_its_own_clips_and_the_loss_is_the_sum_of_their_means():
    z, y = torch.randn(6, 2, 4, dtype=torch.float64), (torch.rand(6, 4) < 0.4).double()
    second = torch.tensor([False, True, True, False, False, True])
    bce = nn.functional.binary_cross_entropy_with_logits
    found = binary_cross_entropy(z, by_head(y, second))
    torch.testing.assert_close(found, bce(z[~second, 0], y[~second]) + bce(z[second, 1], y[second]))
    none = torch.zeros(6, dtype=torch.bool)
    z.requires_grad_()
    binary_cross_entropy(z, by_head(y, none)).backward()
    assert not z.grad[:, 1].any()  # nobody's clips: the head is left as it is
    assert z.grad[:, 0].all()


def test_a_mixture_costs_what_its_parts_cost_each_at_its_own_head():
    z, y = torch.randn(2, 2, 4, dtype=torch.float64), torch.tensor([[1.0, 0, 1, 0], [0, 0, 1, 1]]).double()
    rows, lam = by_head(y, torch.tensor([False, True])), 0.3
    mixed = lam * rows[:1] + (1 - lam) * rows[1:]
    bce = nn.functional.binary_cross_entropy_with_logits
    expected = 2 * (lam * bce(z[0, 0], y[0]) + (1 - lam) * bce(z[0, 1], y[1]))
    torch.testing.assert_close(binary_cross_entropy(z[:1], mixed), expected)


def test_ranked_takes_every_clip_at_its_own_head():
    z, y = torch.randn(8, 2, 5), (torch.rand(8, 5) < 0.4).float()
    y[:, 0] = 1
    second = torch.arange(8) % 2 == 1
    alone = [ranked(z[own, head], y[own]) for head, own in ((0, ~second), (1, second))]
    precise, labels = ranked(z, by_head(y, second))
    assert precise == pytest.approx(sum(p for p, _ in alone))
    assert labels == sum(n for _, n in alone)
