"""Mixup mixes clips and labels alike, by draws that are Beta-distributed and its own."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from ascmodels.augment import augment, cropped, louder, masked, mixup, require_possible
from ascmodels.randomness import generator, torch_seeded
from ascmodels.testing.stores import layout
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError
from ascschemas.training import Augmentation, Crop, Gain, Mask, Mixup

TAGS = Layout(axes=(Axis(name="tag", size=5),), quantity="any")


def batch(n=16):
    """Clips whose every value is their own number, with their number as label."""
    return (torch.arange(n).float().view(n, 1, 1, 1).expand(n, 1, 3, 2),), torch.eye(n)


@pytest.mark.parametrize("share", ["sample", "batch"])
def test_clips_and_labels_are_mixed_by_the_same_lambda(share):
    (x,), y = mixup(*batch(), Mixup(alpha=0.4, share=share), generator(1, "augmentation", 1))
    assert x.shape == (16, 1, 3, 2)
    np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(x[:, 0, 0, 0], y @ torch.arange(16).float(), rtol=1e-5)
    assert (x == x[:, :1, :1, :1]).all()
    own = {round(float(v), 5) for v in y.diagonal() if v < 1}
    assert len(own) == 1 if share == "batch" else len(own) > 8


def test_lambda_is_beta_distributed():
    n = 4000
    spec = Mixup(alpha=0.2)
    (same,), _ = mixup((torch.ones(n, 1),), torch.ones(n, 1), spec, generator(0, "augmentation"))
    assert torch.equal(same, torch.ones(n, 1))
    drawn = generator(0, "augmentation").beta(0.2, 0.2, size=n)
    assert kstest(drawn, "beta", args=(0.2, 0.2)).pvalue > 0.01
    (x,), _ = mixup((torch.arange(n).float(),), torch.ones(n, 1), spec, generator(0, "augmentation"))
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


def mask_of(hidden):
    """Beginning and width of the one stretch that is hidden in each row."""
    where = [np.flatnonzero(row) for row in hidden]
    assert all(len(w) == 0 or np.array_equal(w, np.arange(w[0], w[0] + len(w))) for w in where)
    return [(int(w[0]) if len(w) else -1, len(w)) for w in where]


@pytest.mark.parametrize(("axis", "extent"), [(-2, 12), (-1, 20)])
def test_a_mask_hides_one_stretch_of_each_clip_in_all_channels(axis, extent):
    x = torch.ones(400, 2, 12, 20)
    out = masked(x, Mask(width=5), axis, np.random.default_rng(0))
    hidden = (out == 0).movedim(axis, -1)  # (B, C, other, extent)
    assert bool((hidden == hidden[:, :1, :1]).all())
    stretches = mask_of(hidden[:, 0, 0].numpy())
    assert {width for _, width in stretches} == {0, 1, 2, 3, 4, 5}
    assert min(s for s, w in stretches if w) == 0
    assert max(s + w for s, w in stretches) == extent
    assert bool((x == 1).all())


def test_widths_are_uniform_and_so_are_beginnings():
    x = torch.ones(20_000, 1, 1, 8)
    stretches = mask_of((masked(x, Mask(width=3), -1, np.random.default_rng(1)) == 0)[:, 0, 0].numpy())
    widths = np.bincount([w for _, w in stretches], minlength=4) / 20_000
    np.testing.assert_allclose(widths, 0.25, atol=0.015)
    starts = np.bincount([s for s, w in stretches if w == 3], minlength=6)
    np.testing.assert_allclose(starts / starts.sum(), 1 / 6, atol=0.02)


def test_several_masks_and_masks_as_wide_as_the_features():
    x = torch.ones(200, 1, 4, 30)
    two = masked(x, Mask(count=2, width=3), -1, np.random.default_rng(0)) == 0
    assert int(two[:, 0, 0].sum(1).max()) == 6
    whole = masked(x, Mask(width=100), -2, np.random.default_rng(0))
    assert bool((whole == 0).flatten(1).all(1).any())


def test_masks_come_before_mixtures_and_are_drawn_the_same_again():
    x, y = torch.randn(6, 1, 12, 20), torch.eye(6)
    spec = Augmentation(frequency_mask=Mask(width=4), time_mask=Mask(width=6, count=2), mixup=Mixup(alpha=1))
    draw = np.random.default_rng(3)
    by_hand = masked(masked(x, spec.frequency_mask, -2, draw), spec.time_mask, -1, draw)
    (hidden,), wanted = mixup((by_hand,), y, spec.mixup, draw)
    (found,), labels = augment((x,), y, spec, np.random.default_rng(3))
    assert torch.equal(found, hidden)
    assert torch.equal(labels, wanted)


def test_the_features_of_several_stores_are_mixed_alike_and_only_maps_are_masked():
    tags, y = torch.arange(12).float().view(12, 1), torch.eye(12)
    maps = tags.view(12, 1, 1, 1).expand(12, 1, 8, 9) + 1
    spec = Augmentation(time_mask=Mask(width=4), mixup=Mixup(alpha=0.5))
    (seen, codes), labels = augment((maps, tags), y, spec, np.random.default_rng(0))
    np.testing.assert_allclose(codes[:, 0], labels @ tags[:, 0], rtol=1e-5)
    hidden = seen[:, 0].amax(dim=(1, 2))  # a frame that neither of the two hides, in nearly every clip
    assert int(torch.isclose(hidden, codes[:, 0] + 1).sum()) >= 10


@pytest.mark.parametrize(("name", "width", "most"), [("frequency_mask", 8, 8), ("time_mask", 10, 9)])
def test_a_mask_that_may_hide_all_that_the_network_sees_is_refused_with_both(name, width, most):
    spec = Augmentation.model_validate({name: {"width": width}})
    with pytest.raises(RecipeError) as refused:
        require_possible(spec, [layout(bands=8, frames=9), TAGS])
    (row,) = refused.value.differences
    assert (row.field, row.found) == (f"augmentation.{name}.width", str(width))
    assert f"less than {most}" in row.expected
    require_possible(Augmentation.model_validate({name: {"width": most - 1}}), [layout(bands=8, frames=9), TAGS])
    with pytest.raises(RecipeError):
        require_possible(Augmentation.model_validate({name: {"width": 1}}), [TAGS])


def test_a_crop_is_a_stretch_of_each_clip_from_anywhere():
    x = torch.arange(200 * 2 * 9.0).view(200, 2, 9)
    found = cropped(x, Crop(length=4), np.random.default_rng(0))
    starts = (found[:, 0, 0] - x[:, 0, 0]).long()
    assert found.shape == (200, 2, 4)
    assert all(torch.equal(found[i], x[i, :, s : s + 4]) for i, s in enumerate(starts.tolist()))
    assert {*starts.tolist()} == {*range(6)}


def test_gains_lie_within_their_share_and_leave_some_as_they_are():
    x = torch.ones(500, 1, 2, 3)
    found = louder(x, Gain(share=0.1, probability=0.5), np.random.default_rng(0))
    per_clip = found[:, 0, 0, 0]
    assert torch.equal(found, per_clip.view(-1, 1, 1, 1).expand_as(found))
    assert ((per_clip >= 0.9) & (per_clip <= 1.1)).all()
    assert 0.4 < float((per_clip == 1).float().mean()) < 0.6
    assert float(per_clip.std()) > 0.02


def test_tags_are_neither_cut_nor_louder():
    x, tags = torch.ones(8, 2, 9), torch.rand(8, 5)
    spec = Augmentation(crop=Crop(length=4), gain=Gain(share=0.5))
    (seen, codes), _ = augment((x, tags), torch.eye(8), spec, np.random.default_rng(0))
    assert seen.shape == (8, 2, 4)
    assert torch.equal(codes, tags)


def test_mixup_may_begin_later_and_leave_some_clips_alone():
    x, y = torch.randn(400, 3), torch.eye(400)
    late = Augmentation(mixup=Mixup(from_epoch=7))
    assert torch.equal(augment((x,), y, late, np.random.default_rng(0), 6)[1], y)
    assert not torch.equal(augment((x,), y, late, np.random.default_rng(0), 7)[1], y)
    _, some = mixup((x,), y, Mixup(probability=0.5), np.random.default_rng(0))
    alone = (some == y).all(dim=1).float().mean()
    assert 0.4 < float(alone) < 0.6


def test_masks_may_be_rare_and_have_a_least_width():
    x = torch.ones(400, 1, 20, 3)
    found = masked(x, Mask(width=6, least=4, probability=0.5), -2, np.random.default_rng(0))
    hidden = (found[:, 0, :, 0] == 0).sum(dim=1)
    assert {*hidden.tolist()} == {0, 4, 5, 6}
    assert 0.4 < float((hidden == 0).float().mean()) < 0.6


def test_a_crop_that_is_longer_than_the_clips_is_refused():
    with pytest.raises(RecipeError, match=r"(?s)at most 9.*10"):
        require_possible(Augmentation(crop=Crop(length=10)), [layout(bands=8, frames=9), TAGS])
    require_possible(Augmentation(crop=Crop(length=9)), [layout(bands=8, frames=9), TAGS])
    with pytest.raises(RecipeError, match="2 of them"):
        require_possible(Augmentation(crop=Crop(length=2)), [layout(bands=8, frames=9)] * 2)
