"""Does every sample of every channel come through a store bit for bit, and does resampling treat channels alike?"""

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from ascfeat.audio import Recording, waveform
from ascfeat.extract import extract
from ascfeat.recipes import load_recipe
from ascfeat.store import open_store
from ascschemas.dataset import AudioFormat
from ascschemas.recipe import Decode

RATE, FRAMES = 48_000, 4_800
NATIVE = Decode(channels="native")
STEREO = AudioFormat(sample_rate=RATE, channels=2, frames=FRAMES)


def stored(folder: Path, files: dict[str, np.ndarray], **how: str) -> np.ndarray:
    """The store of a dataset of stereo files, ``(clip, channel, samples)``, in the files' order."""
    (folder / "set").mkdir()
    for name, samples in files.items():
        soundfile.write(folder / "set" / f"{name}.wav", samples, RATE, **how)
    rows = [f"{name}.wav,{'ab'[i % 2]}" for i, name in enumerate(files)]
    (folder / "set" / "list.csv").write_text("\n".join(["filename,label", *rows]) + "\n")
    (outcome,) = extract(folder / "set", [load_recipe("waveform")], folder / "features")
    return open_store(outcome.place).read(range(len(files)))


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_integers_of_16_and_24_bits_come_back_bit_for_bit(tmp_path: Path, bits: int, container: str) -> None:
    """Extremes, ones, odd numbers at every height, and noise: the integers that libsndfile itself reads."""
    top = 2 ** (bits - 1)
    extreme = np.array([-top, -top + 1, top - 1, top - 2, 0, 1, -1, *(2**k + 1 for k in range(1, bits - 1))])
    noise = np.random.default_rng(1).integers(-top, top, (FRAMES, 2))
    noise[: len(extreme), 0], noise[-len(extreme) :, 1] = extreme, extreme
    shifted = (noise << (32 - bits)).astype(np.int32)
    files = {"one": shifted, "two": -1 - shifted}
    values = stored(tmp_path, files, subtype=f"PCM_{bits}", format=container)
    assert values.shape == (2, 2, FRAMES)
    for name, found in zip(files, values, strict=True):
        exact = soundfile.read(tmp_path / "set" / f"{name}.wav", dtype="int32", always_2d=True)[0] >> (32 - bits)
        np.testing.assert_array_equal(exact, files[name] >> (32 - bits))  # what was written is what is there
        np.testing.assert_array_equal(found.astype(np.float64) * top, exact.T)


def test_32_bit_integers_and_doubles_are_rounded_to_float32(tmp_path: Path) -> None:
    x = 0.3 * np.random.default_rng(2).standard_normal((FRAMES, 2))
    np.testing.assert_array_equal(stored(tmp_path, {"x": x}, subtype="DOUBLE")[0], x.T.astype(np.float32))
    (tmp_path / "pcm").mkdir()
    whole = np.clip(np.rint(x * 2**31), -(2**31), 2**31 - 1).astype(np.int32)
    found = stored(tmp_path / "pcm", {"x": whole}, subtype="PCM_32")[0]
    np.testing.assert_array_equal(found, (whole.T / 2.0**31).astype(np.float32))


def test_each_channel_is_resampled_as_if_it_were_alone() -> None:
    x = 0.1 * np.random.default_rng(3).standard_normal((2, FRAMES)).astype(np.float32)
    spec = Decode(channels="native", sample_rate=44_100)
    found = waveform(Recording(x, RATE), "x", STEREO, spec)
    for i in range(2):
        alone = waveform(Recording(x[i : i + 1], RATE), "x", STEREO.model_copy(update={"channels": 1}), spec)
        np.testing.assert_array_equal(found[i : i + 1], alone)


def test_both_channels_resampled_equal_scipy() -> None:
    t = np.arange(RATE) / RATE
    tones = np.stack([np.sin(2 * np.pi * f * t) for f in (1000, 3000)])
    audio = STEREO.model_copy(update={"frames": RATE})
    spec = Decode(channels="native", sample_rate=44_100)
    found = waveform(Recording(tones.astype("f"), RATE), "x", audio, spec)
    other = scipy.signal.resample_poly(tones, 147, 160, axis=1, window=("kaiser", 12.0))
    inner = slice(2000, -2000)
    assert np.abs(found - other)[:, inner].max() < 1e-3
    at = np.arange(44_100) / 44_100
    exact = np.stack([np.sin(2 * np.pi * f * at) for f in (1000, 3000)])
    assert np.abs(found - exact)[:, inner].max() < 3e-5


def test_the_mean_over_channels_is_numpys_in_float64() -> None:
    for channels in (1, 2, 4):
        x = np.random.default_rng(4).standard_normal((channels, FRAMES)).astype(np.float32)
        audio = STEREO.model_copy(update={"channels": channels})
        found = waveform(Recording(np.asfortranarray(x), RATE), "x", audio, Decode())
        np.testing.assert_array_equal(found[0], x.mean(axis=0, dtype=np.float64).astype(np.float32))
