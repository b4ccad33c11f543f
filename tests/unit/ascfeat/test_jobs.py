"""Is what changed found out and said, and the store what a fresh extraction makes, with nothing computed twice?"""

import os
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ascfeat import digests as digests_module
from ascfeat import jobs as jobs_module
from ascfeat import plan as plan_module
from ascfeat import share, work
from ascfeat.changes import recordings
from ascfeat.datasets.tree import Tree
from ascfeat.digests import Digests, own_digests
from ascfeat.extract import Outcome, run
from ascfeat.jobs import Job, prepare
from ascfeat.pools import Pool, Processes, Threads
from ascfeat.reuse import before_places, set_aside
from ascfeat.store import Store, Writer, open_store, store_path, verify
from ascfeat.store.places import Folder, open_place
from ascschemas.dataset import Manifest
from ascschemas.problems import DatasetError, StoreError, StoreMismatch
from ascschemas.recipe import FeatureRecipe

Dataset = tuple[Tree, Manifest]


@pytest.fixture(autouse=True)
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clips that were decoded to be computed, in any order; sorted by whoever looks."""
    seen: list[str] = []

    def decode(data: bytes, clip: str):
        seen.append(clip)
        return real(data, clip)

    real = work.decode
    monkeypatch.setattr(work, "decode", decode)
    return seen


def fill(
    dataset: Dataset, recipe: FeatureRecipe, features: Path | str, workers: Pool | None = None, **how
) -> tuple[Job, Outcome]:
    tree, manifest = Tree(dataset[0].root), dataset[1]
    (job,) = prepare(tree, manifest, [recipe], features, device="cpu", **how)
    (outcome,) = run(tree, manifest, [job], device="cpu", workers=workers)
    return job, outcome


def content(folder: Path | str) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(8000), 8000, subtype="PCM_16")


def add(dataset: Dataset) -> tuple[Dataset, set[str]]:
    """A clip before all others, so that each of them moves, and one after."""
    tree, manifest = dataset
    for seed, name in enumerate(("audio/-1.wav", "audio/99.wav"), start=50):
        noise(tree.root / name, seed)
    first, last = (manifest.clips[0].model_copy(update={"id": n}) for n in ("audio/-1.wav", "audio/99.wav"))
    return (tree, manifest.model_copy(update={"clips": (first, *manifest.clips, last)})), {
        "audio/-1.wav",
        "audio/99.wav",
    }


def remove(dataset: Dataset) -> tuple[Dataset, set[str]]:
    tree, manifest = dataset
    gone = manifest.clips[3].id
    (tree.root / gone).unlink()
    kept = tuple(c for c in manifest.clips if c.id != gone)
    splits = tuple(
        s.model_copy(
            update={"train": tuple(i for i in s.train if i != gone), "test": tuple(i for i in s.test if i != gone)}
        )
        for s in manifest.splits
    )
    return (tree, manifest.model_copy(update={"clips": kept, "splits": splits})), set()


def replaced(dataset: Dataset) -> tuple[Dataset, set[str]]:
    """Another recording, of the same size, and dated before the store: only its content tells."""
    tree, manifest = dataset
    noise(tree.root / "new.wav", 60)
    os.utime(tree.root / "new.wav", (0, 0))
    (tree.root / "new.wav").replace(tree.root / manifest.clips[5].id)
    return dataset, {manifest.clips[5].id}


def relabel(dataset: Dataset) -> tuple[Dataset, set[str]]:
    tree, manifest = dataset
    clips = tuple(c.model_copy(update={"label": "quay"}) if i < 2 else c for i, c in enumerate(manifest.clips))
    return (tree, manifest.model_copy(update={"clips": clips})), set()


def resplit(dataset: Dataset) -> tuple[Dataset, set[str]]:
    tree, manifest = dataset
    (split,) = manifest.splits
    turned = split.model_copy(update={"train": split.test, "test": split.train})
    return (tree, manifest.model_copy(update={"splits": (turned,)})), set()


def reorder(dataset: Dataset) -> tuple[Dataset, set[str]]:
    tree, manifest = dataset
    return (tree, manifest.model_copy(update={"clips": manifest.clips[::-1]})), set()


def everything(dataset: Dataset) -> tuple[Dataset, set[str]]:
    wanted: set[str] = set()
    for change in (add, replaced, remove, relabel, resplit):
        dataset, new = change(dataset)
        wanted |= new
    return dataset, wanted


CHANGES = {
    add: ["2 recordings added: audio/-1.wav, audio/99.wav"],
    remove: ["1 recording removed: audio/03.wav"],
    replaced: ["1 recording replaced: audio/05.wav"],
    relabel: ["label of 2 clips, first audio/00.wav: bus in the store, quay now"],
    resplit: ["side in fold1 of 10 clips, first audio/00.wav: train in the store, test now"],
    reorder: ["order of the clips: another in the store, the list's now"],
    everything: [
        "2 recordings added",
        "1 recording removed",
        "1 recording replaced",
        "label of 1 clip",
        "side in fold1",
    ],
}


@pytest.mark.parametrize(
    ("change", "precision"), [*((c, "float32") for c in CHANGES), (everything, "float16"), (everything, "0.05dB")]
)
def test_a_refreshed_store_is_a_fresh_one(
    dataset: Dataset, recipe: FeatureRecipe, tmp_path: Path, computed: list[str], change, precision: str
) -> None:
    """To the byte, and only what is new is computed; what changed is said."""
    recipe = recipe.model_copy(update={"storage": recipe.storage.model_copy(update={"precision": precision})})
    fill(dataset, recipe, tmp_path / "features")
    dataset, wanted = change(dataset)
    computed.clear()
    job, outcome = fill(dataset, recipe, tmp_path / "features")
    assert set(computed) == wanted
    assert len(computed) == len(wanted)
    assert {dataset[1].clips[i].id for i in job.computing} == wanted
    lines = list(job.changes.lines())
    assert len(lines) == len(CHANGES[change])
    assert all(line.startswith(start) for line, start in zip(lines, CHANGES[change], strict=True)), lines
    fresh = fill(dataset, recipe, tmp_path / "fresh")[1]
    assert content(str(outcome.place)) == content(str(fresh.place))
    assert list(verify(open_store(outcome.place))) == []
    assert [p.name for p in outcome.place.path.parent.iterdir() if "before" in p.name] == []
    again, _ = fill(dataset, recipe, tmp_path / "features")
    assert not again.pending
    assert not again.changes


def test_nothing_is_read_where_only_tables_changed(dataset: Dataset, recipe, tmp_path: Path, monkeypatch) -> None:
    """Not for the comparison either: what extraction read is known by its dates."""
    monkeypatch.setattr(digests_module, "SETTLED_NS", 0)
    own_digests.cache_clear()
    monkeypatch.setenv("ASC_CACHE", str(tmp_path / "cache"))
    fill(dataset, recipe, tmp_path / "features")
    dataset, _ = relabel(dataset)
    read: list[str] = []
    real = Digests.read
    monkeypatch.setattr(Digests, "read", lambda self, tree, clip: (read.append(clip), real(self, tree, clip))[1])
    job, outcome = fill(dataset, recipe, tmp_path / "features")
    assert job.anew
    assert read == []
    assert open_store(outcome.place).labels[0] == "quay"
    own_digests.cache_clear()


def test_an_excluded_recording_stays_so_without_being_read_or_computed(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str]
) -> None:
    tree, manifest = dataset
    (tree.root / manifest.clips[1].id).write_bytes(b"no audio")
    (tree.root / manifest.clips[2].id).unlink()
    _, outcome = fill(dataset, recipe, tmp_path / "features")
    first = outcome.excluded
    assert {r.excluded for r in first.values()} == {"unreadable", "missing"}
    dataset, _ = relabel(dataset)
    computed.clear()
    _, outcome = fill(dataset, recipe, tmp_path / "features")
    assert computed == []
    assert outcome.excluded == first


def test_a_recording_that_is_back_is_computed(dataset: Dataset, recipe, tmp_path: Path, computed: list[str]) -> None:
    tree, manifest = dataset
    gone = tree.root / manifest.clips[2].id
    gone.rename(tmp_path / "aside.wav")
    fill(dataset, recipe, tmp_path / "features")
    (tmp_path / "aside.wav").rename(gone)
    computed.clear()
    job, outcome = fill(dataset, recipe, tmp_path / "features")
    assert computed == [manifest.clips[2].id]
    assert job.changed == (manifest.clips[2].id,)
    assert not outcome.excluded


def vanish(dataset: Dataset, *clips: int) -> tuple[str, ...]:
    """Recordings go away, as with a disk of several that was not mounted."""
    tree, manifest = dataset
    for i in clips:
        (tree.root / manifest.clips[i].id).unlink()
    return tuple(manifest.clips[i].id for i in clips)


def test_features_of_recordings_that_are_gone_stay(dataset: Dataset, recipe, tmp_path: Path, computed) -> None:
    fill(dataset, recipe, tmp_path / "features")
    before = content(tmp_path / "features")
    gone = vanish(dataset, 1, 2)
    computed.clear()
    job, _ = fill(dataset, recipe, tmp_path / "features")
    assert job.gone == gone
    assert (job.pending, job.changed, computed) == ((), (), [])
    assert content(tmp_path / "features") == before


def test_features_of_recordings_that_are_gone_stay_where_others_change(
    dataset: Dataset, recipe, tmp_path: Path, computed
) -> None:
    tree, manifest = dataset
    _, first = fill(dataset, recipe, tmp_path / "features")
    before = open_store(first.place).read(range(len(manifest.clips)))
    gone = vanish(dataset, 1)
    noise(tree.root / manifest.clips[0].id, 77)  # of the same unit
    computed.clear()
    job, outcome = fill(dataset, recipe, tmp_path / "features")
    assert (job.gone, job.changed) == (gone, (manifest.clips[0].id,))
    assert computed == [manifest.clips[0].id]
    assert not outcome.excluded
    np.testing.assert_array_equal(open_store(outcome.place).read([1]), before[1:2])
    added, new = add(dataset)
    computed.clear()
    job, outcome = fill(added, recipe, tmp_path / "features")
    assert (job.anew, job.gone, set(computed)) == (True, gone, new)
    assert not outcome.excluded
    np.testing.assert_array_equal(open_store(outcome.place).read([2]), before[1:2])


def test_where_nothing_is_left_but_others_nothing_is_overwritten(dataset: Dataset, recipe, tmp_path: Path) -> None:
    fill(dataset, recipe, tmp_path / "features")
    before = content(tmp_path / "features")
    vanish(dataset, *range(1, len(dataset[1].clips)))
    noise(dataset[0].root / dataset[1].clips[0].id, 77)
    with pytest.raises(StoreMismatch, match="other recordings"):  # what is left speaks against it
        fill(dataset, recipe, tmp_path / "features")
    vanish(dataset, 0)
    with pytest.raises(DatasetError, match="None of the 10 recordings"):
        fill(dataset, recipe, tmp_path / "features")
    assert content(tmp_path / "features") == before


def test_recordings_that_are_back_are_not_another_dataset(dataset: Dataset, recipe, tmp_path: Path, computed) -> None:
    """As many as there were: not one of those that were read has changed."""
    tree, manifest = dataset
    half = range(len(manifest.clips) // 2)
    for i in half:
        (tree.root / manifest.clips[i].id).rename(tmp_path / f"{i}.wav")
    fill(dataset, recipe, tmp_path / "features")
    for i in half:
        (tmp_path / f"{i}.wav").rename(tree.root / manifest.clips[i].id)
    _, outcome = fill(dataset, recipe, tmp_path / "features")
    assert not outcome.excluded


def test_a_library_speaks_for_no_recording_that_is_not_here(dataset: Dataset, recipe, tmp_path: Path, computed) -> None:
    shelf = library(dataset, recipe, tmp_path / "library")
    gone = vanish(dataset, 1)
    added, _ = add(dataset)
    _, outcome = fill(added, recipe, tmp_path / "features", libraries=[shelf])
    assert {clip: r.excluded for clip, r in outcome.excluded.items()} == {gone[0]: "missing"}


class Stop(Exception):
    pass


def interrupted(dataset: Dataset, recipe: FeatureRecipe, features: Path, after: int) -> None:
    """Stop an extraction once so many clips are done."""
    tree, manifest = Tree(dataset[0].root), dataset[1]

    def progress(done: int) -> None:
        if done >= after:
            raise Stop

    jobs = prepare(tree, manifest, [recipe], features, device="cpu")
    with pytest.raises(Stop):
        run(tree, manifest, jobs, device="cpu", threads=1, progress=progress)


def test_an_unfinished_store_is_extended_too(dataset: Dataset, recipe, tmp_path: Path, computed: list[str]) -> None:
    interrupted(dataset, recipe, tmp_path / "features", 9)
    store = Store(store_path(tmp_path / "features", "set", "small"))
    done = {c for c, r in zip(store.ids, store.records(), strict=True) if r is not None}
    assert 4 <= len(done) < 10
    dataset, new = add(dataset)
    computed.clear()
    _, outcome = fill(dataset, recipe, tmp_path / "features")
    assert set(computed) == new | {c.id for c in dataset[1].clips} - done
    assert content(str(outcome.place)) == content(str(fill(dataset, recipe, tmp_path / "fresh")[1].place))


@pytest.mark.parametrize("moment", ["moved", "created", "filled", "changed again", "sealed", "changed back"])
def test_an_interrupted_refresh_goes_on_and_loses_nothing(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str], moment: str
) -> None:
    place = fill(dataset, recipe, tmp_path / "features")[1].place
    before = dataset
    dataset, wanted = add(dataset)
    if moment == "moved":
        set_aside(place)
    elif moment == "created":
        interrupted(dataset, recipe, tmp_path / "features", 1)
    else:
        interrupted(dataset, recipe, tmp_path / "features", 9)
        assert list(before_places(place))
    if moment == "changed again":
        dataset, more = replaced(dataset)
        wanted = more | {c for c in wanted if c == "audio/99.wav"}  # the first unit has the other one
    elif moment == "changed back":
        dataset, wanted = before, set()
    elif moment == "filled":
        wanted = {"audio/99.wav"}
    elif moment == "sealed":
        fill(dataset, recipe, tmp_path / "features")
        shutil.copytree(place.path, place.path.parent / f".{place.name}.before")  # killed before it was removed
        shutil.copytree(place.path, place.path.parent / f".{place.name}.before-2")  # and this one half-way
        (place.path.parent / f".{place.name}.before-2" / "zarr.json").unlink()
        wanted = set()
    computed.clear()
    outcome = fill(dataset, recipe, tmp_path / "features")[1]
    assert set(computed) == wanted
    assert content(str(outcome.place)) == content(str(fill(dataset, recipe, tmp_path / "fresh")[1].place))
    assert [p.name for p in place.path.parent.iterdir() if "before" in p.name] == []


def test_damaged_values_of_the_old_store_are_computed_again(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str]
) -> None:
    place = fill(dataset, recipe, tmp_path / "features")[1].place
    shard = place.path / Store(place).header.chunk("features", 1)
    torn = bytearray(shard.read_bytes())
    torn[100] ^= 1
    shard.write_bytes(torn)
    dataset, new = add(dataset)
    computed.clear()
    _, outcome = fill(dataset, recipe, tmp_path / "features")
    assert set(computed) == {*new, "audio/04.wav"}
    assert content(str(outcome.place)) == content(str(fill(dataset, recipe, tmp_path / "fresh")[1].place))


def test_values_that_are_not_those_of_the_ledger_are_computed_again(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str]
) -> None:
    """Written with a right checksum by whoever it was: the digest of the values decides."""
    place = fill(dataset, recipe, tmp_path / "features")[1].place
    store = Writer(place)
    shards = [place.path / store.header.chunk("features", unit) for unit in (0, 1)]
    shards[0].write_bytes(shards[1].read_bytes())
    dataset, new = add(dataset)
    computed.clear()
    _, outcome = fill(dataset, recipe, tmp_path / "features")
    assert set(computed) == {*new, *(f"audio/0{i}.wav" for i in range(4))}
    assert content(str(outcome.place)) == content(str(fill(dataset, recipe, tmp_path / "fresh")[1].place))


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch):
    """Call it, and a library that computes values is of another version from then on."""

    def install() -> None:
        real = plan_module.version
        monkeypatch.setattr(plan_module, "version", lambda name: "99.0" if name == "numpy" else real(name))

    return install


def test_a_finished_store_of_other_software_stays(dataset: Dataset, recipe, tmp_path: Path, newer) -> None:
    fill(dataset, recipe, tmp_path)
    newer()
    job, _ = fill(dataset, recipe, tmp_path)
    assert not job.pending


def test_tables_change_and_values_stay_those_of_other_software(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str], newer
) -> None:
    """Where nothing is to be computed, the store is what that software would make, and says so."""
    dataset, _ = relabel(dataset)
    fresh = fill(dataset, recipe, tmp_path / "fresh")[1].place
    dataset, _ = resplit(dataset)
    fill(dataset, recipe, tmp_path / "features")
    dataset, _ = resplit(dataset)
    newer()
    computed.clear()
    job, outcome = fill(dataset, recipe, tmp_path / "features")
    assert job.anew
    assert computed == []
    assert content(str(outcome.place)) == content(str(fresh))


@pytest.mark.parametrize("change", [add, replaced])
def test_values_of_two_versions_are_never_mixed(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str], newer, change
) -> None:
    fill(dataset, recipe, tmp_path / "features")
    dataset, _ = change(dataset)
    newer()
    computed.clear()
    job, outcome = fill(dataset, recipe, tmp_path / "features")
    assert set(computed) == {c.id for c in dataset[1].clips}
    assert any(line.startswith("software.numpy") and line.endswith("99.0 now") for line in job.changes.lines())
    assert content(str(outcome.place)) == content(str(fill(dataset, recipe, tmp_path / "fresh")[1].place))


def test_values_of_other_software_that_do_not_read_are_not_replaced_in_silence(
    dataset: Dataset, recipe, tmp_path: Path, newer
) -> None:
    place = fill(dataset, recipe, tmp_path / "features")[1].place
    shard = place.path / Store(place).header.chunk("features", 1)
    shard.write_bytes(b"\0" * shard.stat().st_size)
    dataset, _ = relabel(dataset)
    newer()
    with pytest.raises(StoreError, match="other software is installed"):
        fill(dataset, recipe, tmp_path / "features")


def test_an_unfinished_store_of_other_software_is_refused(dataset: Dataset, recipe, tmp_path: Path, newer) -> None:
    interrupted(dataset, recipe, tmp_path, 9)
    newer()
    with pytest.raises(StoreMismatch, match=r"software.numpy +expected 99.0 +found"):
        fill(dataset, recipe, tmp_path)
    with pytest.raises(StoreMismatch, match=r"software.numpy +expected 99.0 +found"):
        fill(add(dataset)[0], recipe, tmp_path)


def test_another_recipe_of_that_name_is_refused(dataset: Dataset, recipe, tmp_path: Path) -> None:
    fill(dataset, recipe, tmp_path)
    parameters = recipe.representation.model_copy(update={"n_mels": 12})
    other = recipe.model_copy(update={"representation": parameters})
    with pytest.raises(
        StoreMismatch, match=r"representation.n_mels +expected 12 +found 16|n_mels +expected 12 +found 16"
    ):
        fill(dataset, other, tmp_path)


def test_another_dataset_of_that_name_is_refused(dataset: Dataset, recipe, tmp_path: Path) -> None:
    """Without one clip, or without one recording, in common."""
    fill(dataset, recipe, tmp_path / "features")
    tree, manifest = dataset
    strangers = tuple(c.model_copy(update={"id": f"other/{c.id}"}) for c in manifest.clips)
    for clip in strangers:
        (tree.root / clip.id).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree.root / clip.id.removeprefix("other/"), tree.root / clip.id)
    renamed = manifest.model_copy(update={"clips": strangers, "splits": ()})
    with pytest.raises(StoreMismatch, match="no clip in common"):
        fill((tree, renamed), recipe, tmp_path / "features")
    for seed, clip in enumerate(manifest.clips):
        noise(tree.root / clip.id, 100 + seed)
    for changed in (manifest, add(dataset)[0][1]):
        with pytest.raises(StoreMismatch, match="not one of 10 is the one in"):
            fill((tree, changed), recipe, tmp_path / "features")


def test_another_precision_is_made_from_exact_values_and_never_the_other_way(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str]
) -> None:
    """The storage slot is not in the fingerprint, so it is the same store, kept otherwise."""

    def kept(precision: str) -> FeatureRecipe:
        return recipe.model_copy(update={"storage": recipe.storage.model_copy(update={"precision": precision})})

    fill(dataset, kept("float32"), tmp_path / "features")
    computed.clear()
    job, outcome = fill(dataset, kept("float16"), tmp_path / "features")
    assert computed == []
    assert job.changes.storage[0].field == "dtype"
    assert content(str(outcome.place)) == content(str(fill(dataset, kept("float16"), tmp_path / "fresh")[1].place))
    computed.clear()
    fill(dataset, kept("float32"), tmp_path / "features")
    assert len(computed) == 10


def library(dataset: Dataset, recipe: FeatureRecipe, folder: Path, name: str = "theirs") -> Folder:
    fill(dataset, recipe.model_copy(update={"name": name, "description": "made by somebody else"}), folder)
    return Folder(folder)


def test_the_same_store_in_a_library_is_used_where_it_lies(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str]
) -> None:
    shelf = library(dataset, recipe, tmp_path / "library")
    computed.clear()
    job, outcome = fill(dataset, recipe, tmp_path / "features", libraries=[shelf])
    assert computed == []
    assert outcome.place == shelf / "set" / "theirs.zarr"
    assert not job.pending
    assert job.sealed
    assert job.libraries == (outcome.place,)
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_a_copy_that_is_not_finished_is_not_swept_away(
    dataset: Dataset, recipe, tmp_path: Path, where: str, request: pytest.FixtureRequest
) -> None:
    _, outcome = fill(dataset, recipe, tmp_path / "theirs")
    features = open_place(tmp_path / "copies" if where == "folder" else request.getfixturevalue("bucket"))
    task = share.transfer(outcome.place, features)
    target = share.run(task).target
    target.remove("zarr.json")
    target.parent.write(task.mark, [task.digest.encode()])
    before = list(target.files())
    with pytest.raises(StoreError, match=r"a copy that is not finished"):
        fill(dataset, recipe, features)
    assert list(target.files()) == before
    assert share.run(task).made
    assert fill(dataset, recipe, features)[0].sealed


def replaced_before_it_was_copied(dataset: Dataset, now: float) -> str:
    """A recording of the same size is another since before the copy was made, and after the store was."""
    tree, manifest = dataset
    noise(tree.root / manifest.clips[4].id, 404)
    os.utime(tree.root / manifest.clips[4].id, (now - 3600, now - 3600))
    return manifest.clips[4].id


@pytest.mark.parametrize("as_features", [True, False], ids=["pulled features", "copied library"])
def test_the_dates_of_a_copy_speak_for_no_recording(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str], as_features: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, outcome = fill(dataset, recipe, tmp_path / "theirs")
    other = replaced_before_it_was_copied(dataset, time.time())
    if as_features:
        copy = share.run(share.transfer(outcome.place, tmp_path / "copy")).target
        assert {open_store(copy).written(clip) for clip in range(10)} == {0.0}
    else:
        shutil.copytree(tmp_path / "theirs", tmp_path / "copy", copy_function=shutil.copyfile)
        for file in (tmp_path / "copy").rglob("ledger/**/*"):
            os.utime(file, (time.time() + 3600,) * 2)
    computed.clear()
    monkeypatch.setattr(jobs_module, "recordings", partial(recordings, budget=0))
    nothing_known = Digests(tmp_path / "cache" / "digests.sqlite")
    where = {"features": tmp_path / "copy"} if as_features else {
        "features": tmp_path / "new", "libraries": [Folder(tmp_path / "copy")]
    }  # fmt: skip
    job, _ = fill(dataset, recipe, **where, digests=nothing_known)
    assert computed == [other]
    assert job.trusted == 0


@pytest.mark.parametrize("change", [add, remove, replaced, relabel, resplit])
def test_clips_of_a_library_are_taken_where_their_recordings_are_the_same(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str], change
) -> None:
    shelf = library(dataset, recipe, tmp_path / "library")
    before = content(tmp_path / "library")
    dataset, wanted = change(dataset)
    computed.clear()
    _, outcome = fill(dataset, recipe, tmp_path / "features", libraries=[shelf])
    assert set(computed) == wanted
    assert outcome.place == store_path(tmp_path / "features", "set", "small")
    assert content(str(outcome.place)) == content(str(fill(dataset, recipe, tmp_path / "fresh")[1].place))
    assert content(tmp_path / "library") == before


def test_a_store_at_home_under_another_name_counts(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str]
) -> None:
    library(dataset, recipe, tmp_path / "features")
    computed.clear()
    _, outcome = fill(dataset, recipe, tmp_path / "features")
    assert computed == []
    assert outcome.place.name == "theirs.zarr"


def test_a_library_of_other_software_format_or_rounding_is_not_used(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str], newer
) -> None:
    rounded = recipe.model_copy(update={"storage": recipe.storage.model_copy(update={"precision": "float16"})})
    shelf = library(dataset, rounded, tmp_path / "rounded")
    computed.clear()
    _, outcome = fill(dataset, recipe, tmp_path / "features", libraries=[shelf])
    assert len(computed) == 10
    newer()
    computed.clear()
    other = recipe.model_copy(update={"name": "mine"})
    _, outcome = fill(dataset, other, tmp_path / "elsewhere", libraries=[Folder(tmp_path / "features")])
    assert len(computed) == 10
    assert outcome.place == store_path(tmp_path / "elsewhere", "set", "mine")


def test_an_unfinished_or_damaged_library_is_passed_over(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str]
) -> None:
    interrupted(dataset, recipe, tmp_path / "half", 9)
    (tmp_path / "torn" / "set" / "x.zarr").mkdir(parents=True)
    (tmp_path / "torn" / "set" / "x.zarr" / "zarr.json").write_text("{")
    computed.clear()
    shelves = [Folder(tmp_path / "half"), Folder(tmp_path / "torn"), Folder(tmp_path / "nowhere")]
    fill(dataset, recipe, tmp_path / "features", libraries=shelves)
    assert len(computed) == 10


def test_a_start_reads_what_its_dates_do_not_speak_for_and_a_bounded_rest(
    dataset: Dataset, recipe, tmp_path: Path, monkeypatch
) -> None:
    tree, manifest = dataset
    for clip in manifest.clips:
        os.utime(tree.root / clip.id, (0, 0))
    time.sleep(0.02)
    monkeypatch.setattr("ascfeat.changes.COARSE_SECONDS", 0.0)
    monkeypatch.setattr(digests_module, "SETTLED_NS", 0)
    store = open_store(fill(dataset, recipe, tmp_path / "features")[1].place)
    size = (tree.root / manifest.clips[0].id).stat().st_size
    cache = Digests(tmp_path / "cold" / "digests.sqlite")
    seen = [recordings(tree, store, cache, budget=3 * size) for _ in range(5)]
    assert [s.trusted for s in seen] == [7, 4, 1, 0, 0]
    assert all(not s.changed and s.compared == 10 for s in seen)
    noise(tree.root / manifest.clips[8].id, 99)
    cold = recordings(tree, store, Digests(tmp_path / "colder" / "digests.sqlite"), budget=0)
    assert cold.changed == {manifest.clips[8].id}
    assert cold.trusted == 9


def test_a_start_on_a_whole_store_reads_nothing_that_is_known(
    dataset: Dataset, recipe, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(digests_module, "SETTLED_NS", 0)
    fill(dataset, recipe, tmp_path / "features")
    read: list[str] = []
    real = Digests.read
    monkeypatch.setattr(Digests, "read", lambda self, tree, clip: (read.append(clip), real(self, tree, clip))[1])
    job, _ = fill(dataset, recipe, tmp_path / "features")
    assert not job.pending
    assert read == []


def test_what_is_done_by_another_process_after_planning_is_not_done_again(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str]
) -> None:
    """Two people plan the same refresh; the second finds it done when it is its turn."""
    fill(dataset, recipe, tmp_path / "features")
    dataset, _ = add(dataset)
    jobs = prepare(*dataset, [recipe], tmp_path / "features", device="cpu")
    fill(dataset, recipe, tmp_path / "features")
    computed.clear()
    (outcome,) = run(*dataset, jobs, device="cpu")
    assert computed == []
    assert outcome.computed == 0
    assert jobs_module.job_for(*dataset, outcome.place, outcome.header).sealed


@pytest.mark.slow
def test_a_store_in_a_bucket_is_refreshed_too(
    dataset: Dataset, recipe, tmp_path: Path, computed: list[str], bucket: str, monkeypatch
) -> None:
    """Copied aside and removed, and interrupted in between: both copies are there, and nothing is computed twice."""

    def keys(features: str) -> dict[str, bytes]:
        place = open_place(features)
        return {k: place.read(k) for k in place.files() if ".lock" not in k}

    fill(dataset, recipe, bucket)
    dataset, wanted = add(dataset)
    with monkeypatch.context() as broken:
        broken.setattr(type(open_place(bucket)), "clear", stopped)
        with pytest.raises(Stop):
            fill(dataset, recipe, bucket)
    computed.clear()
    _, outcome = fill(dataset, recipe, bucket)
    assert set(computed) == wanted
    assert str(outcome.place) == f"{bucket}/set/small.zarr"
    assert keys(bucket) == keys(str(fill(dataset, recipe, tmp_path / "fresh")[1].place.parent.parent))
    assert list(verify(open_store(outcome.place))) == []
    computed.clear()
    other = recipe.model_copy(update={"name": "other"})
    job, _ = fill(dataset, other, tmp_path / "elsewhere", libraries=[open_place(bucket)])
    assert computed == []
    assert job.libraries == (outcome.place,)


def stopped(*_: object) -> None:
    raise Stop


@pytest.mark.slow
@pytest.mark.parametrize("workers", [Threads(2), Processes(2)], ids=str)
@pytest.mark.parametrize("change", [everything, replaced])
def test_workers_take_what_is_there_too(dataset: Dataset, recipe, tmp_path: Path, change, workers: Pool) -> None:
    fill(dataset, recipe, tmp_path / "features")
    dataset, wanted = change(dataset)
    _, outcome = fill(dataset, recipe, tmp_path / "features", workers=workers)
    assert outcome.computed == len(wanted)
    assert outcome.taken > 0
    assert content(str(outcome.place)) == content(str(fill(dataset, recipe, tmp_path / "fresh")[1].place))


def test_a_store_keeps_its_precision_where_none_is_asked_for(dataset, recipe, tmp_path: Path) -> None:
    """Two people share a store, and one of them names a precision."""
    tree, manifest = dataset
    storage = recipe.storage.model_copy(update={"precision": "0.05dB", "compress": True})
    rounded = recipe.model_copy(update={"storage": storage})
    run(tree, manifest, prepare(tree, manifest, [rounded], tmp_path, device="cpu"), device="cpu")
    (job,) = prepare(tree, manifest, [recipe], tmp_path, device="cpu")
    assert (job.pending, job.sealed, job.anew) == ((), True, False)
    exact = recipe.model_copy(update={"storage": recipe.storage.model_copy(update={"precision": "float32"})})
    (job,) = prepare(tree, manifest, [exact], tmp_path, device="cpu")
    assert job.anew
