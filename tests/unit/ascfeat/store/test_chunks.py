"""Chunk files written without zarr are those that zarr reads, and what is wrong with one is seen."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec

from ascfeat.store.chunks import is_whole_chunk, is_whole_shard, write_chunk, write_shard


def features(path: Path, *, clips: int = 5, shape: tuple[int, ...] = (1, 3, 4)) -> zarr.Array:
    return zarr.create_array(
        path, shape=(2 * clips, *shape), chunks=(1, *shape), shards=(clips, *shape), dtype="float32",
        fill_value=np.nan, compressors=Crc32cCodec(),
    )  # fmt: skip


def values(clips: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((clips, 1, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("clips", [1, 4, 5])
def test_zarr_reads_a_shard(tmp_path: Path, clips: int) -> None:
    array, x = features(tmp_path), values(clips)
    write_shard(tmp_path / "c/1/0/0/0", [v[None] for v in x], 5)
    found = np.asarray(array[5:])
    np.testing.assert_array_equal(found[:clips], x)
    assert np.isnan(found[clips:]).all()
    assert np.isnan(np.asarray(array[:5])).all()


def test_our_check_reads_a_shard_of_zarrs(tmp_path: Path) -> None:
    features(tmp_path)[:5] = values()
    assert is_whole_shard(tmp_path / "c/0/0/0/0", 5, 5)


def test_a_chunk_is_to_the_byte_that_of_zarr(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((5, 2))
    array = zarr.create_array(tmp_path, shape=(10, 2), chunks=(5, 2), dtype="float64", compressors=Crc32cCodec())
    array[:5] = x
    write_chunk(tmp_path / "c/1/0", x)
    assert (tmp_path / "c/0/0").read_bytes() == (tmp_path / "c/1/0").read_bytes()
    assert is_whole_chunk(tmp_path / "c/1/0")
    (tmp_path / "c/1/0").write_bytes((tmp_path / "c/1/0").read_bytes()[:-1])
    assert not is_whole_chunk(tmp_path / "c/1/0")
    assert not is_whole_chunk(tmp_path / "c/2/0")


def test_big_endian_values_are_turned(tmp_path: Path) -> None:
    array, x = features(tmp_path), values()
    write_shard(tmp_path / "c/0/0/0/0", [v[None] for v in x.astype(">f4")], 5)
    np.testing.assert_array_equal(np.asarray(array[:5]), x)


def test_every_flipped_bit_and_every_missing_end_is_seen(tmp_path: Path) -> None:
    shard = tmp_path / "shard"
    write_shard(shard, [v[None] for v in values(2)], 3)
    whole = shard.read_bytes()
    assert is_whole_shard(shard, 2, 3)
    for at in range(len(whole)):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        assert not is_whole_shard(shard, 2, 3), at
        shard.write_bytes(whole[:at])
        assert not is_whole_shard(shard, 2, 3), at


def test_a_chunk_that_is_not_in_the_shard_is_seen(tmp_path: Path) -> None:
    write_shard(tmp_path / "shard", [v[None] for v in values(2)], 3)
    assert not is_whole_shard(tmp_path / "shard", 3, 3)
    assert not is_whole_shard(tmp_path / "none", 1, 3)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = tmp_path / "shard"
    write_shard(shard, [v[None] for v in values(2)], 2)
    before = shard.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ascfeat.store.chunks.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_shard(shard, [v[None] + 1 for v in values(2)], 2)
    assert shard.read_bytes() == before
