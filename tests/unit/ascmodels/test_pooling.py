"""Pooling over time against NumPy, value by value and in its documented order."""

import numpy as np
import pytest
import torch

from ascmodels.families.pooled import Pooled
from ascmodels.testing.stores import layout
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError

CODES = Layout(axes=(Axis(name="tag", size=7),), quantity="any")


@pytest.mark.parametrize("deltas", [False, True])
@pytest.mark.parametrize("moments", [("mean", "deviation"), ("deviation",), ()])
def test_each_is_taken_of_every_band_and_channel(moments, deltas):
    shape = layout(bands=3, frames=9, channels=2)
    pooling = Pooled(moments=moments, quantiles=(0.0, 0.25, 0.9), deltas=deltas).pooling((shape,))
    x = np.random.default_rng(1).normal(size=(4, *shape.shape))
    expected = []
    for values in (x, np.diff(x, axis=-1))[: 1 + deltas]:
        taken = {"mean": values.mean(axis=-1), "deviation": values.std(axis=-1)}
        expected += [taken[name] for name in moments]
        expected += [np.quantile(values, q, axis=-1) for q in (0.0, 0.25, 0.9)]
    found = pooling([torch.from_numpy(x)]).numpy()
    np.testing.assert_allclose(found, np.concatenate([e.reshape(4, -1) for e in expected], axis=1), rtol=1e-12)
    assert found.shape == (4, pooling.size)
    assert not pooling.stored


def test_moments_come_of_what_a_store_keeps():
    pooling = Pooled(moments=("deviation", "mean")).pooling((layout(bands=3, frames=9),))
    x = np.random.default_rng(1).normal(size=(4, 1, 3, 9))
    found = pooling.of_statistics([(x.mean(axis=-1), x.var(axis=-1))])
    np.testing.assert_allclose(found, pooling([torch.from_numpy(x)]).numpy(), rtol=1e-12)
    assert pooling.stored


def test_codes_are_taken_as_they_are():
    pooling = Pooled(quantiles=(0.5,), deltas=True).pooling((CODES,))
    x = np.arange(14.0).reshape(2, 7)
    assert (pooling.size, pooling.stored) == (7, True)
    np.testing.assert_array_equal(pooling([torch.from_numpy(x)]).numpy(), x)
    np.testing.assert_array_equal(pooling.of_statistics([(x, 0 * x)]), x)


def test_one_frame_has_no_differences():
    with pytest.raises(RecipeError, match=r"family\.deltas") as refused:
        Pooled(deltas=True).pooling((layout(frames=1),))
    assert refused.value.differences[0].found == "1"


@pytest.mark.parametrize("values", [{"moments": ()}, {"moments": ("mean", "mean")}, {"quantiles": (0.5, 0.5)}])
def test_nothing_and_the_same_twice_are_refused(values):
    with pytest.raises(ValueError, match="name"):
        Pooled(**values)
