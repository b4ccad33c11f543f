"""Do other people's tools see a store's values, names, units and labels, and can its clips be chosen by them?"""

import pickle
import sys
from pathlib import Path

import dask.array
import numpy as np
import pytest
import torch
import xarray
from torch.utils.data import DataLoader

import ascfeat
from ascfeat.store import Store
from ascfeat.testing.stores import CLIPS, EXCLUDED, WAYS, make_store
from ascschemas.problems import StoreError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "s.zarr")


def test_opens_by_the_name_that_everybody_tries_first(store: Store) -> None:
    again = ascfeat.open_store(str(store.place))
    np.testing.assert_array_equal(again.read([0, 3]), store.read([0, 3]))
    with pytest.raises(AttributeError, match="no attribute 'open_shop'"):
        ascfeat.open_shop  # noqa: B018


@pytest.mark.parametrize("way", WAYS)
def test_dask_computes_the_same_values_unit_by_unit(tmp_path: Path, way: str) -> None:
    store = make_store(tmp_path / "s.zarr", way)
    lazy = store.dask()
    assert isinstance(lazy, dask.array.Array)
    assert lazy.chunks[0] == (4, 4, 3)
    np.testing.assert_array_equal(lazy.compute(scheduler="threads"), store.read(range(CLIPS)))
    np.testing.assert_array_equal(lazy[5:9, 1].compute(scheduler="sync"), store.read(range(5, 9))[:, 1])


def test_dask_reads_nothing_before_it_computes(store: Store) -> None:
    lazy = store.dask()
    store.place.remove(store.header.chunk("features", 2))
    assert lazy[:8].sum().compute(scheduler="sync") is not None
    with pytest.raises(StoreError, match="there is no file features/c/2"):
        lazy.compute(scheduler="sync")


def test_xarray_has_names_units_labels_devices_and_splits(store: Store) -> None:
    found = store.xarray()
    assert isinstance(found, xarray.Dataset)
    assert found["features"].dims == ("clip", "channel", "frequency", "time")
    assert found["frequency"].attrs["units"] == "Hz"
    assert found["time"].attrs["units"] == "s"
    np.testing.assert_allclose(found["time"], np.arange(7) * 0.01)
    assert found["channel"].values.tolist() == ["left", "right"]
    assert found["label"].values.tolist() == list(store.labels)
    assert found["split_fold1"].values.tolist() == store.sides("fold1").tolist()
    assert found["usable"].values.tolist() == store.usable.tolist()
    assert found.attrs == {"dataset": "made", "recipe": "made", "fingerprint": store.header.recipe_fingerprint}
    one = found.sel(clip="audio/03.wav")
    assert str(one["device"].values) == store.devices[3]
    np.testing.assert_array_equal(one["features"].to_numpy(), store.read([3])[0])
    np.testing.assert_array_equal(found["mean"], store.statistics()[0])


def test_a_selection_is_what_its_properties_say(store: Store) -> None:
    chosen = store.sel(scene="bus", split="fold1", side="train")
    expected = [
        i for i in range(CLIPS) if store.labels[i] == "bus" and store.sides("fold1")[i] == "train" and i != EXCLUDED
    ]
    assert chosen.clips.tolist() == expected
    assert set(chosen.labels) == {"bus"}
    assert chosen.ids == tuple(store.ids[i] for i in expected)
    np.testing.assert_array_equal(chosen.numpy(), store.read(expected))
    np.testing.assert_array_equal(chosen.dask().compute(scheduler="sync"), store.read(expected))
    assert chosen.xarray()["clip"].values.tolist() == list(chosen.ids)
    assert len(store.sel(label="bus")) + len(store.sel(scene="tram")) == len(store.sel()) == CLIPS - 1
    assert store.sel(location=["oslo-1", "oslo-2"], device="a").clips.tolist() == [2]
    assert len(store.sel(scene="bus", device="b")) == 0
    assert store.sel(scene="bus", device="b").dask().compute(scheduler="sync").shape == (0, *store.layout.shape)


def test_what_there_is_not_is_refused_with_what_is_near(store: Store) -> None:
    with pytest.raises(StoreError, match="no scene 'buss': did you mean bus"):
        store.sel(scene="buss")
    with pytest.raises(StoreError, match="no property 'devise': did you mean device"):
        store.sel(devise="a")
    with pytest.raises(StoreError, match="no side of fold1 'tain': did you mean train"):
        store.sel(split="fold1", side="tain")
    with pytest.raises(StoreError, match="no split 'fold2'"):
        store.sel(split="fold2", side="train")
    with pytest.raises(StoreError, match="only one of both"):
        store.sel(side="train")


def test_torch_loaders_take_a_view(store: Store) -> None:
    view = store.sel(scene="tram")
    clips = view.torch()
    assert len(clips) == len(view)
    assert isinstance(clips[1], torch.Tensor)
    batches = list(DataLoader(clips, batch_size=2))
    np.testing.assert_array_equal(torch.cat(batches).numpy(), view.numpy())


def test_a_view_goes_to_another_process(store: Store) -> None:
    again = pickle.loads(pickle.dumps(store.sel(scene="tram").torch()))
    np.testing.assert_array_equal(again[0].numpy(), store.sel(scene="tram").numpy()[0])


@pytest.mark.parametrize(("module", "view"), [("dask.array", "dask"), ("xarray", "xarray")])
def test_a_package_that_is_not_there_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch, module: str, view: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StoreError, match=f"pip install 'ascfeat\\[{view}\\]'"):
        getattr(store, view)()
