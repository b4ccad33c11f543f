"""Extraction: one pass over the recordings fills one or several feature stores, and goes on where it was stopped."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ascfeat.audio import Recording, decode
from ascfeat.certificate import certify
from ascfeat.datasets import open_dataset
from ascfeat.datasets.tree import Tree
from ascfeat.dsp.torch_backend.arithmetic import resolve_device
from ascfeat.jobs import Job, check_space, job_for, prepare
from ascfeat.lock import exclusive
from ascfeat.store import Row, Store, Writer, create, row, unit_rows
from ascfeat.tags import Given
from ascfeat.work import OneClip, Target, ordered, target
from ascschemas.certificate import Certificate
from ascschemas.dataset import Manifest
from ascschemas.problems import AudioError, SpaceError
from ascschemas.recipe import FeatureRecipe
from ascschemas.store import ClipRecord, StoreHeader

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    path: Path
    header: StoreHeader
    computed: int
    """Clips that were computed now."""
    excluded: dict[str, ClipRecord]
    """Clips of the whole store that hold no values, with their reasons."""
    seconds: float
    certificate: Certificate | None = None
    """How far the store lies from the reference, where it was sealed now."""


def forecast_seconds(
    tree: Tree, manifest: Manifest, jobs: Sequence[Job], *, device: str = "auto", threads: int
) -> float:
    """About how long the jobs will take, from doing a few of their clips now and keeping nothing."""
    clips = sorted({i for j in jobs for i in j.clips})
    one = OneClip(tree, manifest, [target(j.header, resolve_device(device), j.tags) for j in jobs])
    sample = clips[1 :: max(1, len(clips) // 3)][:3] or clips[:1]
    one(clips[0])  # the first call plans its transforms
    start = time.perf_counter()
    for clip in sample:
        one(clip)
    return (time.perf_counter() - start) / len(sample) * len(clips) / threads


def run(
    tree: Tree,
    manifest: Manifest,
    jobs: Sequence[Job],
    *,
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Outcome]:
    """Fill and seal the stores of some jobs over one dataset; every recording is decoded once.

    Parameters
    ----------
    tree, manifest
        The dataset.
    jobs : sequence of Job
        From ``ascfeat.jobs.prepare``. What is already done of them is not done again.
    device : str
        ``auto``, ``cpu`` or ``cuda:i``.
    threads : int, optional
        Clips under way at once; as many as there are CPUs by default. The stored bytes do not depend on it.
    progress : callable
        Given the number of recordings that are done.

    Raises
    ------
    StoreError
        When another process writes one of the stores, or a store cannot be sealed.
    SpaceError
        When the disk is full; what is done stays done.
    """
    todo = [j for j in jobs if j.pending or not j.sealed]
    with ExitStack() as held:
        for job in todo:
            held.enter_context(exclusive(job.path))
        with _full_disk(jobs[0].path.parent):
            at = resolve_device(device)
            fillings = [_filling(tree, manifest, job, at) for job in todo]
            _pass(tree, manifest, fillings, threads or os.cpu_count() or 1, progress)
            done = {f.writer.path: f.finish(tree, at) for f in fillings}
    return [done.get(j.path) or Outcome(j.path, j.header, 0, Store(j.path).excluded(), 0.0) for j in jobs]


def extract(
    dataset: Path | str,
    recipes: Sequence[FeatureRecipe],
    features: Path | str = "features",
    *,
    kind: str | None = None,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    tags: Given | None = None,
) -> list[Outcome]:
    """Bring the feature stores of a dataset up to date.

    Parameters
    ----------
    dataset : path
        The dataset folder.
    recipes : sequence of FeatureRecipe
        From ``ascfeat.recipes.load_recipe``.
    features : path
        Folder of the stores: ``<features>/<dataset>/<recipe>.zarr``.
    kind : str, optional
        Loader of the dataset; recognised from the folder by default.
    tags : path, str, callable or TagSource, optional
        What recipes of kind ``tags`` take their rows from; see ``ascfeat.tags.open_tags``.

    Returns
    -------
    list of Outcome
        One per recipe.
    """
    tree, manifest = open_dataset(Path(dataset), kind)
    jobs = prepare(tree, manifest, recipes, Path(features), device=device, backend=backend, tags=tags)
    check_space(jobs)
    return run(tree, manifest, jobs, device=device, threads=threads)


def features_of(
    files: Sequence[Path], header: StoreHeader, *, device: str = "cpu"
) -> Iterator[tuple[Path, Values | AudioError]]:
    """Features of audio files outside any dataset, exactly as a store with this header holds them.

    Yields
    ------
    file, features : Path, and array of shape ``layout.shape`` or the reason why there is none
    """
    made = target(header, resolve_device(device))
    for file in files:
        try:
            yield file, made.features(decode(_bytes(file), str(file)), str(file))
        except AudioError as error:
            yield file, error


def features_from(header: StoreHeader, *, device: str = "cpu") -> Callable[[Values, int], Values]:
    """A callable ``(waveform (channel, samples), sample_rate) -> features``, as a store with this header holds them.

    It raises AudioError where a waveform is not what the store's recipe takes.
    """
    made = target(header, resolve_device(device))
    return lambda waveform, sample_rate: made.features(Recording(waveform, sample_rate), "the waveform")


@dataclass
class _Filling:
    """A store being filled: collects its clips in order and writes each unit when it is complete."""

    writer: Writer
    target: Target
    pending: frozenset[int]
    rows: list[Row] = field(default_factory=list)
    writing: Future[None] | None = None
    computed: int = 0
    start: float = field(default_factory=time.perf_counter)

    def wants(self, position: int) -> bool:
        return position // self.writer.header.clips_per_unit in self.pending

    def row(self, record: ClipRecord, values: Values | None) -> Row:
        return row(record, values, self.writer.layout)

    def take(self, position: int, clip: Row, disk: Executor) -> None:
        """Take the next clip; a complete unit is written while the next one is computed, and no more than one."""
        unit = position // self.writer.header.clips_per_unit
        self.rows.append(clip)
        self.computed += 1
        if position + 1 == unit_rows(self.writer.header, unit)[1]:
            self.written()
            self.writing = disk.submit(self.writer.write, unit, self.rows)
            self.rows = []

    def written(self) -> None:
        """Wait for the unit that is being written; what kept it from being written is raised here."""
        if self.writing is not None:
            self.writing.result()
            self.writing = None

    def finish(self, tree: Tree, device: str) -> Outcome:
        seal = self.writer.seal or self.writer.finish(lambda store: certify(store, tree, device=device))
        spent = time.perf_counter() - self.start
        excluded = self.writer.excluded()
        return Outcome(self.writer.path, self.writer.header, self.computed, excluded, spent, seal.certificate)


def _pass(
    tree: Tree, manifest: Manifest, fillings: Sequence[_Filling], threads: int, progress: Callable[[int], None]
) -> None:
    wanted = [i for i in range(len(manifest.clips)) if any(f.wants(i) for f in fillings)]

    def one(position: int) -> list[tuple[_Filling, Row]]:
        takers = [f for f in fillings if f.wants(position)]
        results = OneClip(tree, manifest, [f.target for f in takers])(position)
        return [(f, f.row(record, values)) for f, (record, values) in zip(takers, results, strict=True)]

    with ThreadPoolExecutor(1) as disk, closing(ordered(one, wanted, threads=threads)) as results:
        for done, (position, result) in enumerate(zip(wanted, results, strict=True), start=1):
            for filling, clip in result:
                filling.take(position, clip, disk)
            progress(done)
        for filling in fillings:
            filling.written()


@contextmanager
def _full_disk(place: Path) -> Iterator[None]:
    """Say what to do when the disk fills up; nothing that was published is lost by it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SpaceError(
            f"The disk of {place} is full: {error.strerror}.",
            todo="Free space there and run the same command again: it goes on where it stopped.",
        ) from error


def _filling(tree: Tree, manifest: Manifest, job: Job, device: str) -> _Filling:
    if not job.path.exists():
        create(job.path, job.header, manifest)
    writer = Writer(job.path)
    pending = job_for(tree, manifest, job.path, job.header).pending  # another process may have written since `prepare`
    writer.reopen(pending)
    return _Filling(writer, target(writer.header, device, job.tags), frozenset(pending))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise AudioError("unreadable", f"{file} cannot be read: {error.strerror}", todo="Check the path.") from error
