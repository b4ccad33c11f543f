"""Every single flipped bit of a store is found by ``verify`` and healed by ``repair``, to the byte."""

import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ascfeat.datasets import open_dataset
from ascfeat.extract import extract
from ascfeat.plan import COMPUTES
from ascfeat.recipes import complete
from ascfeat.repair import repair
from ascfeat.store import Folder, open_store, open_to_verify, root_problems, verify
from ascfeat.store.chunks import chunk, shard
from ascschemas.problems import StoreError, StoreMismatch
from ascschemas.recipe import FeatureRecipe

FLIPS, GROUP = int(os.environ.get("ASC_FLIPS", "120")), 20
"""Bits flipped, and how many of them before the store is repaired; ASC_FLIPS=1000 has been done."""
LOG_MEL = {"kind": "log_mel", "n_fft": 256, "hop_length": 128, "spectrum": "power", "n_mels": 16, "floor": 1e-8}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven recordings of half a second in two classes, one of them truncated."""
    root = tmp_path_factory.mktemp("repair") / "noises"
    for i in range(11):
        path = root / ("low", "high")[i % 2] / f"{i:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(i).standard_normal(4000), 8000)
    torn = root / "low" / "10.wav"
    torn.write_bytes(torn.read_bytes()[:3000])
    return root


def made(dataset: Path, features: Path, **storage: object) -> Folder:
    """A sealed store of three units."""
    said = {"name": "small", "representation": LOG_MEL, "storage": {"clips_per_shard": 4, **storage}}
    recipe = complete(FeatureRecipe.model_validate(said), "small")
    place = extract(dataset, [recipe], features, device="cpu", threads=2)[0].place
    assert isinstance(place, Folder)
    return place


def files(place: Folder) -> dict[str, str]:
    return {k: hashlib.sha256(place.read(k)).hexdigest() for k in place.files()}


def problems(place: Folder) -> list[str]:
    """What `ascfeat verify` finds, also of a store that does not open."""
    try:
        return [str(p) for p in verify(open_to_verify(place))]
    except StoreError as error:
        return [error.what, *map(str, root_problems(place))]


def flipped(place: Folder, key: str, draw: np.random.Generator) -> bytes:
    """The bytes of a file with one bit flipped."""
    data = bytearray(place.read(key))
    data[int(draw.integers(len(data)))] ^= 1 << int(draw.integers(8))
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("storage", [{}, {"compress": True, "precision": "0.05dB"}])
def test_every_flipped_bit_is_found_and_healed(dataset: Path, tmp_path: Path, storage: dict[str, object]) -> None:
    place, opened, draw = made(dataset, tmp_path, **storage), open_dataset(dataset), np.random.default_rng(1)
    whole = files(place)
    weights = np.array([len(place.read(k)) for k in whole]) ** 0.5  # every bit has its turn, and every file
    for _ in range(FLIPS // GROUP // 2):
        keys = draw.choice(list(whole), min(GROUP, len(whole)), replace=False, p=weights / weights.sum()).tolist()
        broken = {key: flipped(place, key, draw) for key in keys}
        for key, data in broken.items():  # alone, so that it is this bit that is found
            kept = place.read(key)
            place.write(key, [data])
            assert problems(place), key
            assert place.read(key) == data, "verify writes nothing"
            place.write(key, [kept])
        if {"zarr.json", "ledger/root.json"} <= {*broken}:
            broken.pop("ledger/root.json")  # the root or its copy may be lost, not both
        for key, data in broken.items():
            place.write(key, [data])
        assert repair(place, opened, device="cpu", threads=2).same
        assert files(place) == whole
    assert not problems(place)


@pytest.mark.parametrize("key", ["zarr.json", "ledger/root.json"])
def test_the_root_is_restored_without_the_dataset(dataset: Path, tmp_path: Path, key: str) -> None:
    place = made(dataset, tmp_path)
    whole = files(place)
    for wrong in (b"", b"{", b"[1]", place.read(key).replace(b"small", b"smell", 1)):
        place.write(key, [wrong])
        assert problems(place)
        done = repair(place)
        assert done.files == (key,)
        assert files(place) == whole
    place.remove(key)
    assert problems(place)
    assert repair(place).files == (key,)
    assert files(place) == whole


def test_missing_is_told_from_zero(dataset: Path, tmp_path: Path) -> None:
    place = made(dataset, tmp_path)
    store = open_store(place)
    key = store.header.chunk("features", 1)
    place.remove(key)
    assert [p.kind for p in verify(open_store(place))] == ["missing"]
    zeros = np.zeros((1, *store.layout.shape), np.float32)
    place.write(key, shard([chunk(zeros)] * 4, 4))
    found = list(verify(open_store(place)))
    assert {p.kind for p in found} == {"different"}
    assert all("all zero" in p.detail for p in found)
    assert len(found) == 4


def test_a_store_without_any_description_is_beyond_repair(dataset: Path, tmp_path: Path) -> None:
    place, opened = made(dataset, tmp_path), open_dataset(dataset)
    whole = files(place)
    for key in whole:
        place.remove(key)
    place.write("ledger/root.json", [b"nothing"])
    with pytest.raises(StoreError, match=r"ledger/root\.json, is whole"):
        repair(place, opened)


def test_each_file_alone_is_made_again(dataset: Path, tmp_path: Path) -> None:
    place, opened = made(dataset, tmp_path), open_dataset(dataset)
    whole = files(place)
    for key in ("features/zarr.json", "label/c/0", "frequency/c/0", "usable/c/0", "mean/c/1/0/0", "ledger/record/c/2"):
        place.remove(key)
        assert problems(place), key
        assert repair(place, opened, device="cpu").same
        assert files(place) == whole, key


def test_refuses_what_it_cannot_heal(dataset: Path, tmp_path: Path) -> None:
    place = made(dataset, tmp_path / "f")
    place.remove("features/c/0/0/0/0")
    with pytest.raises(StoreError, match="only its recordings can heal"):
        repair(place)
    other = tmp_path / "noises"
    for name in ("low", "high"):
        (other / name).mkdir(parents=True)
        soundfile.write(other / name / "00.wav", np.zeros(4000), 8000)
    with pytest.raises(StoreMismatch, match="only in the store"):
        repair(place, open_dataset(other))
    assert problems(place), "and nothing was touched"


def test_units_are_not_mixed_from_two_versions_of_the_software(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = made(dataset, tmp_path)
    place.remove("features/c/0/0/0/0")
    monkeypatch.setitem(COMPUTES, "numba", ("numba", "scipy", "click"))
    with pytest.raises(StoreMismatch, match="software"):
        repair(place, open_dataset(dataset))


@pytest.mark.usefixtures("quick")
def test_the_command_heals_and_says_what_it_did(dataset: Path, tmp_path: Path) -> None:
    place = made(dataset, tmp_path)
    whole = files(place)
    key = "features/c/2/0/0/0"
    place.write(key, [place.read(key)[:-1]])
    place.write("zarr.json", [b"{"])
    words = ["ascfeat", "repair", str(place), "--dataset", str(dataset)]
    assert subprocess.run(["ascfeat", "verify", str(place)], capture_output=True, check=False).returncode == 1
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "1 file restored, 1 unit computed again" in run.stdout
    assert "It holds what it held when it was sealed." in run.stdout
    assert files(place) == whole
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "whole, nothing to repair" in again.stdout
    assert subprocess.run(["ascfeat", "verify", str(place)], capture_output=True, check=False).returncode == 0
