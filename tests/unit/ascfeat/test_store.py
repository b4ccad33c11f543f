"""Does a store keep what it is given, refuse what is damaged, and open in other people's tools?"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

from ascfeat.extract import extract, run
from ascfeat.jobs import prepare
from ascfeat.lock import exclusive
from ascfeat.recipes import complete
from ascfeat.store import Store, Writer, create, find_stores, open_store, row, store_path, verify
from ascfeat.store.metadata import root_digest
from ascschemas.problems import StoreError
from ascschemas.recipe import FeatureRecipe


@pytest.fixture
def store(dataset, recipe, tmp_path) -> Store:
    """A sealed store of ten clips in three units."""
    tree, manifest = dataset
    jobs = prepare(tree, manifest, [recipe], tmp_path / "features", device="cpu")
    return open_store(run(tree, manifest, jobs, device="cpu", threads=2)[0].place.path)


def test_reads_any_clips_in_the_order_asked(store: Store) -> None:
    whole = np.asarray(zarr.open_group(store.place.path)["features"][:])
    for wanted in ([], [3], [9, 0, 0, 4, 5, 6], list(range(10))):
        np.testing.assert_array_equal(store.read(wanted), whole[wanted])
    out = np.empty((2, *store.layout.shape), np.float32)
    assert store.read([1, 2], out=out) is out
    np.testing.assert_array_equal(out, whole[1:3])


@pytest.mark.parametrize("clips", [[10], [-1]])
def test_refuses_positions_outside(store: Store, clips: list[int]) -> None:
    with pytest.raises(IndexError, match="10"):
        store.read(clips)


def test_carries_what_the_dataset_says(store: Store) -> None:
    assert store.ids == tuple(f"audio/{i:02}.wav" for i in range(10))
    assert store.labels == ("bus", "tram") * 5
    assert store.devices == ("a", "b") * 5
    assert store.locations[:4] == ("oslo-0", "oslo-1", "oslo-2", "oslo-3")
    assert store.segments[7] == "7"
    assert store.sides("fold1").tolist() == ["train"] * 5 + ["test"] * 5
    with pytest.raises(StoreError, match=r"no split 'fold2': did you mean fold1\?"):
        store.sides("fold2")


def test_statistics_are_those_of_the_values(store: Store) -> None:
    values = store.read(range(10)).astype(np.float64)
    mean, variance = store.statistics()
    np.testing.assert_allclose(mean, values.mean(-1), rtol=1e-12)
    np.testing.assert_allclose(variance, values.var(-1), rtol=1e-10)


@pytest.mark.filterwarnings("ignore:.*not a numpy ndarray, ExtensionArray.*")  # pandas on xarray's string index
def test_opens_in_xarray_with_names_and_coordinates(store: Store) -> None:
    with xarray.open_zarr(store.place.path, chunks=None) as found:
        features = found["features"]
        assert features.dims == ("clip", "channel", "frequency", "time")
        assert {"label", "device", "city", "location", "segment", "usable", "split_fold1"} <= set(features.coords)
        assert found["frequency"].attrs["units"] == "Hz"
        assert found["time"].attrs["units"] == "s"
        assert float(found["time"][1]) == pytest.approx(128 / 8000)
        np.testing.assert_array_equal(features.sel(clip="audio/03.wav").values, store.read([3])[0])
        buses = found.where(found["label"] == "bus", drop=True)
        assert buses.sizes["clip"] == 5


def test_holds_no_path_and_no_time_of_its_making(store: Store, tmp_path: Path) -> None:
    text = b"".join(p.read_bytes() for p in store.place.path.rglob("*") if p.is_file())
    assert str(tmp_path).encode() not in text


def test_an_unfinished_store_is_refused_with_the_command_that_finishes_it(dataset, recipe, tmp_path) -> None:
    tree, manifest = dataset
    (job,) = prepare(tree, manifest, [recipe], tmp_path / "features", device="cpu")
    job.place.parent.make()
    create(job.place.path, job.header, manifest)
    with pytest.raises(StoreError, match=r"0 of 3 units are done.*\n.*on set, --recipe small"):
        open_store(job.place.path)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no feature store at"):
        open_store(tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="its description does not hold"):
        open_store(tmp_path / "other.zarr")
    (tmp_path / "torn.zarr").mkdir()
    (tmp_path / "torn.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "gro')
    with pytest.raises(StoreError, match=r"zarr\.json does not read: Unterminated"):
        open_store(tmp_path / "torn.zarr")


def test_a_header_that_claims_more_is_refused(store: Store) -> None:
    path = store.place.path / "zarr.json"
    text = json.loads(path.read_text())
    text["attributes"]["ascfeat"]["note"] = "x"
    path.write_text(json.dumps(text))
    with pytest.raises(StoreError, match=r"its zarr\.json does not match its digest"):
        open_store(store.place.path)
    text["attributes"]["ascfeat_sha256"] = root_digest(text)
    path.write_text(json.dumps(text))
    with pytest.raises(StoreError, match="note"):
        open_store(store.place.path)


def test_a_flipped_bit_is_found(store: Store) -> None:
    shard = store.place.path / "features/c/1/0/0/0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match=r"audio/04\.wav does not read"):
        store.read([4])
    assert np.isfinite(store.read([0, 9])).all()


def test_a_missing_shard_is_not_silence(store: Store) -> None:
    (store.place.path / "features/c/1/0/0/0").unlink()
    with pytest.raises(StoreError, match=r"audio/04\.wav does not read: there is no file .*4 clips of this read"):
        store.read(range(10))


def test_one_writer_at_a_time(store: Store) -> None:
    with (
        exclusive(store.place.path),
        pytest.raises(StoreError, match=r"is being written by .*process"),
        exclusive(store.place.path),
    ):
        pass
    with exclusive(store.place.path):
        pass  # free again


def test_only_one_creator(store: Store, dataset) -> None:
    before = sorted(p.name for p in store.place.path.parent.iterdir())
    with pytest.raises(StoreError, match="Something is at"):
        create(store.place.path, store.header, dataset[1])
    with exclusive(store.place.path):
        Writer(store.place.path)  # sweeps what the second creator left
    assert sorted(p.name for p in store.place.path.parent.iterdir()) == sorted({*before, ".small.zarr.lock"})


def test_a_unit_that_reads_back_differently_is_not_sealed(dataset, recipe, tmp_path) -> None:
    tree, manifest = dataset
    (job,) = prepare(tree, manifest, [recipe], tmp_path / "features", device="cpu")
    run(tree, manifest, [job], device="cpu")
    whole = {p: p.read_bytes() for p in job.place.path.rglob("*") if p.is_file()}
    writer = Writer(job.place.path)
    writer.reopen([0])  # takes the seal away
    assert Store(job.place.path).seal is None
    shard = job.place.path / "features/c/1/0/0/0"
    shard.write_bytes(bytes(shard.stat().st_size))
    (again,) = prepare(tree, manifest, [recipe], tmp_path / "features", device="cpu")
    assert again.pending == (0,), "the size is right: only the ledger's digests can tell"
    with pytest.raises(StoreError, match="1 of 3 units do not read back"):
        run(tree, manifest, [again], device="cpu")
    run(tree, manifest, prepare(tree, manifest, [recipe], tmp_path / "features", device="cpu"), device="cpu")
    assert {p: p.read_bytes() for p in job.place.path.rglob("*") if p.is_file()} == whole


@pytest.mark.parametrize("lost", ["mean/c/1/0/0", "variance/c/2/0/0"])
def test_lost_statistics_keep_a_store_from_being_sealed(dataset, recipe, tmp_path, lost) -> None:
    tree, manifest = dataset
    (job,) = prepare(tree, manifest, [recipe], tmp_path / "features", device="cpu")
    run(tree, manifest, [job], device="cpu")
    whole = {p: p.read_bytes() for p in job.place.path.rglob("*") if p.is_file()}
    Writer(job.place.path).reopen([0])
    (job.place.path / lost).unlink()
    again = prepare(tree, manifest, [recipe], tmp_path / "features", device="cpu")
    with pytest.raises(StoreError, match="1 of 3 units do not read back"):
        run(tree, manifest, again, device="cpu")
    run(tree, manifest, prepare(tree, manifest, [recipe], tmp_path / "features", device="cpu"), device="cpu")
    assert {p: p.read_bytes() for p in job.place.path.rglob("*") if p.is_file()} == whole


@pytest.mark.parametrize(("change", "found"), [
    (lambda v: v.astype(np.float64), r"float64 \(1, 16, 63\)"),
    (lambda v: v[..., :-1], r"float32 \(1, 16, 62\)"),
])  # fmt: skip
def test_values_of_another_form_are_never_written(dataset, recipe, tmp_path, monkeypatch, change, found) -> None:
    """What a plug-in's mistake would be; written, such bytes would read as other numbers."""
    tree, manifest = dataset
    made = row
    monkeypatch.setattr(
        "ascfeat.units.row", lambda record, values, *more, **named: made(record, change(values), *more, **named)
    )
    (job,) = prepare(tree, manifest, [recipe], tmp_path / "features", device="cpu")
    with pytest.raises(StoreError, match=rf"float32 \(1, 16, 63\) +found {found}"):
        run(tree, manifest, [job], device="cpu")
    assert not list(job.place.path.glob("features/c/*"))


def test_stores_are_found_by_recipe(store: Store, tmp_path: Path) -> None:
    features = tmp_path / "features"
    assert find_stores(features) == [store_path(features, "set", "small")] == find_stores(features, "small")
    assert find_stores(features, "other") == []
    shutil.copytree(store.place.path, features / "copy" / "small.zarr")
    np.testing.assert_array_equal(open_store(features / "copy/small.zarr").read([2]), store.read([2]))


def test_the_python_call_does_it_all(dataset, recipe, tmp_path, monkeypatch) -> None:
    tree, manifest = dataset
    monkeypatch.setattr("ascfeat.extract.open_dataset", lambda folder, kind: (tree, manifest))
    (outcome,) = extract(tree.root, [recipe], tmp_path / "f", device="cpu")
    assert (outcome.computed, outcome.excluded) == (10, {})
    assert extract(tree.root, [recipe], tmp_path / "f", device="cpu")[0].computed == 0


@pytest.mark.parametrize("name", ["clip", "label", "device", "location", "split_fold1", "usable", "mean", "variance"])
@pytest.mark.parametrize("how", ["removed", "flipped"])
def test_damage_to_any_array_is_one_clear_error(store: Store, name: str, how: str) -> None:
    """A lost label reads as the empty string, a lost mean as NaN, and neither may pass for what was stored."""
    chunk = next(p for p in (store.place.path / name / "c").rglob("*") if p.is_file())
    if how == "removed":
        chunk.unlink()
    else:
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 1
        chunk.write_bytes(data)
    opened = open_store(store.place.path)
    with pytest.raises(StoreError, match="cannot be used"):
        _ = opened.labels, opened.usable, opened.statistics()


def test_one_nan_that_somebody_wrote_into_a_usable_clip_is_found_by_verify(store: Store) -> None:
    zarr.open_group(store.place.path, mode="r+")["features"][3, 0, 5, 7] = np.nan
    assert [p.where for p in verify(open_store(store.place))] == ["audio/03.wav"]


@pytest.mark.filterwarnings("ignore:.*not a numpy ndarray, ExtensionArray.*")  # pandas on xarray's string index
def test_without_time_a_value_is_its_own_mean_and_varies_by_nothing(dataset, tmp_path) -> None:
    tree, manifest = dataset
    spectrum = {"kind": "mean_spectrum", "n_fft": 256, "hop_length": 128}
    recipe = FeatureRecipe.model_validate({"name": "still", "representation": spectrum})
    recipe = recipe.model_copy(update={"storage": recipe.storage.model_copy(update={"clips_per_shard": 4})})
    (tree.root / "audio/03.wav").write_bytes(b"")
    jobs = prepare(tree, manifest, [complete(recipe, "still")], tmp_path / "features", device="cpu")
    store = open_store(run(tree, manifest, jobs, device="cpu")[0].place.path)
    assert store.layout.shape == store.layout.band_shape == (1, 129)
    mean, variance = store.statistics()
    np.testing.assert_array_equal(mean, store.read(range(10)).astype(np.float64))
    np.testing.assert_array_equal(variance[store.usable], 0)
    assert np.isnan(mean[3]).all()
    assert np.isnan(variance[3]).all()
    size = sum(p.stat().st_size for p in store.place.path.rglob("*") if p.is_file())
    assert size / 2 < jobs[0].bytes < 2 * size
    with xarray.open_zarr(store.place.path, chunks=None) as found:
        assert found["features"].dims == found["mean"].dims == ("clip", "channel", "frequency")
        assert found["variance"].attrs["long_name"] == "variance of features"
    (store.place.path / "features/c/1/0/0").unlink()
    with pytest.raises(StoreError, match=r"audio/04\.wav does not read: there is no file features/c/1/0/0"):
        open_store(store.place.path).read(range(10))
    (store.place.path / "mean/c/1/0/0").unlink()
    with pytest.raises(StoreError, match="mean is missing: there is no file mean/c/1/0/0"):
        open_store(store.place.path).statistics()
