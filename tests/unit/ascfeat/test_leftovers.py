"""Is everything named that can go, nothing else, and is nothing removed that somebody uses?"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from asccli.gc import gc
from ascfeat.datasets.tree import Tree
from ascfeat.extract import run
from ascfeat.jobs import prepare
from ascfeat.leftovers import remove, survey
from ascfeat.lock import exclusive
from ascfeat.share import run as run_copy
from ascfeat.share import transfer
from ascfeat.store import Store, open_store
from ascfeat.store.places import Folder
from ascfeat.testing.stores import make_store
from ascschemas.problems import StoreError

DAYS = 86_400


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """One sealed store and one that is not finished, with their locks."""
    folder = tmp_path / "features"
    for name, seal in (("whole", True), ("half", False)):
        make_store(folder / "made" / f"{name}.zarr", seal=seal)
        (folder / "made" / f".{name}.zarr.lock").write_text("")
    return folder


def found(library: Path, **how) -> dict[str, list[str]]:
    seen = survey(Folder(library), **how)
    return {f.kind: [str(library / "made" / n) for n in f.names] for f in seen.leftovers}


def content(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock")}


def test_nothing_can_go_from_a_clean_library(library: Path) -> None:
    before = content(library)
    assert found(library) == {}
    assert found(library, older_than=DAYS) == {}
    assert content(library) == before


def test_leftovers_of_killed_writers_go_and_stores_stay(library: Path) -> None:
    before = content(library)
    inside = library / "made" / "half.zarr" / "features" / "c" / ".0.x1.partial"
    beside = library / "made" / ".other.zarr.abc.partial" / "zarr.json"
    for file in (inside, beside):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 100)
    seen = survey(Folder(library))
    assert [f.kind for f in seen.leftovers] == ["partial", "partial"]
    assert seen.bytes == 200
    assert all(remove(f) for f in seen.leftovers)
    assert content(library) == before
    assert not inside.exists()
    assert not beside.parent.exists()
    assert found(library) == {}


def test_what_was_to_become_a_lock_goes_once_nobody_can_be_writing_it(library: Path) -> None:
    unborn = library / "made" / "..whole.zarr.lock.x1y2z3.partial"
    unborn.write_text("half")
    assert found(library) == {}
    os.utime(unborn, (time.time() - 100,) * 2)
    assert found(library) == {"partial": [str(unborn)]}
    assert [remove(f) for f in survey(Folder(library)).leftovers] == [True]
    assert not unborn.exists()


def half_a_copy(library: Path) -> Path:
    """A copy that was killed before its last file."""
    task = transfer(library / "made" / "whole.zarr", library / "made" / "copied.zarr")
    run_copy(task)
    (library / "made" / "copied.zarr" / "zarr.json").unlink()
    (library / "made" / task.mark).write_text(task.digest)
    return library / "made" / "copied.zarr"


def test_half_a_copy_goes_when_it_is_old(library: Path) -> None:
    before = content(library)
    half = half_a_copy(library)
    assert found(library) == {}
    assert found(library, older_than=DAYS) == {}
    assert found(library, older_than=-DAYS)["copy"] == [str(half), str(half.parent / ".copied.zarr.copy")]
    seen = survey(Folder(library), older_than=-DAYS)
    assert [remove(f, older_than=-DAYS) for f in seen.leftovers if f.kind == "copy"] == [True]
    assert content(library) == before


def test_the_mark_of_a_copy_that_is_whole_goes(library: Path) -> None:
    mark = library / "made" / ".whole.zarr.copy"
    mark.write_text("digest")
    assert found(library) == {"partial": [str(mark)]}
    assert [remove(f) for f in survey(Folder(library)).leftovers] == [True]
    assert not mark.exists()


def test_older_states_go_only_where_the_new_one_is_sealed(library: Path) -> None:
    made = library / "made"
    for name in ("whole", "half"):
        for ending in ("before", "before-2"):
            shutil.copytree(made / "whole.zarr", made / f".{name}.zarr.{ending}")
    shutil.copytree(made / "whole.zarr", made / ".moved.zarr.before")  # killed before the new one was created
    assert found(library) == {"before": [str(made / f".whole.zarr.{e}") for e in ("before", "before-2")]}
    (leftover,) = survey(Folder(library)).leftovers
    assert remove(leftover)
    assert sorted(p.name for p in made.glob(".*.before*")) == [
        ".half.zarr.before", ".half.zarr.before-2", ".moved.zarr.before",
    ]  # fmt: skip
    open_store(made / "whole.zarr").read(range(11))


def test_a_lock_goes_where_there_is_no_store(library: Path) -> None:
    lock = library / "made" / ".gone.zarr.lock"
    lock.write_text("somebody, long ago")
    assert found(library) == {"lock": [str(lock)]}
    assert remove(survey(Folder(library)).leftovers[0])
    assert not lock.exists()
    assert (library / "made" / ".whole.zarr.lock").exists()


def test_unfinished_stores_go_when_they_are_old_and_a_person_says_so(library: Path) -> None:
    half = library / "made" / "half.zarr"
    for file in half.rglob("*"):
        os.utime(file, (time.time() - 40 * DAYS,) * 2)
    assert found(library) == {}
    assert found(library, older_than=41 * DAYS) == {}
    assert found(library, older_than=39 * DAYS) == {"unfinished": [str(half)]}
    (leftover,) = survey(Folder(library), older_than=39 * DAYS).leftovers
    assert not remove(leftover, older_than=41 * DAYS)
    assert half.exists()
    assert remove(leftover, older_than=39 * DAYS)
    assert not half.exists()
    assert not (library / "made" / ".half.zarr.lock").exists()


HOLDER = """
import sys
from ascfeat.lock import exclusive
with exclusive(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_nothing_of_a_store_that_another_process_writes(library: Path) -> None:
    partial = library / "made" / "half.zarr" / ".zarr.json.x.partial"
    partial.write_bytes(b"x")
    (leftover,) = survey(Folder(library)).leftovers
    command = [sys.executable, "-c", HOLDER, str(library / "made" / "half.zarr")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        seen = survey(Folder(library), older_than=0)
        assert seen.leftovers == ()
        assert seen.busy == (str(library / "made" / "half.zarr"),)
        with pytest.raises(StoreError, match="is being written by"):
            remove(leftover)
        assert partial.exists()
        other.communicate("")
    assert remove(leftover)


def test_what_is_published_meanwhile_stays(library: Path) -> None:
    """Between the look and the removal the writer finished: its older state is gone, or its file has its name."""
    made = library / "made"
    shutil.copytree(made / "whole.zarr", made / ".whole.zarr.before")
    (leftover,) = survey(Folder(library)).leftovers
    shutil.rmtree(made / "whole.zarr")
    assert not remove(leftover)
    assert (made / ".whole.zarr.before").exists()


def test_a_sealed_store_goes_only_where_another_has_all_of_it(dataset, recipe, tmp_path: Path) -> None:
    tree, manifest = dataset
    library = tmp_path / "features"

    def fill(manifest, name: str) -> None:
        named = recipe.model_copy(update={"name": name})
        run(tree, manifest, prepare(Tree(tree.root), manifest, [named], library, device="cpu"), device="cpu")

    fill(manifest, "old")
    longer = manifest.model_copy(
        update={"clips": (*manifest.clips[:-1], manifest.clips[-1].model_copy(update={"label": "quay"}))}
    )
    assert survey(Folder(library), manifest=longer).leftovers == ()  # nothing here has taken its place
    fill(longer, "new")
    assert survey(Folder(library)).leftovers == ()
    assert [f.names for f in survey(Folder(library), manifest=manifest).leftovers] == [("new.zarr",)]  # turned back
    (leftover,) = survey(Folder(library), manifest=longer).leftovers
    assert (leftover.kind, leftover.names) == ("superseded", ("old.zarr",))
    assert remove(leftover)
    assert [p.name for p in (library / "set").iterdir() if not p.name.startswith(".")] == ["new.zarr"]


def test_another_store_of_other_recordings_supersedes_nothing(dataset, recipe, tmp_path: Path) -> None:
    tree, manifest = dataset
    library = tmp_path / "features"
    shorter = manifest.model_copy(update={"clips": manifest.clips[:5], "splits": ()})
    for name, clips in (("old", manifest), ("new", shorter)):
        named = recipe.model_copy(update={"name": name})
        run(tree, clips, prepare(tree, clips, [named], library, device="cpu"), device="cpu")
    assert survey(Folder(library), manifest=shorter).leftovers == ()


def test_the_command_names_and_removes_only_when_told(library: Path) -> None:
    partial = library / "made" / "whole.zarr" / ".zarr.json.x.partial"
    partial.write_bytes(b"x" * 1500)
    dry = CliRunner().invoke(gc, [str(library)], standalone_mode=False)
    assert dry.return_value == 0
    assert "1.5 kB can go; --delete removes it." in dry.output
    assert partial.exists()
    with exclusive(library / "made" / "half.zarr"):
        wet = CliRunner().invoke(gc, [str(library), "--delete", "--older-than", "0"], standalone_mode=False)
    assert wet.return_value == 0
    assert f"in use      {library / 'made' / 'half.zarr'}" in wet.output
    assert "1.5 kB removed." in wet.output
    assert not partial.exists()
    assert Store(library / "made" / "half.zarr").seal is None
    clean = CliRunner().invoke(gc, [str(library)], standalone_mode=False)
    assert "Nothing can go." in clean.output


def test_a_store_of_another_dataset_is_not_judged(dataset, recipe, tmp_path: Path) -> None:
    """A subset in the same library is no older state of the whole, though the whole holds all of it."""
    tree, manifest = dataset
    library = tmp_path / "features"
    subset = manifest.model_copy(update={"dataset": "subset", "clips": manifest.clips[:5], "splits": ()})
    for clips in (subset, manifest):
        run(tree, clips, prepare(tree, clips, [recipe], library, device="cpu"), device="cpu")
    assert len(list(library.glob("*/*.zarr"))) == 2
    assert survey(Folder(library), manifest=manifest).leftovers == ()
