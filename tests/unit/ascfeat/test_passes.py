"""Do workers of every kind give the bytes of one process, and stop with a word when they cannot do their part?"""

import errno
import os
import pickle
import shutil
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from ascfeat import passes, units
from ascfeat.datasets.tree import Tree
from ascfeat.extract import recordings, run
from ascfeat.jobs import prepare
from ascfeat.pools import Processes, Threads
from ascfeat.recipes import complete
from ascfeat.store import Store, Writer
from ascfeat.tags import tag_table
from ascfeat.units import Errand, Failed, Landmark, Stretch, WorkerError, fill_apart, find_landmark, installed
from ascschemas.base import Parameters
from ascschemas.dataset import Manifest
from ascschemas.problems import DatasetError, SpaceError, StoreError
from ascschemas.recipe import FeatureRecipe

Dataset = tuple[Tree, Manifest]


@pytest.fixture
def recipes(recipe: FeatureRecipe) -> list[FeatureRecipe]:
    """Units of one, two, four and eight clips; the last unit of ten clips is short in two of them."""
    return [of_units(recipe, clips) for clips in (1, 2, 4, 8)]


def of_units(recipe: FeatureRecipe, clips: int) -> FeatureRecipe:
    storage = recipe.storage.model_copy(update={"clips_per_shard": clips})
    return recipe.model_copy(update={"name": f"units{clips}", "storage": storage})


def fill(dataset: Dataset, recipes, features: Path, **how):
    tree, manifest = dataset
    jobs = prepare(tree, manifest, recipes, features, device="cpu", **{k: how.pop(k) for k in ("tags",) if k in how})
    return run(tree, manifest, jobs, device="cpu", **how)


def content(features: Path) -> dict[str, bytes]:
    """Every file of the stores below a folder; a lock beside a store is not part of it."""
    files = (p for p in features.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(features).as_posix(): p.read_bytes() for p in files}


def spoil(dataset: Dataset) -> None:
    """One recording truncated, another gone."""
    tree, _ = dataset
    torn = tree.root / "audio/03.wav"
    torn.write_bytes(torn.read_bytes()[:3000])
    (tree.root / "audio/09.wav").unlink()


@pytest.mark.slow
def test_serial_threads_and_processes_give_the_same_files(dataset: Dataset, recipes, tmp_path: Path) -> None:
    spoil(dataset)
    serial = fill(dataset, recipes, tmp_path / "serial", threads=1)
    expected, digests = content(tmp_path / "serial"), [Store(o.place).digest() for o in serial]
    assert [len(o.excluded) for o in serial] == [2] * 4
    for name, workers in (("one", Threads(1)), ("threads", Threads(3)), ("processes", Processes(2))):
        done: list[int] = []
        outcomes = fill(dataset, recipes, tmp_path / name, workers=workers, progress=done.append)
        assert content(tmp_path / name) == expected, name
        assert [Store(o.place).digest() for o in outcomes] == digests
        assert [o.computed for o in outcomes] == [10] * 4
        assert (sorted(done), done[-1]) == (done, 10)


def test_sizes_that_do_not_nest_are_filled_one_group_after_the_other(dataset, recipe, tmp_path: Path) -> None:
    tree, manifest = dataset
    several = [of_units(recipe, clips) for clips in (3, 8, 6)]
    jobs = prepare(tree, manifest, several, tmp_path / "a", device="cpu")
    assert (recordings(jobs), recordings(jobs, apart=True)) == (10, 20)
    done: list[int] = []
    run(tree, manifest, jobs, device="cpu", workers=Threads(2), progress=done.append)
    assert done[-1] == 20
    fill(dataset, several, tmp_path / "b", threads=2)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_only_pending_units_are_computed(dataset: Dataset, recipes, tmp_path: Path) -> None:
    whole = fill(dataset, recipes, tmp_path)
    before = content(tmp_path)
    for outcome, unit in zip(whole[1:3], (4, 1), strict=True):
        writer = Writer(outcome.place)
        writer.reopen([unit])
    again = fill(dataset, recipes, tmp_path, workers=Threads(2))
    assert [o.computed + o.taken for o in again] == [0, 2, 4, 0], (
        "taken from the store beside, which has the same values"
    )
    assert content(tmp_path) == before


def test_tables_of_tags_travel_with_their_clips(dataset: Dataset, tmp_path: Path) -> None:
    _, manifest = dataset
    ids = [c.id for c in manifest.clips]
    table = tag_table(np.arange(18).reshape(9, 2), ["a", "b"], ids[:9])
    tags = complete(FeatureRecipe(name="tags", representation=Parameters(kind="tags")), "tags")
    tags = tags.model_copy(update={"storage": tags.storage.model_copy(update={"clips_per_shard": 4})})
    part = units.errand(Stretch(4, 8, ((0, (1,)),)), ids[4:8], [table])
    assert set(part.tags[0].rows) == set(ids[4:8])
    fill(dataset, [tags], tmp_path / "a", tags=table)
    fill(dataset, [tags], tmp_path / "b", tags=table, workers=Apart(2))
    assert content(tmp_path / "a") == content(tmp_path / "b")
    with pytest.raises(WorkerError, match=r"come from a callable; .*\n.*threads:N"):
        fill(dataset, [tags], tmp_path / "c", tags=lambda waveform, rate: waveform[0, :2], workers=Apart(1))


class Apart(Threads):
    """Threads that are told no more than another process would be."""

    apart = True


class Elsewhere(Apart):
    """A worker on another machine: what it is told comes through pickle, changed by what is other there."""

    def __init__(self, change) -> None:
        super().__init__(1)
        self.change = change

    def start(self):
        made, change = super().start(), self.change

        class Changed:
            def submit(self, function, task):
                told = pickle.dumps(change(pickle.loads(function.args[0])))
                return made.submit(fill_apart, told, pickle.loads(pickle.dumps(task)))

            def shutdown(self, wait=True):
                made.shutdown(wait)

        return Changed()


def test_a_worker_that_does_not_see_the_dataset_is_named(dataset, recipe, tmp_path: Path) -> None:
    unmounted = tmp_path / "empty"
    unmounted.mkdir()
    for where, word in ((tmp_path / "none", "There is no dataset folder"), (unmounted, "no such recording")):
        with pytest.raises(DatasetError) as caught:
            fill(dataset, [recipe], tmp_path / "f", workers=Elsewhere(lambda a, w=where: replace(a, dataset=(Tree, w))))
        said = str(caught.value)
        assert f"A worker on {socket.gethostname()} (process {os.getpid()})" in said
        assert word in said
        assert "Mount the dataset at this path" in said
    assert not Store(tmp_path / "f" / "set" / "small.zarr").excluded(), "and nothing was excluded for it"
    fill(dataset, [recipe], tmp_path / "f")


def test_a_worker_that_does_not_see_the_store_is_named(dataset, recipe, tmp_path: Path) -> None:
    def elsewhere(assignment):
        (shelf,) = assignment.shelves
        return replace(assignment, shelves=(replace(shelf, place=shelf.place.parent / "none.zarr"),))

    with pytest.raises(WorkerError, match=r"(?s)A worker on .* is not to be seen from here.*every machine sees"):
        fill(dataset, [recipe], tmp_path, workers=Elsewhere(elsewhere))


def test_workers_are_told_whole_paths(dataset, recipe, tmp_path: Path, monkeypatch) -> None:
    """A worker of a cluster works in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    here = Tree(Path("set"))
    fill((here, dataset[1]), [recipe], Path("features"), workers=Apart(1))
    other = of_units(recipe, 2)  # the same values, taken from the first by a relative path
    jobs = prepare(here, dataset[1], [other], Path("features"), device="cpu")
    course = passes.Course(Writer(Path("features/set/small.zarr")), (), reuse=jobs[0].reuse)
    told = pickle.loads(passes._pickled(passes._assignment(here, [], [course], "cpu"), Apart(1)))
    (shelf,) = told.shelves
    places = [shelf.place, *(s.place for s in shelf.reuse.sources)] if shelf.reuse else [shelf.place]
    assert all(p.path.is_absolute() for p in places)
    assert told.dataset == (Tree, tmp_path / "set")


def test_a_store_of_the_workers_own_at_that_path_is_noticed(dataset, recipe, tmp_path: Path) -> None:
    """A folder that is not shared: the worker writes well, and nobody else sees it."""

    def own(assignment):
        (shelf,) = assignment.shelves
        copy = shelf.place.parent / "copy.zarr"
        if not copy.path.exists():
            shutil.copytree(shelf.place.path, copy.path)
        return replace(assignment, shelves=(replace(shelf, place=copy),))

    with pytest.raises(WorkerError, match=r"(?s)wrote unit \d of .*here it is not to be seen.*all machines share"):
        fill(dataset, [recipe], tmp_path, workers=Elsewhere(own))


def test_a_worker_with_other_libraries_is_refused_with_both_versions(dataset, recipe, tmp_path: Path) -> None:
    def older(assignment):
        return replace(assignment, software={**assignment.software, "numpy": "1.0.0"})

    with pytest.raises(WorkerError) as caught:
        fill(dataset, [recipe], tmp_path, workers=Elsewhere(older))
    (apart,) = caught.value.differences
    assert (apart.field, apart.expected, apart.found) == ("numpy", "1.0.0", np.__version__)
    assert f"A worker on {socket.gethostname()}" in str(caught.value)


def test_every_version_that_a_store_names_is_compared(dataset, recipe, tmp_path: Path) -> None:
    (job,) = prepare(*dataset, [recipe], tmp_path, device="cpu")
    assert installed([job.header]) == job.header.software
    strange = job.header.model_copy(update={"software": {"no-such-library": "1"}})
    assert installed([strange]) == {"no-such-library": "absent"}


@pytest.mark.parametrize(("number", "kind", "word"), [
    (errno.ENOSPC, SpaceError, "is full"),
    (errno.ESTALE, WorkerError, "Stale file handle"),
    (errno.EACCES, WorkerError, "Permission denied"),
])  # fmt: skip
def test_a_worker_whose_disk_refuses_is_named_and_what_is_done_is_kept(
    dataset, recipe, tmp_path: Path, monkeypatch, number, kind, word
) -> None:
    write, written = Writer.write, []

    def refuse(self, unit, clips) -> None:
        if written:
            raise OSError(number, os.strerror(number), "/shared/features")
        written.append(unit)
        write(self, unit, clips)

    monkeypatch.setattr(Writer, "write", refuse)
    with pytest.raises(kind, match=rf"(?s)A worker on .*{word}.*same command again"):
        fill(dataset, [recipe], tmp_path / "a", workers=Apart(2))
    assert len(Store(tmp_path / "a/set/small.zarr").pending()) == 2
    monkeypatch.setattr(Writer, "write", write)
    assert fill(dataset, [recipe], tmp_path / "a", workers=Apart(2))[0].computed == 6
    fill(dataset, [recipe], tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize("how", [{"threads": 1}, {"workers": Threads(1)}, {"workers": Apart(1)}])
def test_a_dataset_that_vanishes_half_way_excludes_nothing(dataset, recipe, tmp_path: Path, monkeypatch, how) -> None:
    tree, _ = dataset
    read = Tree.read

    def unmounted(self, path: str) -> bytes:
        if path == "audio/05.wav" and not (tmp_path / "unmounted").exists():
            tree.root.rename(tmp_path / "unmounted")
            tree.root.mkdir()
        return read(self, path)

    jobs = prepare(*dataset, [recipe], tmp_path / "a", device="cpu")
    monkeypatch.setattr(Tree, "read", unmounted)
    with pytest.raises(DatasetError, match=r"not there any more"):
        run(*dataset, jobs, device="cpu", **how)
    assert not Store(tmp_path / "a/set/small.zarr").excluded()
    monkeypatch.setattr(Tree, "read", read)
    tree.root.rmdir()
    (tmp_path / "unmounted").rename(tree.root)
    assert fill(dataset, [recipe], tmp_path / "a", **how)[0].excluded == {}


def test_a_landmark_is_the_first_recording_that_reads(dataset: Dataset) -> None:
    tree, manifest = dataset
    ids = [c.id for c in manifest.clips]
    (tree.root / ids[0]).unlink()
    found = find_landmark(tree, ids)
    assert found.clip == ids[1]
    found.refuse_other(tree)
    (tree.root / ids[1]).write_bytes(b"something else")
    assert found.there(tree)
    with pytest.raises(DatasetError, match="another recording of that name"):
        found.refuse_other(tree)
    assert find_landmark(tree, ["none.wav"] * 5000) is None
    assert Landmark(ids[0], "0" * 64).there(tree) is False


def test_a_unit_done_twice_at_once_is_the_same(dataset, recipe, tmp_path: Path) -> None:
    """What a scheduler does that takes a slow worker for a dead one."""
    (whole,) = fill(dataset, [recipe], tmp_path)
    writer = Writer(whole.place)
    writer.unseal()
    before = content(tmp_path)
    tree, manifest = dataset
    ids = [c.id for c in manifest.clips]
    course = passes.Course(writer, (0, 1, 2))
    told = pickle.dumps(passes._assignment(tree, ids, [course], "cpu"))
    tasks = [Errand(s, tuple(ids[s.first : s.stop])) for s in passes.apart([course])] * 4
    answers: list[object] = []
    threads = [threading.Thread(target=lambda t=t: answers.append(fill_apart(told, t))) for t in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a for a in answers if isinstance(a, Failed)] == []
    assert content(tmp_path) == before


def test_a_mistake_in_a_worker_comes_home_in_words(dataset, recipe, tmp_path: Path, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(units, "rows_of", broken)
    with pytest.raises(WorkerError, match=r"(?s)ZeroDivisionError: by nothing \(at 4 clips from audio/0"):
        fill(dataset, [recipe], tmp_path, workers=Apart(1))


def test_threads_stop_between_clips(dataset, recipe, tmp_path: Path, monkeypatch) -> None:
    """Ctrl-C while units are under way: they are dropped at the next clip, and nothing of them is seen."""
    begun, pool = [], Threads(1)
    rows_of = units.rows_of

    def interrupted(tree, fillings, position, clip):
        begun.append(position)
        if position == 5:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)  # the main thread takes it
        return rows_of(tree, fillings, position, clip)

    monkeypatch.setattr(units, "rows_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(dataset, [recipe], tmp_path, workers=pool)
    assert begun == [0, 1, 2, 3, 4, 5]
    assert Store(tmp_path / "set/small.zarr").pending() == [1, 2]


@pytest.mark.slow
def test_a_process_killed_half_way_through_a_unit_changes_nothing(dataset, recipes, tmp_path: Path) -> None:
    """Every worker process is killed as soon as the first unit is there; the job goes on with new ones."""
    fill(dataset, recipes, tmp_path / "whole")
    said: list[str] = []

    def kill(features: Path) -> None:
        record = features / "set/units4.zarr/ledger/record/c"
        while not record.exists() or not list(record.iterdir()):
            time.sleep(0.001)
        for child in psutil.Process().children():
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()

    for attempt in range(5):
        killer = threading.Thread(target=kill, args=[tmp_path / str(attempt)])
        killer.start()
        fill(dataset, recipes, tmp_path / str(attempt), workers=Processes(2), say=said.append)
        killer.join()
        assert content(tmp_path / str(attempt)) == content(tmp_path / "whole")
        if said:  # else the kill came when all was done
            break
    assert len(said) == 1


def test_nothing_to_do_starts_no_worker(dataset, recipe, tmp_path: Path) -> None:
    class Never(Threads):
        def start(self):
            raise AssertionError("started")

    fill(dataset, [recipe], tmp_path)
    assert fill(dataset, [recipe], tmp_path, workers=Never(1))[0].computed == 0


def test_a_store_that_nobody_can_use_is_refused_as_ever(dataset, recipe, tmp_path: Path) -> None:
    tree, manifest = dataset
    jobs = prepare(tree, manifest, [recipe], tmp_path, device="cpu")
    for clip in manifest.clips:
        (tree.root / clip.id).write_bytes(b"")
    with pytest.raises(StoreError, match="none of its 10 recordings could be used"):
        run(tree, manifest, jobs, device="cpu", workers=Threads(2))
