"""Mixup mixes clips and labels alike, by draws that are Beta-distributed and its own."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from ascmodels.augment import augment, mixup
from ascmodels.randomness import generator, torch_seeded
from ascschemas.training import Augmentation, Mixup


def batch(n=16):
    """Clips whose every value is their own number, with their number as label."""
    return torch.arange(n).float().view(n, 1, 1, 1).expand(n, 1, 3, 2), torch.eye(n)


@pytest.mark.parametrize("share", ["sample", "batch"])
def test_clips_and_labels_are_mixed_by_the_same_lambda(share):
    x, y = mixup(*batch(), Mixup(alpha=0.4, share=share), generator(1, "augmentation", 1))
    assert x.shape == (16, 1, 3, 2)
    np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(x[:, 0, 0, 0], y @ torch.arange(16).float(), rtol=1e-5)
    assert (x == x[:, :1, :1, :1]).all()
    own = {round(float(v), 5) for v in y.diagonal() if v < 1}
    assert len(own) == 1 if share == "batch" else len(own) > 8


def test_lambda_is_beta_distributed():
    n = 4000
    spec = Mixup(alpha=0.2)
    lam = mixup(torch.ones(n, 1), torch.ones(n, 1), spec, generator(0, "augmentation"))  # draws, then a permutation
    assert torch.equal(lam[0], torch.ones(n, 1))
    drawn = generator(0, "augmentation").beta(0.2, 0.2, size=n)
    assert kstest(drawn, "beta", args=(0.2, 0.2)).pvalue > 0.01
    x, _ = mixup(torch.arange(n).float(), torch.ones(n, 1), spec, generator(0, "augmentation"))
    other = torch.from_numpy(_permutation(n))
    expected = torch.from_numpy(drawn.astype(np.float32))
    np.testing.assert_allclose(x, expected * torch.arange(n) + (1 - expected) * other, rtol=1e-5)


def _permutation(n):
    draw = generator(0, "augmentation")
    draw.beta(0.2, 0.2, size=n)
    return draw.permutation(n)


def test_no_mixup_changes_nothing():
    x, y = batch()
    assert augment(x, y, Augmentation(), generator(0, "augmentation")) == (x, y)


def test_draws_belong_to_seed_purpose_and_counters():
    keys = [(0, "order", 1), (0, "order", 2), (1, "order", 1), (0, "augmentation", 1), (0, "augmentation", 1, 1)]
    draws = [generator(*key).integers(1 << 62) for key in keys]
    assert len(set(draws)) == len(draws)
    assert draws == [generator(*key).integers(1 << 62) for key in keys]


def test_torch_is_seeded_within_and_as_before_afterwards():
    before = torch.random.get_rng_state()
    drawn = []
    for _ in range(2):
        with torch_seeded(3, "weights", device=torch.device("cpu")):
            drawn.append(torch.rand(4))
    assert torch.equal(*drawn)
    assert torch.equal(before, torch.random.get_rng_state())
