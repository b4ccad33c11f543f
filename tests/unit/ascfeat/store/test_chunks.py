"""Chunk files written without zarr are those that zarr reads, to the byte, and what is wrong with one is seen."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from ascfeat.store.chunks import (
    Damaged,
    Missing,
    checked_shard,
    checksum,
    chunk,
    content,
    shard,
    text_chunk,
    text_of,
    texts_of,
    unpack,
)

LZ4 = BloscCodec(typesize=4, cname="lz4", clevel=5, shuffle="bitshuffle", blocksize=0)


def features(path: Path, *, compress: bool = False) -> zarr.Array:
    return zarr.create_array(
        path, shape=(10, 1, 3, 4), chunks=(1, 1, 3, 4), shards=(5, 1, 3, 4), dtype="float32", fill_value=np.nan,
        compressors=(LZ4, Crc32cCodec()) if compress else Crc32cCodec(),
    )  # fmt: skip


def values(clips: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((clips, 1, 3, 4)).astype(np.float32)


def write(path: Path, x: np.ndarray, slots: int = 5, *, compress: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes(p) for p in shard([chunk(v, compress=compress) for v in x], slots)))


def joined(pieces: tuple) -> bytes:
    return b"".join(bytes(p) for p in pieces)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("clips", [1, 4, 5])
def test_zarr_reads_a_shard(tmp_path: Path, clips: int, compress: bool) -> None:
    array, x = features(tmp_path, compress=compress), values(clips)
    write(tmp_path / "c/1/0/0/0", x, compress=compress)
    found = np.asarray(array[5:])
    np.testing.assert_array_equal(found[:clips], x)
    assert np.isnan(found[clips:]).all()
    assert np.isnan(np.asarray(array[:5])).all()


@pytest.mark.parametrize("compress", [False, True])
def test_the_chunks_of_a_shard_are_to_the_byte_those_of_zarr(tmp_path: Path, compress: bool) -> None:
    features(tmp_path, compress=compress)[:5] = values()
    data = (tmp_path / "c/0/0/0/0").read_bytes()
    expected = [content(joined(chunk(v, compress=compress))) for v in values()]
    assert list(checked_shard(data, 5, 5)) == expected


def test_a_chunk_is_to_the_byte_that_of_zarr(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((5, 2))
    array = zarr.create_array(tmp_path, shape=(10, 2), chunks=(5, 2), dtype="float64", compressors=Crc32cCodec())
    array[:5] = x
    assert (tmp_path / "c/0/0").read_bytes() == joined(chunk(x))


@pytest.mark.filterwarnings("ignore:The data type.*does not have a Zarr V3 spec")
@pytest.mark.parametrize("text", ["", "{}", "Zürich – a", "x" * 70_000])
def test_a_string_is_to_the_byte_that_of_zarr(tmp_path: Path, text: str) -> None:
    array = zarr.create_array(
        tmp_path, shape=(2,), chunks=(1,), dtype="string", fill_value="z", compressors=Crc32cCodec()
    )
    array[0] = text
    data = (tmp_path / "c/0").read_bytes()
    assert data == joined(text_chunk(text))
    assert text_of(data) == text
    assert texts_of(data, 1) == [text]
    with pytest.raises(Damaged, match="2 strings"):
        texts_of(data, 2)


def test_big_endian_values_are_turned(tmp_path: Path) -> None:
    array, x = features(tmp_path), values()
    write(tmp_path / "c/0/0/0/0", x.astype(">f4"))
    np.testing.assert_array_equal(np.asarray(array[:5]), x)


@pytest.mark.parametrize("compress", [False, True])
def test_every_flipped_bit_and_every_missing_end_is_seen(tmp_path: Path, compress: bool) -> None:
    write(tmp_path / "shard", values(2), 3, compress=compress)
    whole = (tmp_path / "shard").read_bytes()
    assert len(list(checked_shard(whole, 2, 3))) == 2
    for at in range(len(whole)):
        for wrong in (whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :], whole[:at]):
            with pytest.raises(Damaged):
                list(checked_shard(wrong, 2, 3))


def test_a_chunk_that_is_not_in_the_shard_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "shard", values(2), 3)
    with pytest.raises(Missing):
        list(checked_shard((tmp_path / "shard").read_bytes(), 3, 3))


@pytest.mark.parametrize("claimed", [0, 47, 49, 2**31, 2**32 - 1])
def test_a_decompression_bomb_is_refused_by_its_header(claimed: int) -> None:
    packed = bytearray(joined(chunk(values(1), compress=True))[:-4])
    packed[4:8] = claimed.to_bytes(4, "little")
    with pytest.raises(Damaged, match=f"decompresses to {claimed} bytes, and 48 were stored"):
        unpack(np.frombuffer(bytes(packed), np.uint8), np.empty((1, 3, 4), np.float32))


def test_bytes_that_are_no_blosc_are_refused() -> None:
    for data in (b"", b"x" * 15, b"x" * 4 + (48).to_bytes(4, "little") + b"x" * 30):
        with pytest.raises(Damaged):
            unpack(np.frombuffer(data, np.uint8), np.empty((1, 3, 4), np.float32))


def test_a_checksum_is_that_of_rfc_3720() -> None:
    assert checksum(bytes(32)) == bytes.fromhex("aa36918a")
    assert checksum(b"\xff" * 32) == bytes.fromhex("43aba862")
