"""The run folder: what made a run, its curves, and checkpoints that are written aside and then published whole."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from ascmodels.team import Team
from ascmodels.weights import FINISHED, SUMS, sha256, way_on
from ascschemas.base import Frozen
from ascschemas.problems import Difference, RunError, differences
from ascschemas.run import Environment, EpochRecord, Finished, Progress, RunData, Session
from ascschemas.training import TrainingRecipe

CONFIG, DATA, ENVIRONMENT = "config.json", "data.json", "environment.json"
CURVES, PROGRESS, CHECKPOINTS, LOCK = "curves.csv", "progress.json", "checkpoints", ".lock"

Value = TypeVar("Value", bound=Frozen)


class RunFolder:
    """A run on disk.

    ::

        config.json  data.json  environment.json      what made it
        curves.csv  curves.png                        how it went
        checkpoints/0007/{weights.safetensors, state.pt, sha256.json, progress.json}
        finished.json                                 written last

    Checkpoints of the last and of the selected epoch are kept.

    Parameters
    ----------
    path : Path
        The folder.

    Raises
    ------
    RunError
        When it is no run folder, or a file of it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.recipe = read(self.path / CONFIG, TrainingRecipe)
        self.data = read(self.path / DATA, RunData)

    @property
    def finished(self) -> Finished | None:
        """How the run ended; None while it has not."""
        file = self.path / FINISHED
        return read(file, Finished) if file.is_file() else None

    def progress(self) -> Progress:
        """How far the run has come: the progress of its last checkpoint."""
        last = max(self.epochs(), default=0)
        return read(self.checkpoint(last) / PROGRESS, Progress) if last else Progress()

    def trained(self) -> Progress:
        """The progress of a run that has learnt something.

        Raises
        ------
        RunError
            When its first epoch has not finished.
        """
        progress = self.progress()
        if not progress.epoch:
            raise RunError(f"{self.path} has no checkpoint yet.", todo="Let training finish its first epoch.")
        return progress

    def epochs(self) -> list[int]:
        """Epochs that have a checkpoint."""
        found = (p.name for p in (self.path / CHECKPOINTS).glob("[0-9]*"))
        return sorted(int(name) for name in found if name.isdigit())

    @staticmethod
    def has_checkpoints(path: Path) -> bool:
        """Whether a folder has any checkpoint, whatever else it has."""
        return any((path / CHECKPOINTS).glob("[0-9]*"))

    def checkpoint(self, epoch: int) -> Path:
        """The folder of an epoch's checkpoint."""
        return self.path / CHECKPOINTS / f"{epoch:04d}"

    def publish(self, progress: Progress, write: Callable[[Path], None]) -> None:
        """Publish the checkpoint of the epoch that ``progress`` ends with, and drop those no longer needed.

        Parameters
        ----------
        progress : Progress
            Records of all epochs so far.
        write : callable
            Writes weights and state into the folder it is given.

        Raises
        ------
        RunError
            When the disk refuses; what was published before stays.
        """
        final = self.checkpoint(progress.epoch)
        aside = _aside(final)
        try:
            shutil.rmtree(aside, ignore_errors=True)
            final.parent.mkdir(exist_ok=True)  # not those above it: they may lie on a share that was unmounted
            aside.mkdir()
            write(aside)
            (aside / SUMS).write_text(_sums(aside), encoding="utf-8")
            (aside / PROGRESS).write_text(progress.model_dump_json(indent=1), encoding="utf-8")
            for path in (*aside.iterdir(), aside):
                _sync(path)
            aside.rename(final)
            _sync(final.parent)
            self.write_curves(progress)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError when a disk is full
            raise self._cannot_write(error, progress.epoch) from error
        self._prune({progress.epoch, progress.selected})

    def write_curves(self, progress: Progress) -> None:
        """Write ``curves.csv``: a line an epoch."""
        _write(self.path / CURVES, _csv(progress, self.recipe.metric))

    def finish(self, finished: Finished) -> Finished:
        """Write down that training is over."""
        _write(self.path / FINISHED, finished.model_dump_json(indent=1))
        return finished

    def _prune(self, kept: set[int]) -> None:
        for epoch in set(self.epochs()) - kept:
            shutil.rmtree(self.checkpoint(epoch), ignore_errors=True)

    def _cannot_write(self, error: OSError | RuntimeError, epoch: int) -> RunError:
        if not self.path.is_dir():
            return RunError(
                f"{self.path} is not there any more: the checkpoint of epoch {epoch} cannot be written.",
                todo="Mount it again, or put it back, then run the same command with --resume.",
            )
        why = getattr(error, "strerror", None) or "the disk is full, or broken"  # torch's own words name its source
        kept = "earlier checkpoints are kept" if self.epochs() else "no epoch had finished"
        return RunError(
            f"The checkpoint of epoch {epoch} cannot be written to {self.path}: {why}.",
            todo=f"Make room or mend the disk, then run the same command with --resume: {kept}.",
        )


@contextmanager
def open_run(
    path: Path, recipe: TrainingRecipe, data: RunData, session: Session, *, resume: bool
) -> Iterator[RunFolder]:
    """Open a run folder for training, alone: a new one, or one to go on with.

    Raises
    ------
    RunError
        When the folder holds something else, another process trains in it, it was not asked to go on, or it was made
        from another recipe or other data (the differing fields are named).
    """
    _require_ours(path)
    with _alone(path):
        if (path / DATA).is_file():
            folder = RunFolder(path)
        if (path / DATA).is_file() and (folder.finished or folder.epochs()):
            _require_same(folder, recipe, data)
            _require_consent(folder, resume)
            _require_selected(folder)
        else:  # a start that was refused or stopped before its first epoch leaves nothing to go on with
            _write(path / CONFIG, recipe.model_dump_json(indent=1))
            _write(path / DATA, data.model_dump_json(indent=1))  # last: with it, the folder is a run
            folder = RunFolder(path)
        if not folder.finished:
            _remember(path / ENVIRONMENT, session)
        yield folder


@contextmanager
def open_together(
    team: Team, path: Path, recipe: TrainingRecipe, data: RunData, session: Session, *, resume: bool
) -> Iterator[RunFolder]:
    """The same for processes that train together: the one that leads opens the folder, the others read it.

    Raises
    ------
    RunError
        As ``open_run``, in every process.
    """
    with ExitStack() as stack:
        if team.leads:
            try:
                folder = stack.enter_context(open_run(path, recipe, data, session, resume=resume))
            except BaseException:
                team.said(False)
                raise
            team.said(True)
        elif team.said(None):
            folder = RunFolder(path)
        else:
            raise RunError(f"The process that leads cannot train in {path}.", todo="See what it says.")
        yield folder


def read(file: Path, model: type[Value]) -> Value:
    """A file of a run folder, checked.

    Raises
    ------
    RunError
        When it is missing or does not hold what it should.
    """
    try:
        return model.model_validate_json(file.read_bytes())
    except OSError as error:
        raise RunError(
            f"{file.parent} is not a run folder: {file.name} cannot be read ({error.strerror}).",
            todo="Give the folder that `ascmodels fit ... --out` made.",
        ) from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, problem["loc"])) or "file"
        found = Difference(field=field, expected="what was written", found=problem["msg"])
        raise RunError(
            f"{file} is damaged, or was written by another version.",
            differences=[found],
            todo=way_on(file.parent)
            if file.name == PROGRESS
            else "Restore it from a copy, or train again into a new folder.",
        ) from error


def _require_ours(path: Path) -> None:
    """Make the folder, or accept one that is empty or a run's."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        inside = {p.name for p in path.iterdir()}
    except OSError as error:
        raise RunError(f"No run can be kept in {path}: {error.strerror}.", todo="Choose another --out.") from error
    unborn = {LOCK, _aside(path / CONFIG).name}  # all that a start leaves which is killed before it has a config
    if inside - unborn and not _is_run(path, inside):
        raise RunError(f"{path} exists and is not a run folder.", todo="Choose another --out; nothing was touched.")
    if DATA not in inside and (FINISHED in inside or RunFolder.has_checkpoints(path)):
        raise RunError(
            f"{path} holds checkpoints, and nothing says what they were trained on: {DATA} is missing.",
            todo="Restore it from a copy, or choose another --out; nothing was touched.",
        )


def _is_run(path: Path, inside: set[str]) -> bool:
    """Whether a folder holds a run, or the beginning of one: others keep a ``config.json``, too."""
    if CONFIG not in inside:
        return False
    try:
        TrainingRecipe.model_validate_json((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return DATA in inside  # a run whose recipe is damaged: reading it says so
    return True


def _require_same(folder: RunFolder, recipe: TrainingRecipe, data: RunData) -> None:
    """Refuse to go on from something else: what the run was made from is expected, what is given now is found."""
    chosen = differences(folder.recipe.hyper_parameters, recipe.hyper_parameters)
    given = differences(_identity(folder.data), _identity(data), "data")
    if not chosen and not given:
        return
    todo = "Repeat the command that started it with --resume, or choose another --out."
    if not chosen and any(d.field != "data.initial" for d in given):
        todo = "The store was made anew, or is another: give the one that the run began with, or choose another --out."
    raise RunError(
        f"{folder.path} holds a run that was made from something else.",
        differences=[*chosen, *given],
        todo=todo,
    )


def _require_selected(folder: RunFolder) -> None:
    """Refuse a run whose result is gone: no epoch that is trained on brings it back."""
    finished = folder.finished
    wanted = finished.selected if finished else folder.progress().selected
    if wanted not in folder.epochs():
        raise RunError(
            f"The checkpoint of epoch {wanted}, the best of {folder.path}, is not there.",
            todo="Restore it from a copy, or train again into a new folder.",
        )


def _require_consent(folder: RunFolder, resume: bool) -> None:
    if not resume and not folder.finished and folder.epochs():
        raise RunError(
            f"{folder.path} holds an unfinished run: {folder.progress().epoch} of {folder.recipe.extent}.",
            todo="Add --resume to go on with it, or choose another --out.",
        )


def _identity(data: RunData) -> dict[str, object]:
    """What makes two runs train on the same clips; a store may move."""
    said = data.model_dump(mode="json", include={"split", "classes", "clips", "held_off"})
    said["initial"] = data.initial.sha256 if data.initial else None
    return said | {"digest" if i == 0 else f"digest of store {i + 1}": s.digest for i, s in enumerate(data.stores)}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel takes back when this process ends."""
    with (path / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"Another process is training in {path}.", todo="Wait for it, stop it, or choose another --out."
            ) from None
        yield


def _remember(file: Path, session: Session) -> None:
    before = read(file, Environment).sessions if file.is_file() else ()
    _write(file, Environment(sessions=(*before, session)).model_dump_json(indent=1))


def _sums(folder: Path) -> str:
    """SHA-256 of each file of a checkpoint, as JSON."""
    files = (p for p in sorted(folder.iterdir()) if p.is_file())
    return json.dumps({p.name: sha256(p) for p in files}, indent=1) + "\n"


def _csv(progress: Progress, metric: str) -> str:
    text, names = io.StringIO(), list(EpochRecord.model_fields)
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writerow({name: name.replace("accuracy", metric) for name in names})
    writer.writerows(json.loads(row.model_dump_json()) for row in progress.rows)
    return text.getvalue()


def _write(file: Path, text: str) -> None:
    """Write a file aside and put it into place, so that nobody ever reads half of it."""
    with put(file) as aside:
        aside.write_text(text + "\n" * (not text.endswith("\n")), encoding="utf-8")


@contextmanager
def put(file: Path) -> Iterator[Path]:
    """Give a place aside to write a file of a run to, and put it where it belongs; half of it is never there.

    Raises
    ------
    RunError
        When the disk refuses, with the file's name; what was there before stays.
    """
    aside = _aside(file)
    try:
        yield aside
        _sync(aside)
        aside.replace(file)
        _sync(file.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise RunError(
            f"{file} cannot be written: {error.strerror or error}.",
            todo="Make room, or mend the rights of the folder, and run the same command again: what was there is kept.",
        ) from error


def _aside(path: Path) -> Path:
    """Where a file or folder is written before it is put into its place."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
