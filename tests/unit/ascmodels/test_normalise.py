"""Normalisation is exact, of the training side only, and part of what is saved."""

import numpy as np
import pytest
import torch

from ascmodels.normalise import LEAST_DEVIATION, Model, Normaliser, band_statistics, identity
from ascmodels.testing.stores import make_store
from ascschemas.layout import Axis, Layout


def test_statistics_are_those_of_all_frames_of_the_clips(store):
    clips = np.array([0, 5, 17, 40])
    values = store.read(clips).astype(np.float64)
    mean, std = band_statistics(store, clips)
    np.testing.assert_allclose(mean, values.mean(axis=(0, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, values.std(axis=(0, 3)), rtol=1e-12)
    assert not np.allclose(mean, band_statistics(store, np.arange(72))[0], rtol=1e-3)


def test_excluded_clips_left_out_leave_no_nan(tmp_path):
    store = make_store(tmp_path / "d" / "f.zarr", excluded=(3,))
    mean, std = band_statistics(store, np.flatnonzero(store.usable))
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()


def test_normalised_features_have_mean_0_and_deviation_1_in_each_band(store):
    clips = np.arange(36)
    x = Normaliser(*band_statistics(store, clips))(torch.from_numpy(store.read(clips)))
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.mean(dim=(0, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(dim=(0, 3), correction=0), 1, atol=1e-5)


def test_an_empty_band_becomes_zero_and_not_nan():
    class Constant:
        def statistics(self):
            return np.full((4, 1, 2), -16.0), np.zeros((4, 1, 2))

    mean, std = band_statistics(Constant(), np.arange(4))
    assert (std == LEAST_DEVIATION).all()
    assert not Normaliser(mean, std)(torch.full((1, 1, 2, 5), -16.0)).any()


def test_it_is_saved_with_the_weights():
    model = Model(Normaliser(np.ones((1, 3)), np.full((1, 3), 2.0)), torch.nn.Flatten())
    assert set(model.state_dict()) == {"normaliser.mean", "normaliser.std"}
    assert model(torch.full((1, 1, 3, 2), 5.0)).tolist() == [[2.0] * 6]


@pytest.mark.parametrize("shape", [
    {"tag": 17},
    {"channel": 2, "frequency": 21},
    {"channel": 2, "time": 25},
    {"channel": 3, "component": 2, "coefficient": 15, "time": 25},
])  # fmt: skip
def test_features_of_any_layout_have_mean_0_and_deviation_1_in_each_band(tmp_path, shape):
    layout = Layout(axes=tuple(Axis(name=n, size=s) for n, s in shape.items()), quantity="any")
    store = make_store(tmp_path / "d" / "f.zarr", shape=layout)
    values, over = store.read(range(72)).astype(np.float64), (0, -1) if layout.timed else 0
    mean, std = band_statistics(store, np.arange(72))
    np.testing.assert_allclose(mean, values.mean(axis=over), rtol=1e-10)
    np.testing.assert_allclose(std, values.std(axis=over), rtol=1e-10)
    x = Normaliser(mean, std, timed=layout.timed)(torch.from_numpy(store.read(range(72))))
    assert x.shape == (72, *layout.shape)
    np.testing.assert_allclose(x.double().mean(dim=over), 0, atol=1e-5)
    np.testing.assert_allclose(x.double().std(dim=over, correction=0), 1, atol=1e-5)
    unchanged = Normaliser(*identity(layout), timed=layout.timed)(torch.from_numpy(store.read([3])))
    np.testing.assert_array_equal(unchanged, store.read([3]))
