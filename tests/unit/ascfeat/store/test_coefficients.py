"""Coefficients are kept whole or not at all, are read by others' tools, and are refused when a byte is another."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

from ascfeat.store import Folder, coefficient_place, find_stores, read_coefficients, write_coefficients
from ascfeat.store.creating import root_document
from ascschemas.correction import Audit, Correction, DeviceAudit, Grid
from ascschemas.problems import StoreError

GRID = Grid(sample_rate=8000, n_fft=16, win_length=16, hop_length=4, window="hann", remove_dc=True)
NUMBERS = {d: tuple(np.random.default_rng(i).lognormal(size=9).tolist()) for i, d in enumerate("abc")}
CORRECTION = Correction.of(NUMBERS, reference="ab", method="mean", split="fold1", grid=GRID)
AUDIT = Audit(
    dataset="set",
    manifest="0" * 64,
    spectra="1" * 64,
    split="fold1",
    pairing="complete",
    anchor="a",
    moments=1,
    devices=tuple(
        DeviceAudit(device=d, clips=(f"{d}.wav",), unpaired=0, guarded=(), lowest=-1, highest=1) for d in "abc"
    ),
    without=(),
    from_test=0,
    beside_test=0,
    excluded=0,
    repeated=0,
    identity=0.0,
    held_out=None,
)


@pytest.fixture
def place(tmp_path) -> Folder:
    there = coefficient_place(tmp_path, "set", "ref_ab")
    assert write_coefficients(there, CORRECTION, AUDIT)
    return there


def test_what_is_written_is_read_and_written_once(place):
    assert read_coefficients(place) == (CORRECTION, AUDIT)
    assert not write_coefficients(place, CORRECTION, AUDIT)
    assert [p.name for p in place.path.parent.iterdir()] == ["coefficients+ref_ab.zarr"]  # nothing is left aside


def test_others_read_named_dimensions(place):
    found = xarray.open_zarr(place.path)["coefficients"]
    assert found.dims == ("device", "frequency")
    for device, numbers in NUMBERS.items():
        assert tuple(found.sel(device=device).values.tolist()) == numbers
    assert found.frequency.values.tolist() == list(GRID.frequencies())
    assert zarr.open_group(place.path, mode="r")["coefficients"].dtype == np.dtype("<f8")


def test_it_is_taken_for_no_store_of_features(place, tmp_path):
    assert find_stores(tmp_path) == []


def files(place: Folder) -> list[Path]:
    return sorted(p for p in place.path.rglob("*") if p.is_file())


def test_every_byte_of_every_file_is_checked(place, tmp_path):
    spoiled = Folder(tmp_path / "spoiled.zarr")
    for file in files(place):
        data = file.read_bytes()
        spots = {0, len(data) // 2, len(data) - 1}
        for other in [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in spots] + [b"", None]:
            shutil.rmtree(spoiled.path, ignore_errors=True)
            shutil.copytree(place.path, spoiled.path)
            target = spoiled.path / file.relative_to(place.path)
            target.unlink() if other is None else target.write_bytes(other)
            with pytest.raises(StoreError, match=r"damaged|no coefficients") as refused:
                read_coefficients(spoiled)
            assert "ascfeat correct" in refused.value.todo


def test_a_description_with_a_digest_of_its_own_is_not_enough(place):
    root = json.loads((place.path / "zarr.json").read_bytes())
    held = dict(root["attributes"])
    held.pop("ascfeat_sha256")
    other = Correction.of({**NUMBERS, "a": NUMBERS["b"]}, reference="ab", method="mean", split="fold1", grid=GRID)
    held["ascfeat_correction"]["correction"] = other.model_dump(mode="json")
    (place.path / "zarr.json").write_bytes(root_document(held, root["consolidated_metadata"]["metadata"]))
    with pytest.raises(StoreError, match="not the correction"):
        read_coefficients(place)
    (place.path / "zarr.json").write_bytes(json.dumps({**root, "attributes": held}).encode())
    with pytest.raises(StoreError, match="no coefficients that this version reads"):
        read_coefficients(place)


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "set").write_text("a file")
    with pytest.raises(StoreError, match="No coefficients can be kept"):
        write_coefficients(coefficient_place(tmp_path, "set", "x"), CORRECTION, AUDIT)
