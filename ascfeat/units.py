"""The function that computes and writes whole units, wherever it runs: in a thread, a process, on another machine."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ascfeat.audio import decoder_versions, digest, read
from ascfeat.datasets.tree import Tree
from ascfeat.dsp.devices import resolve_device
from ascfeat.store import Row, Store, Writer, row, unit_rows
from ascfeat.store.places import Place
from ascfeat.stretches import Stretch
from ascfeat.tags import KIND, TagSource, TagTable
from ascfeat.work import OneClip, Reuse, Target, target
from ascschemas import problems
from ascschemas.problems import AscError, AudioError, DatasetError, Difference, SpaceError, StoreError
from ascschemas.store import StoreHeader

LOOKED_AT = 1000
"""Clips that are looked at to find one that can be read."""
GONE = frozenset({"missing", "unreadable"})
"""Reasons that a dataset folder gives for every clip once it is not mounted any more."""
AGAIN = "then run the same command again: it goes on where it stopped."


class WorkerError(AscError):
    """A worker that cannot do its part, or a cluster that is gone."""


class Stopped(Exception):
    """The person who started the job wants no more of it; what is not published is dropped."""


@dataclass(frozen=True)
class Landmark:
    """A recording by which a dataset folder is known again: on another machine, and after an hour."""

    clip: str
    content: str
    """SHA-256 of its bytes."""

    def there(self, tree: Tree) -> bool:
        """Whether it still can be read."""
        return _content(tree, self.clip) is not None

    def refuse_other(self, tree: Tree) -> None:
        """Raise where a folder is not the one that the landmark was found in.

        Raises
        ------
        DatasetError
            When the recording is not there, or is another.
        """
        found = _content(tree, self.clip)
        if found != self.content:
            what = "another recording of that name" if found else "no such recording"
            raise DatasetError(
                f"The dataset folder {tree.root} is not the one that the job was planned from.",
                differences=[Difference(field=self.clip, expected=f"content {self.content[:12]}…", found=what)],
                todo=f"Mount the dataset at this path on every machine that works, {AGAIN}",
            )


@dataclass(frozen=True)
class Shelf:
    """One store as a worker knows it."""

    place: Place
    header: StoreHeader
    reuse: Reuse | None = None


@dataclass(frozen=True)
class Assignment:
    """What every worker of a job is told once; it can be pickled, and holds nothing that is large."""

    dataset: tuple[type[Tree], Path]
    """What reads the dataset folder, and the folder."""
    landmark: Landmark | None
    shelves: tuple[Shelf, ...]
    device: str
    software: Mapping[str, str]
    """Versions that can change a value, as they are where the job was planned."""
    job: str
    """A word of its own for each run, so that a worker that outlives one opens everything anew for the next."""


@dataclass(frozen=True)
class Errand:
    """What one call is told: a stretch of the list, the names of its clips, and their tags."""

    stretch: Stretch
    clips: tuple[str, ...]
    tags: Mapping[int, TagSource] = field(default_factory=dict)
    """By number of the store."""

    def __str__(self) -> str:
        return f"{len(self.clips)} clips from {self.clips[0]}"


@dataclass(frozen=True)
class Done:
    """What one call answers: features never travel."""

    stretch: Stretch
    excluded: int
    """Clips of which a store holds no values, counted once a store."""
    seconds: float
    host: str
    pid: int


@dataclass(frozen=True)
class Failed:
    """Why a call could not do its part, as words: errors of some libraries cannot be pickled."""

    kind: str
    """Name of the error's class."""
    what: str
    todo: str
    differences: tuple[Difference, ...]
    host: str
    pid: int

    def error(self) -> AscError:
        """The error to raise where the job was started; it names the worker."""
        known = getattr(problems, self.kind, None)
        cls = known if known in (DatasetError, SpaceError, StoreError) else WorkerError
        what = f"A worker on {self.host} (process {self.pid}) stopped the job: {self.what}"
        made: AscError = cls(what, todo=self.todo, differences=self.differences)
        return made


@dataclass(frozen=True)
class Opened:
    """An assignment with everything open that it names: made once in a process, used by all its threads."""

    assignment: Assignment
    tree: Tree
    writers: tuple[Writer, ...]
    targets: tuple[Target | None, ...]
    """A transform for each store; None for stores of tags, whose rows come with the errand."""


@dataclass
class Filling:
    """A store being filled: collects its clips in order until a unit is complete."""

    writer: Writer
    target: Target
    units: frozenset[int]
    """Those to compute."""
    rows: list[Row] = field(default_factory=list)

    def wants(self, position: int) -> bool:
        """Whether a clip belongs to one of the units."""
        return position // self.writer.header.clips_per_unit in self.units

    def take(self, position: int, clip: Row) -> tuple[int, list[Row]] | None:
        """Take the next clip; the unit and its rows, where it completes one."""
        unit = position // self.writer.header.clips_per_unit
        self.rows.append(clip)
        if position + 1 < unit_rows(self.writer.header, unit)[1]:
            return None
        rows, self.rows = self.rows, []
        return unit, rows


def find_landmark(tree: Tree, clips: Iterable[str]) -> Landmark | None:
    """The first clip of a list that can be read; None where none of the first thousand can."""
    for clip, _ in zip(clips, range(LOOKED_AT), strict=False):
        content = _content(tree, clip)
        if content is not None:
            return Landmark(clip, content)
    return None


def errand(stretch: Stretch, clips: Sequence[str], tags: Sequence[TagSource | None]) -> Errand:
    """A stretch with all that it takes: of a table of tags only its clips' rows."""
    sources = {number: only(source, clips) for number, _ in stretch.units if (source := tags[number]) is not None}
    return Errand(stretch, tuple(clips), sources)


def only(source: TagSource, clips: Sequence[str]) -> TagSource:
    """A source of the same tags that knows some clips only, where it is a table; else the source itself."""
    if not isinstance(source, TagTable):
        return source
    return replace(source, rows={c: source.rows[c] for c in clips if c in source.rows})


def rows_of(tree: Tree, fillings: Sequence[Filling], position: int, clip: str) -> list[tuple[Filling, Row]]:
    """One clip, computed for every store that wants it and ready to be written."""
    takers = [f for f in fillings if f.wants(position)]
    results = OneClip(tree, [f.target for f in takers])(position, clip)
    return [
        (f, row(record, values, f.writer.header, clip=clip))
        for f, (record, values) in zip(takers, results, strict=True)
    ]


def publish(writer: Writer, unit: int, rows: Sequence[Row], *, tree: Tree, landmark: Landmark | None) -> None:
    """Write a unit, unless clips of it are gone because the whole dataset folder is.

    Raises
    ------
    DatasetError
        When recordings could not be read and the landmark cannot be either: nothing of the unit is written.
    """
    if landmark is not None and any(r.record.excluded in GONE for r in rows) and not landmark.there(tree):
        raise DatasetError(
            f"The dataset folder {tree.root} is not there any more: {landmark.clip} could be read and now cannot.",
            todo=f"Mount it again, {AGAIN}",
        )
    writer.write(unit, rows)


def fill(opened: Opened, task: Errand, stop: Callable[[], bool] = lambda: False) -> Done:
    """Compute the clips of an errand, one by one, and write each unit when it is complete.

    Doing it twice, or in two places at once, gives the same bytes.

    Raises
    ------
    Stopped
        As soon as ``stop`` says so; what is published by then stays.
    """
    start = time.perf_counter()
    fillings = [_filling(opened, number, units, task) for number, units in task.stretch.units]
    excluded = 0
    for position, clip in enumerate(task.clips, task.stretch.first):
        if stop():
            raise Stopped
        for filling, made in rows_of(opened.tree, fillings, position, clip):
            excluded += bool(made.record.excluded)
            complete = filling.take(position, made)
            if complete is not None:
                publish(filling.writer, *complete, tree=opened.tree, landmark=opened.assignment.landmark)
    return Done(task.stretch, excluded, time.perf_counter() - start, socket.gethostname(), os.getpid())


def fill_apart(assignment: bytes, task: Errand) -> Done | Failed:
    """:func:`fill` for another process, which opens what a pickled assignment names at its first call."""
    try:
        return fill(opened_once(assignment), task)
    except OSError as error:
        return _failed(said(error))
    except AscError as error:
        return _failed(error)
    except Exception as error:  # a mistake in a plug-in, say: its words must get home, whatever class it is
        return _failed(WorkerError(f"{type(error).__name__}: {error} (at {task}).", todo=f"Correct it, {AGAIN}"))


def open_assignment(assignment: Assignment) -> Opened:
    """Open what an assignment names, and make sure that it is what the job was planned with.

    Raises
    ------
    WorkerError
        When other versions of libraries are installed here, or a store is not to be seen from here.
    DatasetError
        When the dataset is not.
    """
    refuse_other_software(assignment.software, installed(s.header for s in assignment.shelves))
    cls, root = assignment.dataset
    try:
        tree = cls(root)
    except DatasetError as error:
        todo = f"Mount the dataset at this path on every machine that works, {AGAIN}"
        raise DatasetError(error.what, todo=todo, differences=error.differences) from error
    if assignment.landmark is not None:
        assignment.landmark.refuse_other(tree)
    writers = tuple(_writer(shelf) for shelf in assignment.shelves)
    device = resolve_device(assignment.device)
    targets = tuple(_target(s, w, device) for s, w in zip(assignment.shelves, writers, strict=True))
    return Opened(assignment, tree, writers, targets)


def installed(headers: Iterable[StoreHeader]) -> dict[str, str]:
    """Versions here of everything that can change a value of some stores; ``absent`` where it is not installed."""
    found: dict[str, str] = {}
    for header in headers:
        decoders = decoder_versions(header.audio, header.recipe.decode)
        found.update({name: decoders.get(name) or _version(name) for name in header.software})
    return found


def refuse_other_software(expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise where versions found here are not the expected ones: values could differ.

    Raises
    ------
    WorkerError
        With both versions of each library that differs.
    """
    apart = [
        Difference(field=name, expected=v, found=found.get(name, "absent"))
        for name, v in expected.items()
        if found.get(name) != v
    ]
    if apart:
        raise WorkerError(
            "It has other versions of libraries that can change a value.",
            differences=apart,
            todo=f"Install the same versions on every machine that works, {AGAIN}",
        )


def said(error: OSError) -> AscError:
    """What a disk or a server refused, in words."""
    if isinstance(error, AscError):
        return error
    where = error.filename or "a folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceError(f"The disk of {where} is full: {error.strerror}.", todo=f"Free space there, {AGAIN}")
    why = error.strerror or str(error) or type(error).__name__
    return WorkerError(f"{where} cannot be used: {why}.", todo=f"Check that it is mounted and its rights, {AGAIN}")


_OPENING = threading.Lock()


def opened_once(assignment: bytes) -> Opened:
    """What a pickled assignment names, opened by the first thread of this process that asks."""
    with _OPENING:
        return _opened(assignment)


@lru_cache(maxsize=1)
def _opened(assignment: bytes) -> Opened:
    return open_assignment(pickle.loads(assignment))


def _writer(shelf: Shelf) -> Writer:
    """A store to write units to; the coordinator has swept it, holds its lock and alone changes its metadata."""
    try:
        writer = Writer(shelf.place, sweep=False)
    except StoreError as error:
        raise WorkerError(
            f"The store {shelf.place} is not to be seen from here: {error.what}",
            todo=f"Put --features on a folder that every machine sees at this path, or on s3://, {AGAIN}",
        ) from error
    if writer.header != shelf.header:
        raise WorkerError(
            f"The store {shelf.place} is another one here than where the job was started.",
            todo=f"Put --features on a folder that all machines share, or on s3://, {AGAIN}",
        )
    return writer


def _target(shelf: Shelf, store: Store, device: str) -> Target | None:
    if shelf.header.recipe.representation.kind == KIND:
        return None
    return target(shelf.header, device, reuse=shelf.reuse, devices=store.recorders)


def _filling(opened: Opened, number: int, units: Sequence[int], task: Errand) -> Filling:
    made = opened.targets[number]
    if made is None:
        shelf = opened.assignment.shelves[number]
        made = target(shelf.header, "cpu", task.tags.get(number), shelf.reuse)
    return Filling(opened.writers[number], made, frozenset(units))


def _failed(error: AscError) -> Failed:
    name = type(error).__name__
    return Failed(name, error.what, error.todo, error.differences, socket.gethostname(), os.getpid())


def _content(tree: Tree, clip: str) -> str | None:
    try:
        return digest(read(tree, clip))
    except AudioError:
        return None


def _version(name: str) -> str:
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return "absent"
