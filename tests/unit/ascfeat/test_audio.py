"""Is every unusable recording found, and every usable one exact?"""

import contextlib
import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from ascfeat.audio import Recording, decode, probe, read, waveform, waveform_format
from ascfeat.datasets.tree import Tree
from ascschemas.dataset import AudioFormat, Manifest
from ascschemas.problems import AudioError, DatasetError, RecipeError
from ascschemas.recipe import Decode

AUDIO = AudioFormat(sample_rate=8000, channels=1, frames=8000)


def encoded(samples: np.ndarray, rate: int = 8000, **how: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **({"format": "WAV", "subtype": "PCM_24"} | how))
    return buffer.getvalue()


NOISE = 0.1 * np.random.default_rng(0).standard_normal(8000)


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "empty"),
    (encoded(np.zeros(0)), "empty"),
    (b"this is a text about audio" * 40, "unreadable"),
    (encoded(NOISE)[:40], "truncated"),
    (encoded(NOISE)[:5000], "truncated"),
    (encoded(NOISE)[:-1], "truncated"),
    (encoded(NOISE, format="FLAC")[:3000], "unreadable|truncated"),
    (encoded(NOISE, format="OGG", subtype="VORBIS")[:3000], "truncated"),
    (encoded(NOISE, format="OGG", subtype="VORBIS")[:-1], "truncated"),
    (encoded(np.tile(NOISE, 20), format="OGG", subtype="VORBIS")[:9000], "truncated"),
    (encoded(np.where(np.arange(8000) == 77, np.nan, NOISE), subtype="FLOAT"), "nan"),
    (encoded(np.where(np.arange(8000) == 77, np.inf, NOISE), subtype="FLOAT"), "nan"),
])  # fmt: skip
def test_unusable_files_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(AudioError) as caught:
        decode(data, "audio/x.wav")
    assert caught.value.reason in reason.split("|")
    assert "audio/x.wav" in str(caught.value)


@given(st.binary(max_size=400), st.integers(0, 60))
def test_no_bytes_whatever_escape_as_another_error(tail: bytes, keep: int) -> None:
    """Whatever stands in a file, it decodes to numbers or it is an AudioError."""
    with contextlib.suppress(AudioError):
        assert np.isfinite(decode(encoded(NOISE[:50])[:keep] + tail, "x").samples).all()


@pytest.mark.parametrize("how", [{"subtype": "PCM_16"}, {"subtype": "PCM_24"}, {"format": "FLAC", "subtype": "PCM_24"}])
def test_integers_are_exact(how: dict[str, str]) -> None:
    bits = int(how["subtype"][-2:])
    integers = np.random.default_rng(1).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (500, 2))
    found = decode(encoded(integers / 2.0 ** (bits - 1), **how), "x")
    assert found.samples.shape == (2, 500)
    np.testing.assert_array_equal(found.samples.astype(float) * 2 ** (bits - 1), integers.T)


def test_a_streamed_header_is_not_called_truncated() -> None:
    """A program that writes to a pipe cannot fill in the length; the samples are all there."""
    data = bytearray(encoded(NOISE, subtype="PCM_16"))
    at = data.index(b"data")
    data[at + 4 : at + 8] = struct.pack("<I", 0xFFFFFFFF)
    assert decode(bytes(data), "x").samples.shape == (1, 8000)


@pytest.mark.parametrize(("recording", "reason", "values"), [
    (Recording(np.zeros((1, 8000), "f"), 16_000), "wrong-rate", ("8000 Hz", "16000 Hz")),
    (Recording(np.zeros((2, 8000), "f"), 8000), "wrong-channels", ("1", "2")),
    (Recording(np.zeros((1, 7200), "f"), 8000), "wrong-length", ("1 s (8000 samples)", "0.9 s (7200 samples)")),
])  # fmt: skip
def test_a_recording_unlike_the_others_is_named_with_both_values(recording, reason, values) -> None:
    with pytest.raises(AudioError) as caught:
        waveform(recording, "audio/x.wav", AUDIO, Decode())
    assert caught.value.reason == reason
    assert (caught.value.differences[0].expected, caught.value.differences[0].found) == values


def test_a_recipe_can_take_them_all_the_same() -> None:
    spec = Decode(other_rate="resample", other_channels="accept", other_length="fit")
    for shape, rate in (((1, 16_000), 16_000), ((2, 8000), 8000), ((1, 7200), 8000), ((1, 9000), 8000)):
        assert waveform(Recording(np.ones(shape, "f"), rate), "x", AUDIO, spec).shape == (1, 8000)


def test_a_few_missing_samples_are_made_up_by_zeros() -> None:
    """A lossy codec may miss by a block; two per cent are fitted, and nothing is stretched."""
    short = waveform(Recording(np.ones((1, 7900), "f"), 8000), "x", AUDIO, Decode())
    np.testing.assert_array_equal(short[0], np.r_[np.ones(7900), np.zeros(100)])


@pytest.mark.parametrize("samples", [1, 300, 7999, 8000, 9000])
def test_a_short_recording_can_begin_again_until_the_length_is_filled(samples: int) -> None:
    given = np.random.default_rng(samples).normal(size=samples).astype("f")
    found = waveform(Recording(given[None], 8000), "x", AUDIO, Decode(other_length="repeat"))
    np.testing.assert_array_equal(found[0], given[np.arange(8000) % samples])


def test_mono_is_the_mean_of_the_channels_and_dc_can_go() -> None:
    stereo = np.stack([NOISE, 0.5 * NOISE + 0.25]).astype("f")
    audio = AUDIO.model_copy(update={"channels": 2})
    plain = waveform(Recording(stereo, 8000), "x", audio, Decode())
    np.testing.assert_allclose(plain[0], stereo.mean(axis=0), atol=1e-8)
    centred = waveform(Recording(stereo, 8000), "x", audio, Decode(remove_dc=True))
    np.testing.assert_allclose(centred[0], stereo.mean(axis=0) - stereo.astype(float).mean(), atol=1e-8)


STEREO = AUDIO.model_copy(update={"channels": 2})
NATIVE = Decode(channels="native")


def test_native_channels_that_need_no_change_keep_their_bits_and_are_not_copied() -> None:
    """NaN payloads aside, a float64 detour would keep them, too; but it would cost time, and memory is shared here."""
    one = Recording(NOISE.astype("f")[None], 8000)
    assert np.shares_memory(waveform(one, "x", AUDIO, Decode()), one.samples)
    two = Recording(np.stack([NOISE, -NOISE]).astype("f"), 8000)
    assert np.shares_memory(waveform(two, "x", STEREO, NATIVE), two.samples)
    interleaved = Recording(np.asfortranarray(two.samples), 8000)
    found = waveform(interleaved, "x", STEREO, NATIVE)
    np.testing.assert_array_equal(found, two.samples)
    assert found.flags.c_contiguous


def test_native_channels_are_fitted_and_freed_of_dc_each_by_itself() -> None:
    two = np.stack([NOISE + 0.25, NOISE - 0.5]).astype("f")
    found = waveform(Recording(two, 8000), "x", STEREO, Decode(channels="native", remove_dc=True))
    np.testing.assert_allclose(found, two - two.astype(float).mean(axis=1, keepdims=True), atol=1e-8)
    short = waveform(Recording(two[:, :7900], 8000), "x", STEREO, NATIVE)
    np.testing.assert_array_equal(short, np.pad(two[:, :7900], ((0, 0), (0, 100))))
    long = waveform(Recording(np.tile(two, 2)[:, :8100], 8000), "x", STEREO, NATIVE)
    np.testing.assert_array_equal(long, two)


@pytest.mark.parametrize(("kept", "found", "expected"), [
    ("native", 2, lambda x: x),
    ("native", 1, lambda x: np.repeat(x, 2, axis=0)),
    ("mono_mean", 4, lambda x: x.mean(axis=0, keepdims=True)),
    ("mono_mean", 1, lambda x: x),
])  # fmt: skip
def test_another_number_of_channels_can_be_accepted_in_a_stereo_set(kept: str, found: int, expected) -> None:
    x = np.random.default_rng(0).standard_normal((found, 8000)).astype("f")
    spec = Decode(channels=kept, other_channels="accept")
    made = waveform(Recording(x, 8000), "x", STEREO, spec)
    assert made.shape == (waveform_format(STEREO, spec).channels, 8000)
    np.testing.assert_allclose(made, expected(x), atol=1e-7)


def test_stereo_in_a_mono_set_becomes_its_mean() -> None:
    x = np.stack([NOISE, 0.5 * NOISE]).astype("f")
    made = waveform(Recording(x, 8000), "x", AUDIO, Decode(channels="native", other_channels="accept"))
    np.testing.assert_allclose(made, x.mean(axis=0, keepdims=True), atol=1e-8)


@pytest.mark.parametrize(("spec", "found", "way_out"), [
    (NATIVE, 1, "{other_channels: accept}"),
    (Decode(channels="native", other_channels="accept"), 4, "{channels: mono_mean, other_channels: accept}"),
])  # fmt: skip
def test_what_cannot_be_brought_to_the_sets_channels_is_excluded(spec: Decode, found: int, way_out: str) -> None:
    with pytest.raises(AudioError) as caught:
        waveform(Recording(np.zeros((found, 8000), "f"), 8000), "x", STEREO, spec)
    assert (caught.value.reason, way_out in caught.value.todo) == ("wrong-channels", True)
    assert (caught.value.differences[0].expected, caught.value.differences[0].found) == ("2", str(found))


def test_resampling_keeps_a_tone_and_equals_scipy() -> None:
    """48 kHz to 44.1 kHz: a tone stays the tone, away from the edges, to -90 dB."""
    t = np.arange(48_000) / 48_000
    tone = np.sin(2 * np.pi * 1000 * t)
    audio = AudioFormat(sample_rate=48_000, channels=1, frames=48_000)
    found = waveform(Recording(tone[None].astype("f"), 48_000), "x", audio, Decode(sample_rate=44_100))[0]
    assert len(found) == 44_100
    inner = slice(2000, -2000)
    exact = np.sin(2 * np.pi * 1000 * np.arange(44_100) / 44_100)
    assert np.abs(found - exact)[inner].max() < 3e-5
    other = scipy.signal.resample_poly(tone, 147, 160, window=("kaiser", 12.0))
    assert np.abs(found - other)[inner].max() < 1e-3


@given(st.integers(8_000, 96_000), st.integers(1, 200_000), st.sampled_from([8_000, 16_000, 44_100, 48_000]))
def test_a_waveform_has_the_length_that_was_planned(rate: int, frames: int, target: int) -> None:
    audio = AudioFormat(sample_rate=rate, channels=1, frames=frames)
    spec = Decode(sample_rate=target)
    planned = waveform_format(audio, spec)
    frames = min(frames, 3000)
    small = AudioFormat(sample_rate=rate, channels=1, frames=frames)
    made = waveform(Recording(np.zeros((1, frames), "f"), rate), "x", small, spec)
    assert made.shape == (1, waveform_format(small, spec).frames)
    assert abs(planned.seconds - audio.seconds) <= 1 / target


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError) as caught:
        read(Tree(tmp_path), "audio/none.wav")
    assert caught.value.reason == "missing"
    assert str(tmp_path) not in str(caught.value), "the reason is stored, and a store says nothing of its machine"


def test_probe_takes_the_majority(dataset: tuple[Tree, Manifest]) -> None:
    tree, manifest = dataset
    soundfile.write(tree.root / "audio/00.wav", np.zeros(100), 44_100)
    (tree.root / "audio/01.wav").write_bytes(b"")
    assert probe(tree, [c.id for c in manifest.clips]) == AUDIO


def test_probe_refuses_a_dataset_without_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="None of the 1 recordings"):
        probe(Tree(tmp_path), ["a.wav"])


def test_probe_is_not_fooled_by_a_list_in_which_devices_take_turns(tmp_path: Path) -> None:
    names = [f"{i:03}.wav" for i in range(150)]
    for i, name in enumerate(names):
        rate = 22_050 if i % 3 == 0 else 16_000
        soundfile.write(tmp_path / name, np.zeros(100), rate)
    assert probe(Tree(tmp_path), names).sample_rate == 16_000


def flac_of_zeros(frames: int) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", 48_000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(frames >> 22):
            file.write(np.zeros(1 << 22, np.int16))
    return buffer.getvalue()


def header(*, channels: int = 1, rate: int = 8000, claimed: int = 1000, body: int = 1000) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, (rate * channels * 2) % 2**32, channels * 2, 16)
    inside = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", claimed) + b"\1" * body
    return b"RIFF" + struct.pack("<I", len(inside)) + inside


@pytest.mark.parametrize(("data", "reason", "words"), [
    (header(claimed=2**31 - 2), "truncated", "declares 2147483646 bytes"),
    (header(channels=1000, claimed=200_000, body=200_000), "unreadable", "1000 channels"),
    (header(rate=1), "unreadable", "1 samples a second"),
    (header(rate=2**31 - 1), "unreadable", "samples a second"),
    (flac_of_zeros(1 << 25), "unreadable", "bytes would decode to 134217728"),
])  # fmt: skip
def test_headers_that_cannot_be_meant_are_refused_before_decoding(data: bytes, reason: str, words: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(AudioError, match=words) as caught:
            decode(data, "x.wav")
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data) + (4 << 20)
    finally:
        tracemalloc.stop()
    assert caught.value.reason == reason


def test_a_flac_header_that_claims_more_than_it_holds_takes_no_memory() -> None:
    data = bytearray(flac_of_zeros(1 << 22))
    data[21:26] = (int.from_bytes(data[21:26], "big") | (2**36 - 1)).to_bytes(5, "big")  # STREAMINFO, total samples
    with pytest.raises(AudioError, match="68719476735 samples of 1 channels"):
        decode(bytes(data), "x.flac")


def test_long_silence_within_bounds_decodes() -> None:
    assert decode(flac_of_zeros(1 << 23), "x.flac").samples.shape == (1, 1 << 23)


def test_a_rate_that_makes_hours_of_a_second_is_refused() -> None:
    slow = Recording(np.zeros((1, 1 << 20), np.float32), 100)
    lenient = Decode(sample_rate=768_000, other_rate="resample", other_length="fit")
    with pytest.raises(AudioError, match=r"would have 8053063680 samples at 768000 Hz") as caught:
        waveform(slow, "x.wav", AUDIO, lenient)
    assert caught.value.reason == "wrong-rate"


def test_waveforms_too_long_for_memory_are_refused_by_arithmetic() -> None:
    with pytest.raises(RecipeError, match="too long to be computed from"):
        waveform_format(AUDIO, Decode(seconds=86_400, sample_rate=768_000))


def test_a_wav_of_chunks_without_end_is_no_audio() -> None:
    data = b"RIFF" + b"\0" * 4 + b"WAVE" + b"LIST\0\0\0\0" * 300_000
    with pytest.raises(AudioError) as caught:
        decode(data, "x.wav")
    assert caught.value.reason == "truncated"
