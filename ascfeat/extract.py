"""Extraction: one pass over the recordings fills one or several feature stores, and goes on where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from os import cpu_count
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ascfeat.audio import Recording, decode, waveform_format
from ascfeat.certificate import certify
from ascfeat.datasets import open_dataset
from ascfeat.datasets.tree import Tree
from ascfeat.dsp.devices import resolve_device
from ascfeat.jobs import Job, check_space, prepare, ready
from ascfeat.lock import exclusive
from ascfeat.passes import Course, clip_by_clip, unit_by_unit
from ascfeat.pools import Pool
from ascfeat.reuse import settle
from ascfeat.store import Store
from ascfeat.store.places import Place
from ascfeat.stretches import Stretch, nested, positions, stretches
from ascfeat.tags import KIND, Given, for_other_clips, open_tags
from ascfeat.units import said
from ascfeat.work import OneClip, recorded_by, target
from ascschemas.certificate import Certificate
from ascschemas.dataset import AudioFormat, Manifest
from ascschemas.problems import AudioError, Difference, RecipeError, SpaceError, StoreError, nearest
from ascschemas.recipe import FeatureRecipe
from ascschemas.store import ClipRecord, StoreHeader

Values = npt.NDArray[np.float32]

SAMPLE = 3
"""Clips that a forecast is made from."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    place: Place
    header: StoreHeader
    computed: int
    """Clips that were computed now."""
    excluded: dict[str, ClipRecord]
    """Clips of the whole store that hold no values, with their reasons."""
    seconds: float
    certificate: Certificate | None = None
    """How far the store lies from the reference, where it was sealed now."""
    taken: int = 0
    """Clips whose values were taken from an older state of the store, or from a library."""


def forecast_seconds(
    tree: Tree, manifest: Manifest, jobs: Sequence[Job], *, device: str = "auto", at_once: int
) -> float:
    """About how long the jobs will take, from doing a few of their clips now and keeping nothing."""
    ids, devices = [c.id for c in manifest.clips], [c.device for c in manifest.clips]
    at = resolve_device(device)
    recorders = [recorded_by(j.header, ids, devices) for j in jobs]
    one = OneClip(tree, [target(j.header, at, j.tags, devices=r) for j, r in zip(jobs, recorders, strict=True)])
    known = frozenset.intersection(*(j.reused for j in jobs))
    count = recordings(jobs) - len(known)
    lacking = (i for i in positions(_lacking(jobs)) if i not in known)
    spread = islice(lacking, min(1, count - 1), None, max(1, count // SAMPLE)) if count > 0 else ()
    sample = [(i, manifest.clips[i].id) for i in islice(spread, SAMPLE)]
    if not sample:
        return 0.0
    one(*sample[0])  # the first call plans its transforms
    start = time.perf_counter()
    for clip in sample:
        one(*clip)
    return (time.perf_counter() - start) / len(sample) * count / at_once


def recordings(jobs: Sequence[Job], *, apart: bool = False) -> int:
    """Recordings that will be decoded: each once, or by workers once for each group of unit sizes that nest."""
    groups = nested([j.header for j in jobs]) if apart else [range(len(jobs))]
    return sum(len(s) for group in groups for s in _lacking([jobs[i] for i in group]))


def run(
    tree: Tree,
    manifest: Manifest,
    jobs: Sequence[Job],
    *,
    device: str = "auto",
    threads: int | None = None,
    workers: Pool | None = None,
    wait: Callable[[str], None] | None = None,
    progress: Callable[[int], None] = lambda done: None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """Fill and seal the stores of some jobs over one dataset; every recording is decoded once.

    This process holds the stores' locks from the first to the last byte, creates them and seals them; workers only
    write units. The stored bytes depend on neither threads nor workers.

    Parameters
    ----------
    tree, manifest
        The dataset.
    jobs : sequence of Job
        From ``ascfeat.jobs.prepare``. What is already done of them is not done again.
    device : str
        ``auto``, ``cpu`` or ``cuda:i``.
    threads : int, optional
        Clips under way at once where there are no workers, and units checked at once before a seal; as many as there
        are CPUs by default.
    workers : Pool, optional
        Where whole units are computed: ``ascfeat.pools.Threads``, ``Processes``, or a cluster.
    wait : callable, optional
        Waits for another writer of a store, and is told who it is; without it, that is an error.
    progress : callable
        Given the number of recordings that are done.
    say : callable
        Given a line for the person who waits, where workers died and the like.

    Raises
    ------
    StoreError
        When another process writes one of the stores, or a store cannot be sealed.
    SpaceError
        When the disk is full; what is done stays done.
    WorkerError, PoolError
        When workers cannot do their part, or are gone; what is done stays done.
    """
    todo = [j for j in jobs if j.pending or not j.sealed or j.leftovers]
    with ExitStack() as held:
        locks = {  # taken in one order, so that two jobs never wait for each other
            job.place: held.enter_context(exclusive(job.place, wait=wait))
            for job in sorted(todo, key=lambda j: j.place.absolute)
        }
        with _full_disk():
            at = resolve_device(device)
            courses = [_course(tree, manifest, job, locks[job.place].check) for job in todo]
            if any(c.units for c in courses):
                ids = [c.id for c in manifest.clips]
                if workers is None:
                    clip_by_clip(tree, ids, courses, device=at, threads=threads or cpu_count() or 1, progress=progress)
                else:
                    unit_by_unit(tree, ids, courses, workers, device=at, progress=progress, say=say)
            done = _finished(courses, tree, at, threads or cpu_count() or 1)
    return [done.get(j.place) or Outcome(j.place, j.header, 0, Store(j.place).excluded(), 0.0) for j in jobs]


def extract(
    dataset: Path | str,
    recipes: Sequence[FeatureRecipe],
    features: Place | Path | str = "features",
    *,
    kind: str | None = None,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    workers: Pool | None = None,
    tags: Given | None = None,
) -> list[Outcome]:
    """Bring the feature stores of a dataset up to date.

    Parameters
    ----------
    dataset : path
        The dataset folder.
    recipes : sequence of FeatureRecipe
        From ``ascfeat.recipes.load_recipe``.
    features : path, URL or Place
        Where the stores lie: ``<features>/<dataset>/<recipe>.zarr``.
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
    jobs = prepare(tree, manifest, recipes, features, device=device, backend=backend, tags=tags)
    check_space(jobs)
    return run(tree, manifest, jobs, device=device, threads=threads, workers=workers)


def features_of(
    files: Sequence[Path], header: StoreHeader, *, device: str = "cpu", recorder: str = "", tags: Given | None = None
) -> Iterator[tuple[Path, Values | AudioError]]:
    """Features of audio files outside any dataset, exactly as a store with this header holds them.

    Parameters
    ----------
    recorder : str
        The device that recorded them, where the store's recipe corrects devices; by default they are not corrected.
    tags : path, str, callable or TagSource, optional
        Where a store of tags takes theirs from: the tagger that the store was made by, or a table of these recordings
        with the same tags.

    Raises
    ------
    RecipeError
        When the recipe does not correct that device.
    TagsError
        When a store of tags is given none, those of another tagger, or a table of other tags.

    Yields
    ------
    file, features : Path, and array of shape ``layout.shape`` or the reason why there is none
    """
    of_device, source = _by_recorder(header, recorder), None
    if header.recipe.representation.kind == KIND and tags is not None:
        audio = waveform_format(header.audio, header.recipe.decode)
        source = open_tags(tags, [str(file) for file in files], audio, device=device)
        header = header.model_copy(update={"recipe": for_other_clips(header.recipe, source)})
    made = target(header, resolve_device(device), source, devices={str(file): of_device for file in files})
    for file in files:
        try:
            yield file, made.features(decode(_bytes(file), str(file)), str(file))
        except AudioError as error:
            yield file, error


def features_from(header: StoreHeader, *, device: str = "cpu", recorder: str = "") -> Callable[[Values, int], Values]:
    """A callable ``(waveform (channel, samples), sample_rate) -> features``, as a store with this header holds them.

    It raises AudioError where a waveform is not what the store's recipe takes. ``recorder`` is as in ``features_of``.
    """
    devices = {"the waveform": _by_recorder(header, recorder)}
    made = target(header, resolve_device(device), devices=devices)
    return lambda waveform, sample_rate: made.features(Recording(waveform, sample_rate), "the waveform")


def heard(header: StoreHeader, audio: AudioFormat, *, whole: bool) -> StoreHeader:
    """A store's description for recordings of another format, which are brought to what the store was made from.

    Parameters
    ----------
    header : StoreHeader
        Of a store that a network was trained from.
    audio : AudioFormat
        Rate, channels and length of the recordings. They are resampled to the rate of the store's waveforms; averaged
        where its recipe averages channels.
    whole : bool
        Keep their length, where they would otherwise have to have that of the store's clips, or be cut or filled as
        its recipe says.
    """
    spec, trained = header.recipe.decode, waveform_format(header.audio, header.recipe.decode)
    seconds = trained.frames / trained.sample_rate if spec.seconds == "native" else spec.seconds
    decode = spec.model_copy(update={"sample_rate": trained.sample_rate, "seconds": "native" if whole else seconds})
    channels = audio.channels if spec.channels == "mono_mean" else header.audio.channels
    recipe = header.recipe.model_copy(update={"decode": decode})
    return header.model_copy(update={"recipe": recipe, "audio": audio.model_copy(update={"channels": channels})})


def _by_recorder(header: StoreHeader, recorder: str) -> str:
    """A recording device's name, if a store's recipe corrects it; or none."""
    known = header.recipe.correction.devices if header.recipe.correction else ()
    if recorder and recorder not in known:
        words = nearest(recorder, known) if known else "it corrects none."
        raise RecipeError(
            f"The features {header.recipe.name} correct no device {recorder!r}: {words}",
            differences=[Difference(field="device", expected=", ".join(known) or "none", found=recorder)],
            todo="Name one of these devices, or none: the recordings are then not corrected.",
        )
    return recorder


def _finished(courses: Sequence[Course], tree: Tree, device: str, threads: int) -> dict[Place, Outcome]:
    """Seal every store that can be sealed; what keeps one from it is raised when all others are."""
    done, refused = {}, []
    for course in courses:
        try:
            done[course.writer.place] = _finish(course, tree, device, threads)
        except StoreError as error:
            refused.append(error)
    if refused:
        raise refused[0]
    return done


def _finish(course: Course, tree: Tree, device: str, threads: int) -> Outcome:
    writer = course.writer
    seal = writer.seal or writer.finish(lambda store: certify(store, tree, device=device), threads=threads)
    settle(writer.place, still_ours=course.still_ours)  # of the states that it was made from
    spent = time.perf_counter() - course.start
    taken = min(course.taken, course.computed)
    computed, excluded = course.computed - taken, writer.excluded()
    return Outcome(writer.place, writer.header, computed, excluded, spent, seal.certificate, taken)


@contextmanager
def _full_disk() -> Iterator[None]:
    """Say what to do when the disk fills up; nothing that was published is lost by it."""
    try:
        yield
    except OSError as error:
        words = said(error)
        if not isinstance(words, SpaceError):
            raise
        raise words from error


def _course(tree: Tree, manifest: Manifest, job: Job, still_ours: Callable[[], None]) -> Course:
    writer, todo = ready(tree, manifest, job, still_ours=still_ours)
    taken = len(todo.clips) - len(todo.computing)
    return Course(writer, todo.pending, todo.tags, todo.reuse, still_ours, taken)


def _lacking(jobs: Sequence[Job]) -> Iterator[Stretch]:
    return stretches([(j.header, j.pending) for j in jobs])


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise AudioError("unreadable", f"{file} cannot be read: {error.strerror}", todo="Check the path.") from error
