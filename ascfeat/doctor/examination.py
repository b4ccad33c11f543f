"""The whole examination: recordings on threads, then everything that only the whole dataset shows."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ascfeat.audio import probe
from ascfeat.datasets import Tree, open_dataset
from ascfeat.datasets.official import OfficialSet, nearest_version
from ascfeat.doctor.counts import format_difference, group_counts, official_differences, side_counts
from ascfeat.doctor.leaks import crossing, leaks
from ascfeat.doctor.recordings import Examined, examine_recording, finding
from ascschemas.dataset import AudioFormat, Manifest
from ascschemas.findings import SEVERITIES, CheckReport, Finding
from ascschemas.problems import DatasetError

Progress = Callable[[int, int], None]
"""Called with the clips done and all clips."""


def check(
    root: Path, *, kind: str | None = None, threads: int | None = None, progress: Progress | None = None
) -> CheckReport:
    """Open a dataset and examine it.

    Parameters
    ----------
    root : Path
        The dataset folder.
    kind : str, optional
        Name of its loader; recognised without it.
    threads : int, optional
        Recordings decoded at once; as many as there are processors without it.
    progress : callable, optional
        Called with the clips done and all clips.

    Raises
    ------
    DatasetError
        When the folder cannot be read as a dataset at all; everything else is a finding.
    """
    tree, manifest = open_dataset(root, kind)
    return examine(tree, manifest, threads=threads, progress=progress)


def examine(
    tree: Tree, manifest: Manifest, *, threads: int | None = None, progress: Progress | None = None
) -> CheckReport:
    """Examine an open dataset: every recording is decoded once, and none is kept.

    Parameters
    ----------
    tree : Tree
        The dataset's files.
    manifest : Manifest
        Its clips and splits.
    threads : int, optional
        Recordings decoded at once; as many as there are processors without it.
    progress : callable, optional
        Called with the clips done and all clips.
    """
    audio = _shared_format(tree, manifest)
    examined = _decoded(tree, manifest, audio, threads or _processors(), progress or (lambda _done, _total: None))
    known = nearest_version(manifest.kind, len(manifest.clips)) if manifest.classes else None
    differences = official_differences(manifest, known) if known else ()
    findings = [*(f for e in examined for f in e.findings), *_files(tree, manifest), *_duplicates(manifest, examined)]
    findings += [*leaks(manifest), *_unlabelled(manifest), *_official(audio, known, len(differences))]
    return CheckReport(
        dataset=manifest.dataset,
        kind=manifest.kind,
        fit=not any(f.severity in ("unusable", "leak") for f in findings),
        clips=len(manifest.clips),
        usable=sum(not any(f.severity == "unusable" for f in e.findings) for e in examined),
        audio=audio,
        splits=side_counts(manifest),
        origins={split.name: split.origin for split in manifest.splits},
        counts=group_counts(manifest),
        official=str(known or ""),
        count_differences=differences,
        findings=tuple(sorted(findings, key=_worst_first)),
        notes=manifest.notes,
    )


def _shared_format(tree: Tree, manifest: Manifest) -> AudioFormat | None:
    try:
        return probe(tree, [clip.id for clip in manifest.clips])
    except DatasetError:  # no recording can be decoded: every one of them gets its own finding
        return None


def _decoded(
    tree: Tree, manifest: Manifest, audio: AudioFormat | None, threads: int, progress: Progress
) -> list[Examined]:
    """Every recording examined, in clip order; at most ``threads`` of them are in memory."""
    ids = [clip.id for clip in manifest.clips]
    examined: list[Examined] = []
    pool = ThreadPoolExecutor(threads, thread_name_prefix="doctor")
    try:
        for one in pool.map(lambda clip: examine_recording(tree, clip, audio), ids):
            examined.append(one)
            progress(len(examined), len(ids))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for the recordings not yet begun
    return examined


def _files(tree: Tree, manifest: Manifest) -> Iterator[Finding]:
    """Recordings that no list names, and whether a missing one differs from them in its spelling only."""
    listed = {clip.id for clip in manifest.clips}
    absent = {_spelling(clip): clip for clip in listed if not tree.exists(clip)}
    for path in tree.files():
        if path not in listed:
            other = absent.get(_spelling(path))
            hint = f"; {other} is listed: only upper and lower case or the form of accents differ" if other else ""
            yield finding("extra", f"no list names it{hint}", path)


def _spelling(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _duplicates(manifest: Manifest, examined: Sequence[Examined]) -> Iterator[Finding]:
    """Clips that hold the same samples, as one finding for each sound."""
    same: defaultdict[str, list[str]] = defaultdict(list)
    for one in examined:
        if one.content:
            same[one.content].append(one.clip)
    labels = {clip.id: clip.label for clip in manifest.clips}
    for clips in same.values():
        if len(clips) > 1:
            yield finding("duplicate", _same_sound(manifest, clips, {labels[clip] for clip in clips}), *clips)


def _same_sound(manifest: Manifest, clips: Sequence[str], labels: set[str]) -> str:
    others = f"{clips[1]}{f' and {len(clips) - 2} more' if len(clips) > 2 else ''}"
    classes = f"; they are labelled {', '.join(sorted(labels))}" if len(labels) > 1 else ""
    splits = crossing(manifest, clips)
    across = f"; they are on both sides of {', '.join(splits)}" if splits else ""
    return f"{clips[0]} holds the same samples as {others}{classes}{across}"


def _unlabelled(manifest: Manifest) -> Iterator[Finding]:
    """Clips without a label in a dataset that has labels."""
    if manifest.classes:
        yield from (finding("unlabelled", "it has no label", c.id) for c in manifest.clips if not c.label)


def _official(audio: AudioFormat | None, known: OfficialSet | None, differences: int) -> Iterator[Finding]:
    if known and differences:
        yield finding("official-counts", f"{differences} counts differ from {known}")
    if known and (text := format_difference(audio, known)):
        yield finding("official-format", f"the recordings are not those of {known}: {text}")


def _worst_first(found: Finding) -> tuple[int, str, tuple[str, ...]]:
    return list(SEVERITIES).index(found.kind), found.split, found.clips


def _processors() -> int:
    return min(16, os.cpu_count() or 1)
