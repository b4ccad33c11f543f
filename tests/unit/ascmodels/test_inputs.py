"""What a network sees of a clip is what the store's own views cut, to the bit."""

import numpy as np
import pytest
import torch

from ascfeat.patches import cut
from ascmodels.inputs import Input, examples
from ascmodels.normalise import Normaliser, identity
from ascschemas.layout import Axis, Layout
from ascschemas.recipe import Patches


def given(patches, **sizes):
    axes = tuple(Axis(name=n, size=s) for n, s in sizes.items())
    return Input(Layout(axes=axes, quantity="any"), patches)


MFCC = given(Patches(width=128, hop=32), channel=3, coefficient=128, time=469)
CQT = given(Patches(width=128, hop=64, resize=128), channel=3, frequency=110, time=938)
HPSS = given(Patches(width=128, hop=32), channel=3, component=2, coefficient=128, time=469)
WHOLE = given(None, channel=1, frequency=4, time=9)
TAGS = given(None, tag=7)


@pytest.mark.parametrize(("seen", "count"), [(MFCC, 33), (CQT, 39), (HPSS, 66)])
def test_a_clip_gives_as_many_patches_as_huang2019_counts(seen, count):
    assert seen.count == count
    assert seen.seen.shape == (1, 128, 128)


def test_a_whole_clip_is_one_example_as_it_is_stored():
    assert (WHOLE.count, WHOLE.seen, TAGS.count, TAGS.seen) == (1, WHOLE.layout, 1, TAGS.layout)
    x = torch.randn(3, 1, 4, 9)
    assert WHOLE.every(x) is x
    assert examples((TAGS, MFCC, MFCC)) == 33


@pytest.mark.parametrize("last", ["drop", "align"])
@pytest.mark.parametrize("resize", [None, 5, 11])
@pytest.mark.parametrize("sizes", [
    {"channel": 3, "frequency": 7, "time": 31},
    {"channel": 2, "component": 2, "coefficient": 7, "time": 31},
])  # fmt: skip
def test_patches_are_those_of_the_store(sizes, resize, last):
    patches = Patches(width=8, hop=5, resize=resize, last=last)
    seen = given(patches, **sizes)
    x = np.random.default_rng(0).normal(size=(4, *sizes.values())).astype(np.float32)
    expected = cut(x, patches).reshape(4 * seen.count, 1, resize or 7, 8)
    laid = Normaliser(seen, *identity(seen))
    found = laid(seen.every(torch.from_numpy(x))).numpy()
    assert found.shape == (4 * seen.count, *seen.seen.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    if resize is None:
        np.testing.assert_array_equal(found, expected)
    some = np.array([7, 0, seen.count - 1, 2]), np.array([3, 0, 1, 3])
    part = laid(seen.some(torch.from_numpy(x), *(torch.from_numpy(i) for i in reversed(some)))).numpy()
    np.testing.assert_array_equal(part, found[some[1] * seen.count + some[0]])


def test_integers_are_cut_as_they_are_stored():
    seen = given(Patches(width=4, hop=4), channel=1, frequency=2, time=9)
    numbers = torch.arange(18, dtype=torch.int16).view(1, 1, 2, 9)
    assert seen.every(numbers).dtype == torch.int16
    assert seen.every(numbers)[1].tolist() == [[[4, 5, 6, 7], [13, 14, 15, 16]]]
