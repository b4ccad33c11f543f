"""Are samples that are taken from a file's bytes those that libsndfile gives, bit for bit?"""

import io
import itertools
import struct

import numpy as np
import pytest
import soundfile

from ascfeat import pcm
from ascfeat.audio import _plain, decode

WIDTH = {"PCM_16": 2, "PCM_24": 3}


def integers(subtype: str, frames: int, channels: int) -> np.ndarray:
    """Every extreme and noise, as 32-bit integers whose upper bits a file keeps."""
    bits = 8 * WIDTH[subtype]
    ends = [0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), 255, 256, -256, 2 ** (bits - 2)]
    noise = np.random.default_rng(0).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), frames * channels)
    return (np.resize([*ends, *noise], (frames, channels)) << (32 - bits)).astype(np.int32)


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "AIFF", "W64"])
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("subtype", WIDTH)
def test_equal_libsndfile(subtype: str, channels: int, container: str) -> None:
    for frames in (1, 2, 17, 1000):
        file = io.BytesIO()
        soundfile.write(file, integers(subtype, frames, channels), 8_000, subtype=subtype, format=container)
        expected, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32", always_2d=True)
        found = decode(file.getvalue(), "x").samples
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected.T)


@pytest.mark.parametrize("subtype", WIDTH)
def test_equal_their_twin(subtype: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, integers(subtype, 501, 2), 8_000, subtype=subtype, format="WAV")
    data = file.getvalue()
    place = (data, data.index(b"data") + 8, WIDTH[subtype], 2, 501)
    np.testing.assert_array_equal(pcm.samples(*place), pcm.samples_numpy(*place))


def test_chunks_before_and_after_the_samples_are_passed_over() -> None:
    body = integers("PCM_16", 100, 2).astype("<i4").view("<i2")[:, 1::2].tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 8_000, 32_000, 4, 16)
    note = b"LIST" + struct.pack("<I", 7) + b"data\0\0x" + b"\0"  # of odd length, and named like samples inside
    chunks = form + note + b"data" + struct.pack("<I", len(body)) + body + note
    data = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    found = decode(data, "x").samples
    np.testing.assert_array_equal(found, expected.T)
    np.testing.assert_array_equal(found.T, np.frombuffer(body, "<i2").reshape(-1, 2) / np.float32(2**15))


def test_a_streamed_header_and_big_endian_files_still_read() -> None:
    file = io.BytesIO()
    soundfile.write(file, integers("PCM_24", 50, 1), 8_000, subtype="PCM_24", format="WAV")
    data = bytearray(file.getvalue())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    streamed = bytes(data)
    expected, _ = soundfile.read(io.BytesIO(streamed), dtype="float32", always_2d=True)
    np.testing.assert_array_equal(decode(streamed, "x").samples, expected.T)
    big = io.BytesIO()
    soundfile.write(big, integers("PCM_24", 50, 1), 8_000, subtype="PCM_24", format="WAV", endian="BIG")
    expected, _ = soundfile.read(io.BytesIO(big.getvalue()), dtype="float32", always_2d=True)
    np.testing.assert_array_equal(decode(big.getvalue(), "x").samples, expected.T)


@pytest.mark.parametrize("subtype", WIDTH)
def test_whatever_byte_of_a_header_is_changed_the_samples_are_libsndfiles(subtype: str) -> None:
    """A header that is taken for a plain one is one to libsndfile too; of all others, libsndfile decides."""
    file = io.BytesIO()
    soundfile.write(file, integers(subtype, 60, 2), 8_000, subtype=subtype, format="WAV")
    whole, taken = file.getvalue(), 0
    for at, value in itertools.product(range(whole.index(b"data") + 8), range(256)):
        data = whole[:at] + bytes([value]) + whole[at + 1 :]
        found = _plain(data)
        if found is None:
            continue
        taken += 1
        expected, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        assert found.sample_rate == rate
        np.testing.assert_array_equal(found.samples, expected.T)
    assert taken > 500


def test_a_plain_file_is_not_libsndfiles_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    soundfile.write(file, integers("PCM_24", 60, 1), 8_000, subtype="PCM_24", format="WAV")
    monkeypatch.setattr(soundfile, "SoundFile", None)
    assert decode(file.getvalue(), "x").samples.shape == (1, 60)
