"""Is a store that somebody made to harm its reader refused, in words, at once, whatever is asked of it?"""

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ascfeat.store import Store, chunks, open_store, verify
from ascfeat.store.creating import CHECK, document, root_digest
from ascfeat.testing.stores import make_store
from ascschemas.problems import StoreError

MEMORY = 16 << 20
"""Bytes that a refusal may take: four times the largest root."""


@pytest.fixture(scope="module", params=["float32", "0.05dB-lz4"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "x.zarr"
    make_store(path, request.param)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "made" / "x.zarr")


def change(path: Path, how: Callable[[dict[str, Any]], object], *, sealed: bool = True) -> None:
    """Change the root's attributes, with digests that match again."""
    root = json.loads((path / "zarr.json").read_bytes())
    how(root["attributes"])
    if not sealed:
        del root["attributes"]["ascfeat_seal"]
    root["attributes"][CHECK] = root_digest(root)
    for key in ("zarr.json", "ledger/root.json"):
        (path / key).write_bytes(document(root))


def everything(path: Path) -> list[str]:
    """Ask a store for all that it has; what verify says of it."""
    store = open_store(path)
    said = [str(problem) for problem in verify(store)]
    store.read(range(store.header.clips)), store.statistics(), store.usable, store.ids, store.excluded()
    return said


def refused(path: Path, why: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match=why) as caught:
            everything(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    assert caught.value.todo


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(("at", "count", "why"), [
    (("clips",), 2**40, "1,099,511,627,776 clips"),
    (("clips",), 10**7, r"10,000,000 clips, and there is no file clip/c/152"),
    (("clips_per_unit",), 2**40, "clips of one unit"),
    (("layout", "axes", 2, "size"), 2**40, "points of an axis"),
    (("layout", "axes", 2, "size"), 2**25, "points of time, and time/c/0 does not hold so many"),
])  # fmt: skip
def test_absurd_extents(path: Path, at: tuple, count: int, why: str, sealed: bool) -> None:
    def put(attributes: dict[str, Any]) -> None:
        box = attributes["ascfeat"]
        for key in at[:-1]:
            box = box[key]
        box[at[-1]] = count

    change(path, put, sealed=sealed)
    refused(path, why)


@pytest.mark.parametrize(("data", "why"), [
    (b"[" * 100_000, "nested too deep"),
    (b'{"a":' * 100_000, "nested too deep"),
    (b'{"attributes": {}, "attributes": {}}', "a key stands in it twice"),
    (b'{"attributes": NaN}', "NaN is no JSON"),
    (b" " * (5 << 20), "no store has more than 4,194,304"),
    (b"{}", "not that of a feature store"),
])  # fmt: skip
def test_roots_that_are_none(path: Path, data: bytes, why: str) -> None:
    (path / "zarr.json").write_bytes(data)
    refused(path, why)


def shard_of(path: Path) -> Path:
    return next((path / "features" / "c" / "1").rglob("0/0/0"))


@pytest.mark.parametrize(
    "name", ["zarr.json", "clip/c/0", "usable/c/0", "mean/c/1/0/0", "ledger/record/c/1", "features"]
)
@pytest.mark.parametrize("how", ["link", "inside", "pipe", "enormous"])
def test_files_that_are_links_or_pipes_or_endless(path: Path, tmp_path: Path, name: str, how: str) -> None:
    file = shard_of(path) if name == "features" else path / name
    kept = tmp_path / "kept"
    if how == "enormous":
        with file.open("r+b") as opened:
            opened.truncate(1 << 40)  # sparse: it takes no disk
    else:
        file.rename(kept)
        if how == "link":
            file.symlink_to(kept)
        elif how == "inside":
            (path / "kept").write_bytes(kept.read_bytes())
            file.symlink_to(path / "kept")
        else:
            os.mkfifo(file)
    tracemalloc.start()
    try:
        try:
            said = everything(path)
        except StoreError as error:
            said = [str(error)]
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    if not (how == "enormous" and name == "features"):  # its index stands at its end: clips are read in place
        words = "a link", "a pipe", "is larger than", "no store has"
        assert any(word in line for line in said for word in words), said


def test_a_linked_folder_inside_a_store(path: Path, tmp_path: Path) -> None:
    (path / "features").rename(tmp_path / "elsewhere")
    (path / "features").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="features/c/0/0/0/0 leads through a link"):
        open_store(path).read([0])
    assert [(p.where, p.detail) for p in verify(open_store(path))] == [
        ("features", "it is a link, and a store holds files and folders only")
    ]


def test_a_store_that_is_reached_by_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "linked.zarr").symlink_to(path)
    assert everything(tmp_path / "linked.zarr") == []


def test_an_index_that_claims_more_than_a_clip(path: Path) -> None:
    """A chunk of another size than the clip's, or overlapping ones, take no more memory than a clip."""
    file = shard_of(path)
    data, slots = file.read_bytes(), 4
    size = chunks.index_size(slots)
    entries = [(0, len(data) - size), (0, 2**63), (2**63, 2**63), (2**64 - 1, 5)]
    for entry in entries:
        index = b"".join(n.to_bytes(8, "little") for n in entry * slots)
        file.write_bytes(data[:-size] + index + chunks.checksum(index))
        with pytest.raises(StoreError, match="does not read"):
            Store(path).read([4, 5])


def test_records_that_speak_of_something_else(path: Path) -> None:
    for text in ("{}", "[]", "null", '{"unit": 1, "clips": []}', "{" * 5000):
        held = b"".join(bytes(part) for part in chunks.text_chunk(text))
        (path / "ledger/record/c/1").write_bytes(held)
        said = [str(problem) for problem in verify(open_store(path))]
        assert any("ledger record 1" in line for line in said)
        with pytest.raises(StoreError, match="ledger record 1"):
            open_store(path).excluded()
