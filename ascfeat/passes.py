"""The pass over the recordings: clip by clip on threads of this process, or unit by unit wherever workers are."""

from __future__ import annotations

import io
import pickle
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ascfeat.datasets.tree import Tree
from ascfeat.pools import Pool, each
from ascfeat.store import Folder, Row, Writer, unit_rows
from ascfeat.stretches import Stretch, nested, positions, stretches
from ascfeat.tags import TagSource, TagTable
from ascfeat.units import (
    AGAIN,
    Assignment,
    Done,
    Errand,
    Failed,
    Filling,
    Opened,
    Shelf,
    WorkerError,
    errand,
    fill,
    fill_apart,
    find_landmark,
    installed,
    publish,
    rows_of,
)
from ascfeat.work import Reuse, Target, ordered, target
from ascschemas.store import StoreHeader

Progress = Callable[[int], None]
Say = Callable[[str], None]

LOOK_AGAIN_SECONDS = 0.2
"""Between two looks for what another machine has written."""


@dataclass
class Course:
    """A store under work, as the one process sees it that holds its lock."""

    writer: Writer
    units: tuple[int, ...]
    """Those to compute, ascending."""
    tags: TagSource | None = None
    reuse: Reuse | None = None
    still_ours: Callable[[], None] = lambda: None
    """Raises when the lock was lost; workers have no part in it."""
    taken: int = 0
    """Clips of these units whose values are there already, in stores that ``reuse`` asks."""
    computed: int = 0
    """Clips whose units are published by now, those included."""
    start: float = field(default_factory=time.perf_counter)

    @property
    def header(self) -> StoreHeader:
        """The store's."""
        return self.writer.header

    def target(self, device: str) -> Target:
        """The store's recipe, ready to compute on a device."""
        return target(self.header, device, self.tags, self.reuse, devices=self.writer.recorders)

    def published(self, units: Sequence[int]) -> None:
        """Count the clips of units that are written."""
        self.computed += sum(stop - first for first, stop in (unit_rows(self.header, u) for u in units))


def together(courses: Sequence[Course]) -> Iterator[Stretch]:
    """The stretches of all stores at once: every recording is in one of them."""
    return stretches([(c.header, c.units) for c in courses])


def apart(courses: Sequence[Course]) -> Iterator[Stretch]:
    """The stretches that workers are given: a recording is in two of them where unit sizes do not divide each other."""
    for group in nested([c.header for c in courses]):
        yield from stretches([(c.header, c.units if i in group else ()) for i, c in enumerate(courses)])


def clip_by_clip(
    tree: Tree, ids: Sequence[str], courses: Sequence[Course], *, device: str, threads: int, progress: Progress
) -> None:
    """Fill stores in this process: clips are under way on threads, units are written in order behind them."""
    landmark = find_landmark(tree, ids)
    fillings = [Filling(c.writer, c.target(device), frozenset(c.units)) for c in courses]

    def one(position: int) -> list[tuple[Filling, Row]]:
        return rows_of(tree, fillings, position, ids[position])

    with ThreadPoolExecutor(1) as disk:
        behind = [_Behind(disk, course, partial(publish, tree=tree, landmark=landmark)) for course in courses]
        of = dict(zip(map(id, fillings), behind, strict=True))
        with closing(ordered(one, positions(together(courses)), threads=threads)) as results:
            wanted = positions(together(courses))
            for done, (position, result) in enumerate(zip(wanted, results, strict=True), start=1):
                for filling, clip in result:
                    complete = filling.take(position, clip)
                    if complete is not None:
                        of[id(filling)].write(*complete)
                progress(done)
        for course_behind in behind:
            course_behind.written()


def unit_by_unit(
    tree: Tree,
    ids: Sequence[str],
    courses: Sequence[Course],
    pool: Pool,
    *,
    device: str,
    progress: Progress,
    say: Say,
) -> None:
    """Fill stores by workers that are given whole units; the bytes are those of :func:`clip_by_clip`.

    Raises
    ------
    WorkerError
        When a worker cannot do its part, or writes where this process does not see it.
    PoolError
        When workers keep dying, or are gone.
    """
    assignment = _assignment(tree, ids, courses, device)
    if pool.apart:
        _refuse_unsendable(courses, pool)
        function: Callable[[Errand], Done | Failed] = partial(fill_apart, _pickled(assignment, pool))
    else:
        function = partial(fill, _opened(assignment, tree, courses), stop=pool.stopped)
    errands = (errand(s, ids[s.first : s.stop], [c.tags for c in courses]) for s in apart(courses))
    clips = 0
    with closing(each(pool, function, errands, say=say)) as answers:
        for task, answer in answers:
            if isinstance(answer, Failed):
                raise answer.error()
            for number, units in task.stretch.units:
                courses[number].still_ours()
                _see(courses[number], units, answer, pool.patience)
                courses[number].published(units)
            clips += len(task.clips)
            progress(clips)


@dataclass
class _Behind:
    """Writes a unit of a store while the next one is computed, and no more than one."""

    disk: Executor
    course: Course
    publish: Callable[..., None]
    unit: int = -1
    writing: Future[None] | None = None

    def write(self, unit: int, rows: list[Row]) -> None:
        """Hand a unit over; waits until the one before it is written."""
        self.written()
        self.unit, self.writing = unit, self.disk.submit(self.publish, self.course.writer, unit, rows)

    def written(self) -> None:
        """Wait for the unit that is being written; what kept it from being written is raised here."""
        if self.writing is not None:
            self.writing.result()
            self.course.published([self.unit])
            self.writing = None


def _assignment(tree: Tree, ids: Sequence[str], courses: Sequence[Course], device: str) -> Assignment:
    return Assignment(
        dataset=(type(tree), tree.root.absolute()),
        landmark=find_landmark(tree, ids),
        shelves=tuple(Shelf(c.writer.place, c.header, c.reuse) for c in courses),
        device=device,
        software=installed(c.header for c in courses),
        job=uuid.uuid4().hex,
    )


def _opened(assignment: Assignment, tree: Tree, courses: Sequence[Course]) -> Opened:
    """An assignment for threads of this process, which share what is open here already."""
    targets = tuple(c.target(assignment.device) for c in courses)
    return Opened(assignment, tree, tuple(c.writer for c in courses), targets)


def _pickled(assignment: Assignment, pool: Pool) -> bytes:
    described = io.BytesIO()
    try:
        _FromAnyFolder(described).dump(assignment)
    except Exception as error:  # pickle raises whatever an object leads it to
        raise WorkerError(
            f"This job cannot be described to {pool}: {error}",
            todo="Use --workers threads:N, which stay in this process.",
        ) from error
    return described.getvalue()


class _FromAnyFolder(pickle.Pickler):
    """Writes folders by their whole path: another process may work in another folder. Links are not followed."""

    def reducer_override(self, value: Any) -> Any:
        """How a folder is made again; everything else as usual."""
        return (Folder, (value.path.absolute(),)) if isinstance(value, Folder) else NotImplemented


def _refuse_unsendable(courses: Sequence[Course], pool: Pool) -> None:
    """A callable that gives tags lives in this process only; tables of tags travel row by row."""
    for course in courses:
        if course.tags is None or isinstance(course.tags, TagTable):
            continue
        try:
            pickle.dumps(course.tags)
        except Exception as error:  # as above
            raise WorkerError(
                f"The tags of {course.header.recipe.name} come from a callable; {pool} cannot be sent it: {error}",
                todo="Use --workers threads:N, or save the tags as .csv or .npy first.",
            ) from error


def _see(course: Course, units: Sequence[int], done: Done, patience: float) -> None:
    """Make sure that what a worker has written is seen here: a folder of that path may be the worker's own."""
    until = time.monotonic() + patience
    for unit in units:
        while not course.writer.written(unit * course.header.clips_per_unit):
            if time.monotonic() >= until:
                raise WorkerError(
                    f"A worker on {done.host} (process {done.pid}) wrote unit {unit} of {course.writer.place}, "
                    "and here it is not to be seen.",
                    todo=f"Put --features on a folder that all machines share, or on s3://, {AGAIN}",
                )
            time.sleep(LOOK_AGAIN_SECONDS)
