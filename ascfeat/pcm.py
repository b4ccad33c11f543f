"""Samples of uncompressed WAV files: to the bit those of libsndfile, in a tenth of its time.

libsndfile took 5 ns a sample of 24 bits, a quarter of an extraction of log-mels, and would bound one on a GPU; merely
to open a file in memory takes it as long as all sums over its samples. What is unusual about a file is still
libsndfile's to judge, and so is every other kind of file.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ascfeat.compiling import compiler

Samples = npt.NDArray[np.float32]

compiled = compiler(__file__)

WIDTHS = {"PCM_16": 2, "PCM_24": 3}
"""libsndfile's names of the number formats that are read here -> bytes of a sample."""
PCM = 1
"""Format tag of integers."""


class Plain(NamedTuple):
    """What the header of a WAV file says that holds a format, samples, and nothing between."""

    width: int
    """Bytes of a sample, 2 or 3; float32 holds either exactly."""
    channels: int
    frames: int
    rate: int
    """Samples per second."""


def plain(data: bytes, start: int, size: int) -> Plain | None:
    """What a RIFF WAVE file says of its samples; None unless integers of 16 or 24 bits follow right after their format.

    Parameters
    ----------
    data : bytes
        A whole file.
    start, size : int
        Where its samples begin, and how many bytes of them it declares.
    """
    if start < 44 or data[12:16] != b"fmt " or not 0 < size <= len(data) - start:
        return None
    length, tag, channels, rate, per_second, block, bits = struct.unpack("<IHHIIHH", data[16:36])
    width = bits // 8
    usual = length in (16, 18, 40) and start == 28 + length and tag == PCM and bits in (16, 24)
    consistent = channels and block == channels * width and per_second == rate * block and size % block == 0
    if not (usual and consistent):
        return None
    return Plain(width, channels, size // block, rate)


def samples(data: bytes, start: int, width: int, channels: int, frames: int) -> Samples:
    """Interleaved little-endian integers as ``(channel, frame)``, float32, full scale at 1.

    Parameters
    ----------
    data : bytes
        A whole file.
    start : int
        Where its samples begin.
    width : int
        Bytes of a sample, 2 or 3; float32 holds either exactly.
    channels, frames : int
        How many samples there are.
    """
    out = np.empty((channels, frames), np.float32)
    raw = np.frombuffer(data, np.uint8, channels * frames * width, start)
    (_from_16_bits if width == 2 else _from_24_bits)(raw, out)
    return out


def samples_numpy(data: bytes, start: int, width: int, channels: int, frames: int) -> Samples:
    """The NumPy twin: the bytes of a sample at the upper end of a 32-bit integer."""
    raw = np.frombuffer(data, np.uint8, channels * frames * width, start).reshape(-1, width)
    words = np.zeros((len(raw), 4), np.uint8)
    words[:, 4 - width :] = raw
    scaled = words.view("<i4")[:, 0] * 2.0**-31
    return np.ascontiguousarray(scaled.reshape(frames, channels).T, dtype=np.float32)


@compiled
def _from_24_bits(raw, out):  # pragma: no cover
    channels, frames = out.shape
    for c in range(channels):
        for i in range(frames):
            j = 3 * (i * channels + c)
            low, middle, high = np.uint32(raw[j]), np.uint32(raw[j + 1]), np.uint32(raw[j + 2])
            word = (low << np.uint32(8)) | (middle << np.uint32(16)) | (high << np.uint32(24))
            out[c, i] = np.float32(np.int32(word)) * np.float32(2.0**-31)


@compiled
def _from_16_bits(raw, out):  # pragma: no cover
    channels, frames = out.shape
    for c in range(channels):
        for i in range(frames):
            j = 2 * (i * channels + c)
            word = np.uint16(raw[j]) | (np.uint16(raw[j + 1]) << np.uint16(8))
            out[c, i] = np.float32(np.int16(word)) * np.float32(2.0**-15)
