"""The thin reader and plain zarr give the same values on every codec that the store can write."""

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

from ascfeat.store import Store, create
from ascfeat.store.chunks import checked_shard, checksum, shard
from ascfeat.testing.stores import (
    CLIPS,
    EXCLUDED,
    LN,
    WAYS,
    header_of,
    log_layout,
    make_store,
    manifest_of,
    values_for,
    wave_layout,
)
from ascschemas.layout import Axis
from ascschemas.problems import StoreError

ORDERS = [[], [3], [10, 0, 0, 4, 5, 1], list(range(CLIPS)), list(range(CLIPS))[::-1]]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def original(way: str) -> np.ndarray:
    bits = WAYS[way][1]
    values = values_for(wave_layout() if bits else log_layout(), bits)
    values[EXCLUDED] = np.nan
    return values


def test_our_reader_and_plain_zarr_hold_the_same_numbers(tmp_path: Path, way: str) -> None:
    store = make_store(tmp_path / "s.zarr", way)
    plain = np.asarray(zarr.open_array(tmp_path / "s.zarr" / "features", mode="r")[:])
    assert str(plain.dtype) == store.header.encoding.dtype
    for wanted in ORDERS:
        out = np.empty((len(wanted), *store.layout.shape), plain.dtype)
        assert store.read(wanted, out=out) is out
        np.testing.assert_array_equal(out, plain[wanted])


def test_values_are_those_that_were_computed_within_the_stated_error(tmp_path: Path, way: str) -> None:
    store = make_store(tmp_path / "s.zarr", way)
    expected = original(way)
    for wanted in ORDERS:
        found = store.read(wanted)
        assert found.dtype == np.float32
        off = np.abs(found - expected[wanted]) * LN
        if store.header.encoding.tolerance is None:
            np.testing.assert_array_equal(found, expected[wanted])
        else:
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected[wanted]))
            assert np.nanmax(off, initial=0) <= store.header.encoding.tolerance * 1.001


def test_xarray_decodes_the_same_values_by_itself(tmp_path: Path, way: str) -> None:
    store = make_store(tmp_path / "s.zarr", way)
    with xarray.open_zarr(tmp_path / "s.zarr", chunks=None) as found:
        values = found["features"].to_numpy()
    usable = store.usable
    np.testing.assert_allclose(values[usable], store.read(range(CLIPS))[usable], rtol=0, atol=1e-6)
    if way.startswith("int16"):  # every number is a sample: that a clip holds none stands in `usable`
        assert (values[EXCLUDED] == -1).all()
    else:
        assert np.isnan(values[EXCLUDED]).all()


def test_the_seal_says_how_far_the_worst_value_is_off(tmp_path: Path, way: str) -> None:
    store = make_store(tmp_path / "s.zarr", way)
    assert store.seal is not None
    if store.header.encoding.tolerance is None:
        assert store.seal.error is None
        return
    off = np.nanmax(np.abs(store.read(range(CLIPS)).astype(np.float64) - original(way))) * LN
    assert store.seal.error == pytest.approx(off, rel=0.01)
    assert 0 < store.seal.error <= store.header.encoding.tolerance * 1.001


def test_statistics_are_those_of_the_stored_values(tmp_path: Path, way: str) -> None:
    store = make_store(tmp_path / "s.zarr", way)
    values = store.read(range(CLIPS)).astype(np.float64)
    mean, variance = store.statistics()
    np.testing.assert_allclose(mean, values.mean(-1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(variance, values.var(-1), rtol=1e-9, atol=1e-12)


def test_compressed_bytes_are_those_of_zarr(tmp_path: Path, way: str) -> None:
    store = make_store(tmp_path / "s.zarr", way)
    key = store.header.chunk("features", 0)
    ours = store.place.read(key)
    array = zarr.open_array(tmp_path / "s.zarr" / "features", mode="r+")
    array.with_config({"write_empty_chunks": True})[:4] = np.asarray(array[:4])
    theirs = store.place.read(key)
    assert len(ours) == len(theirs)
    assert {ours[i : i + 64] for i in range(0, 256, 64)} == {theirs[i : i + 64] for i in range(0, 256, 64)}
    out = np.empty((4, *store.layout.shape), array.dtype)
    np.testing.assert_array_equal(Store(store.place).read(range(4), out=out), np.asarray(array[:4]))


@pytest.mark.parametrize("out", [np.empty((2, 2, 5, 7), np.float64), np.empty((3, 2, 5, 7), np.float32)])
def test_refuses_memory_of_another_form(tmp_path: Path, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="these clips are float32"):
        make_store(tmp_path / "s.zarr").read([0, 1], out=out)


def test_a_shard_that_was_replaced_is_read_by_its_new_index(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", "float32-lz4")  # clip 6 of the second unit is NaN, and so much smaller
    before = store.read([4, 5, 6, 7])
    key = store.header.chunk("features", 1)
    held = list(checked_shard(store.place.read(key), 4, 4))[::-1]
    store.place.write(key, shard([(data, checksum(data)) for data in held], 4))
    np.testing.assert_array_equal(store.read([7, 6, 5, 4]), before)


def test_missing_is_never_silent(tmp_path: Path, way: str) -> None:
    store = make_store(tmp_path / "s.zarr", way)
    store.place.remove(store.header.chunk("features", 1))
    with pytest.raises(StoreError, match="there is no file features/c/1/0"):
        store.read([0, 5])
    np.testing.assert_array_equal(store.read([0]).shape, (1, *store.layout.shape))


def test_every_flipped_bit_of_a_shard_is_seen(tmp_path: Path, way: str) -> None:
    store = make_store(tmp_path / "s.zarr", way)
    key = store.header.chunk("features", 2)
    whole = store.place.read(key)
    for at in np.random.default_rng(1).integers(0, len(whole), 40).tolist():
        store.place.write(key, [whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :]])
        with pytest.raises(StoreError, match="does not read"):
            Store(store.place).read([8, 9, 10])


@pytest.mark.parametrize("length", [0, 3, 60, 100, 300])
def test_a_truncated_shard_is_seen(tmp_path: Path, length: int) -> None:
    store = make_store(tmp_path / "s.zarr")
    store.read([0])
    key = store.header.chunk("features", 0)
    store.place.write(key, [store.place.read(key)[:length]])
    with pytest.raises(StoreError, match="does not read"):
        store.read([1])


def test_many_threads_read_one_store(tmp_path: Path, way: str) -> None:
    store, expected, wrong = make_store(tmp_path / "s.zarr", way), [], []
    expected = store.read(range(CLIPS))

    def work(seed: int) -> None:
        draw = np.random.default_rng(seed)
        for _ in range(20):
            wanted = draw.integers(0, CLIPS, 9)
            if not np.array_equal(store.read(wanted), expected[wanted], equal_nan=True):
                wrong.append(wanted)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


def test_a_store_goes_to_another_process_by_its_place(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr")
    again = Store(pickle.loads(pickle.dumps(store.place)))
    np.testing.assert_array_equal(again.read([1, 2]), store.read([1, 2]))


def test_coordinates_that_are_zero_are_written(tmp_path: Path) -> None:
    layout = log_layout()
    layout = layout.model_copy(update={"axes": (Axis(name="channel", size=1), *layout.axes[1:])})
    manifest = manifest_of()
    header = header_of(layout, manifest, {})
    create(tmp_path / "s.zarr", header, manifest)
    assert (tmp_path / "s.zarr/channel/c/0").read_bytes()[:8] == bytes(8)
