"""Recordings to waveforms: the door to soundfile and soxr, and the place where unusable audio gets its reason."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from ascfeat.datasets.tree import Tree
from ascschemas.dataset import AudioFormat
from ascschemas.problems import AudioError, DatasetError, Difference, RecipeError
from ascschemas.recipe import Decode

Samples = npt.NDArray[np.float32]
Waves = npt.NDArray[np.floating[Any]]

UNDECODABLE = (soundfile.LibsndfileError, RuntimeError, ValueError, OverflowError, MemoryError)
"""What soundfile raises for bytes that are not audio, whatever they claim to be."""
LOUDEST = 1e9
"""Largest sample of a recording, where full scale is 1: beyond it float32 cannot hold every energy."""
INTEGERS: dict[str, Literal[16, 24]] = {"PCM_S8": 16, "PCM_U8": 16, "PCM_16": 16, "PCM_24": 24}
"""libsndfile's names of number formats that hold integers, and the bits that hold them here."""
MOST_SAMPLES = 1 << 29
"""Most samples of a recording or waveform, all channels together: 2 GiB in float32, 93 minutes of stereo at 48 kHz."""
MOST_CHANNELS = 256
"""Most channels of a recording: beyond every microphone array, and a sign that a header is damaged."""
FREE_SAMPLES = 1 << 24
"""Samples that any file may decode to, however small it is: six minutes of silence at 48 kHz are 20 kB of FLAC."""
UNPACKS = 400
"""Bytes of float32 to which a byte of a longer recording may decode; Opus at 6 kbit/s reaches 256."""
RATES = range(100, 3_072_001)
"""Sample rates in Hz that a recording may have; outside, its header is damaged."""
WAV_CHUNKS = 10_000
"""Most chunks that are looked through for a WAV file's samples."""
RESAMPLER_QUALITY = {"soxr_vhq": "VHQ", "soxr_hq": "HQ"}


@dataclass(frozen=True)
class Recording:
    """A decoded file: ``samples`` is ``(channel, frames)`` in float32, full scale at 1."""

    samples: Samples
    sample_rate: int

    @property
    def format(self) -> AudioFormat:
        """Rate, channels and frames of this recording."""
        return AudioFormat(
            sample_rate=self.sample_rate, channels=self.samples.shape[0], frames=max(1, self.samples.shape[1])
        )


def read(tree: Tree, clip: str) -> bytes:
    """The bytes of a clip's recording.

    Raises
    ------
    AudioError
        With reason ``missing`` or ``unreadable``.
    """
    try:
        return tree.read(clip)
    except FileNotFoundError:
        raise AudioError("missing", f"{clip} is listed, but there is no such file.", todo="Restore the file.") from None
    except OSError as error:
        why = error.strerror or "its archive is damaged"  # no path of this machine: the reason is stored
        raise AudioError("unreadable", f"{clip} cannot be read: {why}.", todo="Restore the file.") from error


def decode(data: bytes, clip: str) -> Recording:
    """Decode the bytes of an audio file of any format that libsndfile reads.

    Parameters
    ----------
    data : bytes
        The whole file.
    clip : str
        Its name, for messages.

    Returns
    -------
    Recording
        24-bit integers are exact in float32.

    Raises
    ------
    AudioError
        With reason ``empty``, ``unreadable``, ``truncated`` or ``nan``.
    """
    if not data:
        raise AudioError("empty", f"{clip} is empty: 0 bytes.", todo="Restore the file.")
    declared, present = _extent(data)
    if present < declared:
        raise AudioError(
            "truncated",
            f"{clip} ends early: its header declares {declared} bytes of audio and {present} are there.",
            todo="Download or copy it again.",
        )
    if (recording := _plain(data)) is not None:
        return recording
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            frames, rate = file.frames, file.samplerate
            if absurd := _absurd(file, len(data)):
                raise AudioError("unreadable", f"{clip} cannot be meant: {absurd}.", todo="Restore the file.")
            samples = _samples(data, file)
    except UNDECODABLE as error:
        why = getattr(error, "error_string", type(error).__name__)  # without the address of a buffer: it is stored
        raise AudioError(
            "unreadable", f"{clip} is not audio that libsndfile reads: {why}", todo="Convert or restore the file."
        ) from error
    _complete(samples, frames, clip)
    return Recording(samples, rate)


def waveform(recording: Recording, clip: str, audio: AudioFormat, spec: Decode) -> Samples:
    """Bring a recording to the form a recipe asks for.

    ``channels -> resample -> fit the length -> subtract the mean``, each channel by itself, in float64, rounded once at
    the end; a recording that is of that form already keeps its bits.

    Parameters
    ----------
    recording : Recording
        The decoded file.
    clip : str
        Its name, for messages.
    audio : AudioFormat
        The format that the dataset's recordings share.
    spec : Decode
        The recipe's first slot.

    Returns
    -------
    array, shape ``(channel, samples)``, float32
        Channels and samples are those of ``waveform_format(audio, spec)``; memory may be the recording's.

    Raises
    ------
    RecipeError
        As ``waveform_format`` does.
    AudioError
        With reason ``wrong-rate``, ``wrong-channels`` or ``wrong-length``, where the recipe excludes such recordings.
    """
    target = waveform_format(audio, spec)
    _as_expected(recording, clip, audio, target, spec)
    samples = _with_channels(recording.samples, target.channels)
    if recording.sample_rate != target.sample_rate:
        _refuse_growth(samples, recording.sample_rate, target.sample_rate, clip)
        samples = _resampled(samples, recording.sample_rate, target.sample_rate, RESAMPLER_QUALITY[spec.resampler])
    samples = _fit(samples, target.frames, again=spec.other_length == "repeat")
    if spec.remove_dc:
        from ascfeat.moments import centred  # here, for the reason in _plain

        return centred(samples)
    return np.ascontiguousarray(samples, dtype=np.float32)


def waveform_format(audio: AudioFormat, spec: Decode) -> AudioFormat:
    """Rate, channels and samples of the waveforms that a recipe makes from a dataset's recordings.

    Raises
    ------
    RecipeError
        When they would be more than ``MOST_SAMPLES``.
    """
    rate = audio.sample_rate if spec.sample_rate == "native" else spec.sample_rate
    seconds = audio.frames / audio.sample_rate if spec.seconds == "native" else spec.seconds
    channels = 1 if spec.channels == "mono_mean" else audio.channels
    frames = max(1, round(seconds * rate))
    if frames * channels > MOST_SAMPLES:
        raise RecipeError(
            f"Waveforms of {seconds:g} s are too long to be computed from.",
            differences=[
                Difference(field="samples", expected=f"at most {MOST_SAMPLES}", found=f"{frames} x {channels} channels")
            ],
            todo="Use a recipe with a shorter `decode.seconds` or a lower `decode.sample_rate`, or cut the recordings.",
        )
    return AudioFormat(sample_rate=rate, channels=channels, frames=frames)


def probe(tree: Tree, clips: Sequence[str], sample: int = 50) -> AudioFormat:
    """The format that most of a dataset's recordings have, by the headers of some of them, drawn by their names.

    Raises
    ------
    DatasetError
        When none of them is audio.
    """
    drawn = _drawn(clips)
    found = Counter(_formats(tree, drawn[:sample])) or Counter(itertools.islice(_formats(tree, clips), 1))
    if not found:
        raise DatasetError(
            f"None of the {len(clips)} recordings listed in {tree.root} is there, or none can be decoded.",
            todo=f"Run `ascfeat check {tree.root}` to see why.",
        )
    return found.most_common(1)[0][0]


def sample_bits(tree: Tree, clips: Sequence[str], sample: int = 50) -> Literal[0, 16, 24]:
    """Bits that hold every sample of a dataset's recordings, by the headers of some; 0 where one has no integers."""
    each = (_bits(tree, clip) for clip in _drawn(clips)[:sample])
    found = {bits for bits in each if bits is not None}
    return 0 if not found or 0 in found else max(found)


def decoder_versions(audio: AudioFormat, spec: Decode) -> dict[str, str]:
    """Versions of the software that decides the samples of a waveform; the resampler's only where it may be asked."""
    decoder = {"soundfile": soundfile.__version__, "libsndfile": soundfile.__libsndfile_version__}
    resampled = spec.other_rate == "resample" or waveform_format(audio, spec).sample_rate != audio.sample_rate
    return decoder | ({"soxr": soxr.__version__, "libsoxr": soxr.__libsoxr_version__} if resampled else {})


def digest(data: bytes) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_wav(path: Path, samples: Samples, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write a WAV file.

    Parameters
    ----------
    path : Path
        The file; replaced where it exists.
    samples : array, shape ``(channel, frames)``
        Full scale at 1.
    sample_rate : int
        Samples per second.
    subtype : str
        libsndfile's name of the number format: ``PCM_16``, ``PCM_24`` or ``FLOAT``.
    """
    soundfile.write(path, samples.T, sample_rate, subtype=subtype, format="WAV")


def libsndfile_version() -> str:
    """Version of the library that decodes."""
    return str(soundfile.__libsndfile_version__)


def _plain(data: bytes) -> Recording | None:
    """The recording of a WAV file that holds a format, samples, and nothing between; None for libsndfile to open."""
    from ascfeat import pcm  # here, because numba takes a third of a second to import and most commands decode nothing

    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    start, size = _wav_samples(data, "<")
    found = pcm.plain(data, start, size)
    if found is None or found.rate not in RATES or found.channels > MOST_CHANNELS or size > 2 * MOST_SAMPLES:
        return None
    return Recording(pcm.samples(data, start, found.width, found.channels, found.frames), found.rate)


def _samples(data: bytes, file: soundfile.SoundFile) -> Samples:
    """All samples of an open file, ``(channel, frame)``; those of plain WAV files are taken from its bytes."""
    from ascfeat import pcm  # here, for the reason in _plain

    frames, channels = file.frames, file.channels
    width = pcm.WIDTHS.get(file.subtype, 0) if file.format in ("WAV", "WAVEX") and data[:4] == b"RIFF" else 0
    start, _ = _wav_samples(data, "<") if width else (0, 0)
    if start and 0 < frames * channels * width <= len(data) - start:
        return pcm.samples(data, start, width, channels, frames)
    decoded: Samples = file.read(dtype="float32", always_2d=True).T
    return decoded


def _formats(tree: Tree, clips: Iterable[str]) -> Iterator[AudioFormat]:
    """What the headers of recordings say, of those that have one."""
    for clip in clips:
        with contextlib.suppress(AudioError, *UNDECODABLE), soundfile.SoundFile(io.BytesIO(read(tree, clip))) as file:
            if file.frames > 0 and not _absurd(file, MOST_SAMPLES):
                yield AudioFormat(sample_rate=file.samplerate, channels=file.channels, frames=file.frames)


def _absurd(file: soundfile.SoundFile, size: int) -> str:
    """What a header claims that no recording of so many bytes has; empty where it can be."""
    samples = file.frames * file.channels
    if file.channels > MOST_CHANNELS:
        return f"its header declares {file.channels} channels"
    if file.samplerate not in RATES:
        return f"its header declares {file.samplerate} samples a second"
    if samples > MOST_SAMPLES:
        return f"its header declares {file.frames} samples of {file.channels} channels"
    if samples > max(FREE_SAMPLES, UNPACKS * size // 4):
        return f"its {size} bytes would decode to {4 * samples}"
    return ""


def _drawn(clips: Sequence[str]) -> list[str]:
    """Clips in an order that their names decide and nothing else: lists come device by device."""
    return sorted(clips, key=lambda clip: hashlib.sha256(clip.encode()).digest())


def _bits(tree: Tree, clip: str) -> Literal[0, 16, 24] | None:
    """Bits of a recording's samples, 0 where they are no integers of at most 24; None where it is no audio."""
    with contextlib.suppress(AudioError, *UNDECODABLE), soundfile.SoundFile(io.BytesIO(read(tree, clip))) as file:
        return INTEGERS.get(file.subtype, 0)
    return None


def _as_expected(recording: Recording, clip: str, audio: AudioFormat, target: AudioFormat, spec: Decode) -> None:
    found = recording.format
    if found.sample_rate != audio.sample_rate and spec.other_rate == "exclude":
        raise _odd(
            "wrong-rate",
            clip,
            "sample_rate",
            f"{audio.sample_rate} Hz",
            f"{found.sample_rate} Hz",
            "other_rate: resample",
        )
    if found.channels != audio.channels:
        _accept_channels(found, clip, audio, target, spec)
    seconds = audio.seconds if spec.seconds == "native" else spec.seconds
    expected = round(seconds * found.sample_rate)
    off = abs(found.frames - expected) > spec.length_tolerance * expected
    if off and spec.other_length == "exclude":
        length = f"{found.seconds:g} s ({found.frames} samples)"
        raise _odd("wrong-length", clip, "length", f"{seconds:g} s ({expected} samples)", length, "other_length: fit")


def _accept_channels(found: AudioFormat, clip: str, audio: AudioFormat, target: AudioFormat, spec: Decode) -> None:
    """Refuse another number of channels, unless the recipe accepts it and it can be brought to the planned one."""
    possible = 1 in (found.channels, target.channels)
    if spec.other_channels == "exclude" or not possible:
        way_out = "other_channels: accept" if possible else "channels: mono_mean, other_channels: accept"
        raise _odd("wrong-channels", clip, "channels", audio.channels, found.channels, way_out)


def _odd(reason: str, clip: str, field: str, expected: object, found: object, way_out: str) -> AudioError:
    return AudioError(
        reason,
        f"{clip} is not like the other recordings.",
        differences=[Difference(field=field, expected=str(expected), found=str(found))],
        todo=f"Restore the file, or use a recipe with `decode: {{{way_out}}}`.",
    )


def _with_channels(samples: Samples, channels: int) -> Waves:
    """As many channels as planned: those that there are, their mean, or a single one repeated."""
    if len(samples) == channels:
        return samples
    if channels == 1:
        return _mean(samples)
    return np.repeat(samples, channels, axis=0)


def _mean(samples: Samples) -> Waves:
    """Mean over channels in float64, ``(1, frames)``; numpy's own is ten times slower on interleaved samples."""
    total = samples[0].astype(np.float64)
    for channel in samples[1:]:
        total += channel
    total /= len(samples)
    mono: Waves = total[None]
    return mono


def _refuse_growth(samples: Waves, rate: int, wanted: int, clip: str) -> None:
    """A header with a rate far too low makes hours of a second."""
    grown = samples.size * wanted // rate
    if grown > MOST_SAMPLES:
        raise AudioError(
            "wrong-rate",
            f"{clip} would have {grown} samples at {wanted} Hz.",
            differences=[Difference(field="sample_rate", expected=f"{wanted} Hz", found=f"{rate} Hz")],
            todo="Restore the file: its header is damaged, or it is hours long.",
        )


def _resampled(samples: Waves, rate: int, wanted: int, quality: str) -> Waves:
    """Each channel at another rate, in float64."""
    exact = samples.astype(np.float64)
    made: Waves = np.stack([soxr.resample(channel, rate, wanted, quality=quality) for channel in exact])
    return made


def _fit(samples: Waves, frames: int, *, again: bool) -> Waves:
    """As many samples as planned: the first ones, or what there is and then zeros, or the same again."""
    missing = frames - samples.shape[1]
    if missing <= 0:
        return samples[:, :frames]
    filled: Waves = np.pad(samples, ((0, 0), (0, missing)), mode="wrap" if again else "constant")
    return filled


def _complete(samples: Samples, frames: int, clip: str) -> None:
    """Refuse what a decoder passes on without a word: nothing, too little, or not numbers."""
    if samples.shape[1] == 0:
        raise AudioError("empty", f"{clip} holds a header and no samples.", todo="Restore the file.")
    if samples.shape[1] < frames:
        raise AudioError(
            "truncated",
            f"{clip} ends early: {frames} samples are declared and {samples.shape[1]} decode.",
            todo="Download or copy it again.",
        )
    if not (samples.min() >= -LOUDEST and samples.max() <= LOUDEST):  # no comparison with NaN is true
        count = int(samples.size - (np.abs(samples) <= LOUDEST).sum())
        what = f"{clip} holds {count} samples that are NaN, infinite or above {LOUDEST:g} times full scale."
        raise AudioError("nan", what, todo="Restore the file.")


def _extent(data: bytes) -> tuple[int, int]:
    """Bytes of audio that a file's own header declares, and those that are there; (0, 0) where it does not say.

    libsndfile shortens a truncated WAV to what is there and says nothing, so its header is read here as well.
    """
    if data[:4] in (b"RIFF", b"RIFX") and data[8:12] == b"WAVE":
        return _wav_extent(data, ">" if data[:4] == b"RIFX" else "<")
    if data[:4] == b"OggS":
        return _ogg_extent(data)
    return 0, 0


def _wav_extent(data: bytes, order: str) -> tuple[int, int]:
    start, size = _wav_samples(data, order)
    if not start:
        return 1, 0
    streamed = size in (0, 0xFFFFFFFF)  # written by a pipe that could not go back to fill it in
    return (0, 0) if streamed else (size, len(data) - start)


def _wav_samples(data: bytes, order: str) -> tuple[int, int]:
    """Where the samples of a WAV file begin, and how many bytes of them its header declares; (0, 0) without any."""
    at = 12
    for _ in range(WAV_CHUNKS):
        if at + 8 > len(data):
            break
        name, size = struct.unpack(f"{order}4sI", data[at : at + 8])
        if name == b"data":
            return at + 8, size
        at += 8 + size + (size & 1)
    return 0, 0


def _ogg_extent(data: bytes) -> tuple[int, int]:
    """The last page of a whole stream says that it is the last (RFC 3533), and is there to its end."""
    page = data[data.rfind(b"OggS") :]
    end = 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) > 26 else 27
    whole = len(page) >= end and page[5] & 4
    return len(data) + (0 if whole else max(1, end - len(page))), len(data)
