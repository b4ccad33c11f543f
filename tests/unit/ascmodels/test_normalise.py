"""Normalisation is exact, of the training side only, and part of what is saved."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ascmodels.inputs import Input
from ascmodels.joining import Member, join
from ascmodels.normalise import LEAST_DEVIATION, Model, Normaliser, band_statistics, identity
from ascmodels.testing.stores import layout, make_store
from ascschemas.layout import Axis, Layout


def member(store):
    """A store alone."""
    return join(store).members[0]


def test_statistics_are_those_of_all_frames_of_the_clips(store):
    clips = np.array([0, 5, 17, 40])
    values = store.read(clips).astype(np.float64)
    mean, std = band_statistics(member(store), clips)
    np.testing.assert_allclose(mean, values.mean(axis=(0, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, values.std(axis=(0, 3)), rtol=1e-12)
    assert not np.allclose(mean, band_statistics(member(store), np.arange(72))[0], rtol=1e-3)


def test_excluded_clips_left_out_leave_no_nan(tmp_path):
    store = make_store(tmp_path / "d" / "f.zarr", excluded=(3,))
    mean, std = band_statistics(member(store), np.flatnonzero(store.usable))
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()


def test_normalised_features_have_mean_0_and_deviation_1_in_each_band(store):
    clips = np.arange(36)
    x = Normaliser(Input.of(store.header), *band_statistics(member(store), clips))(torch.from_numpy(store.read(clips)))
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.mean(dim=(0, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(dim=(0, 3), correction=0), 1, atol=1e-5)


def test_an_empty_band_becomes_zero_and_not_nan():
    class Constant:
        header = SimpleNamespace(layout=layout(bands=2, frames=5), recipe=SimpleNamespace(patches=None))

        def statistics(self):
            return np.full((4, 1, 2), -16.0), np.zeros((4, 1, 2))

    given = Member(Constant(), np.arange(4))
    mean, std = band_statistics(given, np.arange(4))
    assert (std == LEAST_DEVIATION).all()
    assert not Normaliser(given.input, mean, std)(torch.full((1, 1, 2, 5), -16.0)).any()


def test_it_is_saved_with_the_weights():
    given = Input(layout(bands=3, frames=2))
    model = Model([Normaliser(given, np.ones((1, 3)), np.full((1, 3), 2.0))], torch.nn.Flatten())
    assert set(model.state_dict()) == {"normalisers.0.mean", "normalisers.0.std"}
    assert model(torch.full((1, 1, 3, 2), 5.0)).tolist() == [[2.0] * 6]


@pytest.mark.parametrize("shape", [
    {"tag": 17},
    {"channel": 2, "frequency": 21},
    {"channel": 2, "time": 25},
    {"channel": 3, "component": 2, "coefficient": 15, "time": 25},
])  # fmt: skip
def test_features_of_any_layout_have_mean_0_and_deviation_1_in_each_band(tmp_path, shape):
    axes = Layout(axes=tuple(Axis(name=n, size=s) for n, s in shape.items()), quantity="any")
    store = make_store(tmp_path / "d" / "f.zarr", shape=axes)
    values, over = store.read(range(72)).astype(np.float64), (0, -1) if axes.timed else 0
    mean, std = band_statistics(member(store), np.arange(72))
    np.testing.assert_allclose(mean, values.mean(axis=over), rtol=1e-10)
    np.testing.assert_allclose(std, values.std(axis=over), rtol=1e-10)
    x = Normaliser(Input(axes), mean, std)(torch.from_numpy(store.read(range(72))))
    assert x.shape == (72, *axes.shape)
    np.testing.assert_allclose(x.double().mean(dim=over), 0, atol=1e-5)
    np.testing.assert_allclose(x.double().std(dim=over, correction=0), 1, atol=1e-5)
    unchanged = Normaliser(Input(axes), *identity(Input(axes)))(torch.from_numpy(store.read([3])))
    np.testing.assert_array_equal(unchanged, store.read([3]))
