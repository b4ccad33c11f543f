"""One recording examined: what it holds, and why extraction could not use it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from ascfeat.audio import Recording, Samples, decode, read, waveform
from ascfeat.datasets.tree import Tree
from ascschemas.dataset import AudioFormat
from ascschemas.findings import SEVERITIES, Finding, FindingKind
from ascschemas.problems import AudioError
from ascschemas.recipe import Decode

FULL_SCALE: Final = 32767 / 32768
"""Magnitude from which a sample counts as full scale: the largest positive value of 16-bit audio."""
CLIPPED_RUN: Final = 3
"""Consecutive full-scale samples that a waveform hardly has by chance, only by clipping."""
CLIPPED_SHARE: Final = 0.001
"""Share of a recording's samples in such runs from which it is reported: 10 ms of 10 s."""
SILENT_RANGE: Final = 2 / 32768
"""Largest minus smallest sample of a recording that holds nothing: one 16-bit step to either side."""


@dataclass(frozen=True)
class Examined:
    """What is known of one recording after it was decoded once; its samples are gone."""

    clip: str
    findings: tuple[Finding, ...]
    content: str = ""
    """Digest of the decoded samples; empty where they cannot be decoded or are silent."""


def examine_recording(tree: Tree, clip: str, reference: AudioFormat | None) -> Examined:
    """Read, decode and judge one recording by the rules of extraction.

    Parameters
    ----------
    tree : Tree
        The dataset's files.
    clip : str
        Its path.
    reference : AudioFormat or None
        Format that the dataset's recordings share; None where none can be decoded.
    """
    try:
        recording = decode(read(tree, clip), clip)
        if reference is not None:
            waveform(recording, clip, reference, Decode())
    except AudioError as error:
        return Examined(clip, (_unusable(clip, error),))
    found = (*_silence(clip, recording.samples), *_clipping(clip, recording), *_fitting(clip, recording, reference))
    silent = any(f.kind == "silent" for f in found)
    return Examined(clip, found, content="" if silent else content_digest(recording))


def content_digest(recording: Recording) -> str:
    """SHA-256 of rate, channels and decoded samples: equal for one sound, whatever file holds it."""
    samples = np.ascontiguousarray(recording.samples)
    head = f"{recording.sample_rate} {samples.shape}".encode()
    return hashlib.sha256(head + samples.astype("<f4", copy=False).tobytes()).hexdigest()


def is_silent(samples: Samples) -> bool:
    """Whether every channel is constant to within one 16-bit step: zeros, or an offset.

    Parameters
    ----------
    samples : array, shape ``(channel, frames)``
        Full scale at 1.
    """
    channels = map(np.ascontiguousarray, samples)  # a decoded file is interleaved, where min and max are slow
    return all(channel.size == 0 or np.ptp(channel) <= SILENT_RANGE for channel in channels)


def clipped_share(samples: Samples) -> float:
    """Share of the samples that stand in runs of three or more at full scale, over all channels.

    Examples
    --------
    >>> clipped_share(np.array([[0, 1, 1, 1, 0, 1, 1, 0]], dtype=np.float32))
    0.375
    """
    full = np.abs(samples) >= FULL_SCALE
    if not full.any() or full.shape[1] < CLIPPED_RUN:
        return 0.0
    starts = np.lib.stride_tricks.sliding_window_view(full, CLIPPED_RUN, axis=1).all(axis=2)
    inside = np.zeros_like(full)
    for offset in range(CLIPPED_RUN):
        inside[:, offset : offset + starts.shape[1]] |= starts
    return float(inside.mean())


def finding(kind: FindingKind, detail: str, *clips: str, split: str = "") -> Finding:
    """A finding with the severity of its kind, and clip names that any terminal and JSON can hold."""
    shown = tuple(clip.encode("utf-8", "backslashreplace").decode() for clip in clips)
    return Finding(kind=kind, severity=SEVERITIES[kind], clips=shown, split=split, detail=detail)


def _unusable(clip: str, error: AudioError) -> Finding:
    values = [f"{d.field}: expected {d.expected}, found {d.found}" for d in error.differences]
    return finding(cast(FindingKind, error.reason), "; ".join(values) or error.what.removeprefix(f"{clip} "), clip)


def _silence(clip: str, samples: Samples) -> tuple[Finding, ...]:
    if not is_silent(samples):
        return ()
    level = float(samples[0, 0])
    return (finding("silent", f"every sample is {level:.4g}, to within one 16-bit step", clip),)


def _clipping(clip: str, recording: Recording) -> tuple[Finding, ...]:
    share = clipped_share(recording.samples)
    if share < CLIPPED_SHARE:
        return ()
    return (finding("clipped", f"{share:.2%} of the samples are at full scale, three or more in a row", clip),)


def _fitting(clip: str, recording: Recording, reference: AudioFormat | None) -> tuple[Finding, ...]:
    found = recording.samples.shape[1]
    if reference is None or found == reference.frames:
        return ()
    verb = "cut" if found > reference.frames else "padded with zeros"
    return (finding("length-fitted", f"{found} samples, {verb} to {reference.frames} at extraction", clip),)
