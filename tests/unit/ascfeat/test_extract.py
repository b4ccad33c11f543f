"""Does extraction do exactly what is missing, name what it cannot use, and refuse what it must?"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ascfeat.audio import decode, waveform
from ascfeat.datasets.tree import Tree
from ascfeat.extract import features_of, run
from ascfeat.jobs import check_space, prepare
from ascfeat.recipes import complete, load_recipe
from ascfeat.representations import representation
from ascfeat.store import Folder, Store, open_store
from ascschemas.base import Parameters
from ascschemas.dataset import Manifest
from ascschemas.problems import AudioError, DatasetError, RecipeError, SpaceError, StoreError, StoreMismatch
from ascschemas.recipe import FeatureRecipe

Dataset = tuple[Tree, Manifest]


def fill(dataset: Dataset, recipes, features: Path, **how):
    tree, manifest = dataset
    return run(tree, manifest, prepare(tree, manifest, recipes, features, device="cpu"), device="cpu", **how)


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_values_are_the_representation_of_the_waveform(dataset: Dataset, recipe, tmp_path: Path) -> None:
    tree, _ = dataset
    store = open_store(fill(dataset, [recipe], tmp_path)[0].place.path)
    kind = representation(recipe.representation)
    transform = kind.build(store.header.audio, device="cpu", backend=store.header.backend.split("-")[0])
    for i, clip in enumerate(store.ids):
        recording = decode(tree.read(clip), clip)
        expected = transform(waveform(recording, clip, store.header.audio, recipe.decode)[None])[0]
        np.testing.assert_array_equal(store.read([i])[0], expected)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_bytes_do_not_depend_on_threads_or_company(dataset: Dataset, recipe, tmp_path: Path, threads: int) -> None:
    """One store alone on one thread, or beside another recipe on several: the same bytes."""
    other = recipe.model_copy(
        update={"name": "other", "storage": recipe.storage.model_copy(update={"clips_per_shard": 2})}
    )
    alone = fill(dataset, [recipe], tmp_path / "alone", threads=1)[0].place.path
    beside = fill(dataset, [other, recipe], tmp_path / "beside", threads=threads)
    assert content(beside[1].place.path) == content(alone)
    np.testing.assert_array_equal(open_store(beside[0].place).read(range(10)), open_store(alone).read(range(10)))


SMALL = {
    "log_mel": {"n_fft": 256, "hop_length": 128, "spectrum": "magnitude", "n_mels": 16, "floor": 1e-8},
    "mel": {"n_fft": 256, "hop_length": 128, "spectrum": "power", "n_mels": 16},
    "mfcc": {"n_fft": 256, "hop_length": 128, "n_mels": 16, "n_mfcc": 8, "channels": "left_right_mid"},
    "hpss_mfcc": {"n_fft": 256, "hop_length": 128, "n_mels": 16, "n_mfcc": 8, "separation_n_fft": 256,
                  "separation_hop_length": 64, "kernel_size": 9, "channels": "left_right_mid"},
    "cqt": {"hop_length": 100, "n_bins": 24, "fmin": 200, "channels": "left_right_mid"},
    "mean_spectrum": {"n_fft": 256, "hop_length": 128},
    "waveform": {},
}  # fmt: skip


@pytest.mark.parametrize("backend", ["numba", "torch", "nnaudio"])
@pytest.mark.parametrize("kind", SMALL)
def test_values_do_not_depend_on_units(stereo: Dataset, tmp_path: Path, kind: str, backend: str) -> None:
    """A clip alone in its unit or among others, on one thread or several: the same bits."""
    digests = set()
    for clips, threads in ((1, 1), (3, 2), (8, 3)):
        made = {"name": "units", "decode": {"channels": "native"}, "storage": {"clips_per_shard": clips}}
        recipe = FeatureRecipe.model_validate({**made, "representation": {"kind": kind, **SMALL[kind]}})
        jobs = prepare(*stereo, [complete(recipe, "units")], tmp_path / str(clips), device="cpu",
                       backend="auto" if kind == "waveform" else backend)  # fmt: skip
        (outcome,) = run(*stereo, jobs, device="cpu", threads=threads)
        digests.add(tuple(r.values for r in Store(outcome.place).records()))
    (one,) = digests
    assert len(set(one)) == 7, "clips differ"


def test_several_recipes_decode_once(dataset: Dataset, recipe, tmp_path: Path, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr("ascfeat.work.decode", lambda data, clip: calls.append(clip) or decode(data, clip))
    other = recipe.model_copy(update={"name": "other"})
    fill(dataset, [recipe, other], tmp_path)
    assert len(calls) == 10


def test_again_there_is_nothing_to_do_and_nothing_is_touched(dataset: Dataset, recipe, tmp_path: Path) -> None:
    first = fill(dataset, [recipe], tmp_path)[0]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    again = fill(dataset, [recipe], tmp_path)[0]
    assert (first.computed, again.computed) == (10, 0)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


BAD = {
    "audio/01.wav": ("empty", lambda p: p.write_bytes(b"")),
    "audio/02.wav": ("truncated", lambda p: p.write_bytes(p.read_bytes()[:3000])),
    "audio/03.wav": ("unreadable", lambda p: p.write_bytes(b"<html>404</html>" * 99)),
    "audio/04.wav": ("nan", lambda p: soundfile.write(p, np.full(8000, np.nan), 8000, subtype="FLOAT")),
    "audio/05.wav": ("wrong-rate", lambda p: soundfile.write(p, np.zeros(16000), 16000)),
    "audio/06.wav": ("wrong-channels", lambda p: soundfile.write(p, np.zeros((8000, 2)), 8000)),
    "audio/07.wav": ("wrong-length", lambda p: soundfile.write(p, np.zeros(7200), 8000)),
    "audio/08.wav": ("missing", lambda p: p.unlink()),
}


def test_every_bad_recording_is_named_and_every_good_one_kept(dataset: Dataset, recipe, tmp_path: Path) -> None:
    tree, manifest = dataset
    good = manifest.clips[0]
    extra = [f"audio/more{i}.wav" for i in range(12)]
    for name in extra:
        shutil.copy(tree.root / good.id, tree.root / name)
    clips = (*manifest.clips, *(good.model_copy(update={"id": n}) for n in extra))
    larger = manifest.model_copy(update={"clips": clips})
    for name, (_, spoil) in BAD.items():
        spoil(tree.root / name)
    outcome = fill((tree, larger), [recipe], tmp_path)[0]
    assert {clip: r.excluded for clip, r in outcome.excluded.items()} == {n: reason for n, (reason, _) in BAD.items()}
    store = open_store(outcome.place)
    assert store.usable.tolist() == [c.id not in BAD for c in clips]
    values = store.read(range(len(clips)))
    assert np.isfinite(values[store.usable]).all()
    assert np.isnan(values[~store.usable]).all()
    assert store.seal.excluded == dict.fromkeys(sorted(reason for reason, _ in BAD.values()), 1)
    assert fill((tree, larger), [recipe], tmp_path)[0].computed == 0, "excluded clips are done, too"


@pytest.mark.parametrize("backend", ["numba", "torch", "nnaudio", "librosa"])
@pytest.mark.parametrize("kind", ["log_mel", "cqt", "mean_spectrum"])
def test_levels_that_no_recording_has_exclude_it_on_every_backend(stereo, tmp_path: Path, kind, backend) -> None:
    tree, manifest = stereo
    for name, level in (("audio/5.wav", 1e38), ("audio/6.wav", 2e9), ("audio/4.wav", 9e8), ("audio/3.wav", 1e-30)):
        noise = np.random.default_rng(1).uniform(-1, 1, (8000, 2))
        soundfile.write(tree.root / name, noise / np.abs(noise).max() * level, 8000, subtype="FLOAT")
    made = {"name": "loud", "decode": {"channels": "native"}, "representation": {"kind": kind, **SMALL[kind]}}
    recipe = complete(FeatureRecipe.model_validate(made), "loud")
    jobs = prepare(tree, manifest, [recipe], tmp_path, device="cpu", backend=backend)
    (outcome,) = run(tree, manifest, jobs, device="cpu")
    assert {c: r.excluded for c, r in outcome.excluded.items()} == {"audio/5.wav": "nan", "audio/6.wav": "nan"}
    assert open_store(outcome.place).seal.certificate.holds


def test_features_that_are_not_finite_exclude_their_recording(dataset, recipe, tmp_path: Path, monkeypatch) -> None:
    from ascfeat.work import Target

    features = Target._of_clip
    broken = lambda self, clip, x: features(self, clip, x) * (np.inf if clip == "audio/09.wav" else 1)  # noqa: E731
    monkeypatch.setattr(Target, "_of_clip", broken)
    found = fill(dataset, [recipe], tmp_path)[0].excluded
    assert {c: r.excluded for c, r in found.items()} == {"audio/09.wav": "non-finite"}


def test_librosas_own_cqt_is_another_recipe(dataset: Dataset, recipe, tmp_path: Path) -> None:
    """The recursive transform differs from the direct one, so it has a fingerprint of its own and never mixes."""
    values = {"kind": "cqt", "hop_length": 256, "n_bins": 12, "fmin": 500, "output": "magnitude"}
    cqt = complete(recipe.model_copy(update={"representation": Parameters.model_validate(values)}), "cqt")
    tree, manifest = dataset
    made = {b: prepare(tree, manifest, [cqt], tmp_path, device="cpu", backend=b)[0].header for b in ("auto", "librosa")}
    assert (made["auto"].backend, made["librosa"].backend) == ("numba-cpu", "librosa-cpu")
    assert made["auto"].recipe_fingerprint == cqt.fingerprint != made["librosa"].recipe_fingerprint
    said = made["auto"].layout.quantity, made["librosa"].layout.quantity
    assert said == ("constant-Q magnitude", "constant-Q magnitude, recursive")
    again = prepare(tree, manifest, [made["librosa"].recipe], tmp_path, device="cpu")[0].header
    assert again.backend == "librosa-cpu", "a recipe that says recursive finds the backend that computes it"
    with pytest.raises(RecipeError, match="librosa"):
        prepare(tree, manifest, [made["librosa"].recipe], tmp_path, device="cpu", backend="torch")
    run(tree, manifest, prepare(tree, manifest, [cqt], tmp_path, device="cpu"), device="cpu")
    with pytest.raises(StoreMismatch, match=r"representation\.algorithm +expected recursive +found direct"):
        prepare(tree, manifest, [cqt], tmp_path, device="cpu", backend="librosa")


def test_a_repaired_recording_is_taken_up(dataset: Dataset, recipe, tmp_path: Path) -> None:
    tree, _ = dataset
    path = tree.root / "audio/06.wav"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    spoiled = fill(dataset, [recipe], tmp_path / "a")[0]
    assert list(spoiled.excluded) == ["audio/06.wav"]
    path.write_bytes(whole)
    mended = fill(dataset, [recipe], tmp_path / "a")[0]
    assert (mended.computed, mended.taken, mended.excluded) == (1, 3, {}), "one unit again, and of it one clip"
    fresh = fill(dataset, [recipe], tmp_path / "b")[0]
    assert content(mended.place.path) == content(fresh.place.path)


def test_nothing_usable_is_not_sealed(dataset: Dataset, recipe, tmp_path: Path) -> None:
    tree, manifest = dataset
    jobs = prepare(tree, manifest, [recipe], tmp_path, device="cpu")
    for clip in manifest.clips:
        (tree.root / clip.id).write_bytes(b"")
    with pytest.raises(StoreError, match="none of its 10 recordings could be used"):
        run(tree, manifest, jobs, device="cpu")
    assert Store(jobs[0].place).seal is None


@pytest.mark.parametrize(("change", "field"), [
    ({"representation": {"n_mels": 20}}, "representation.n_mels"),
    ({"decode": {"remove_dc": True}}, "decode.remove_dc"),
])  # fmt: skip
def test_a_store_of_another_recipe_is_refused_with_the_fields(dataset, recipe, tmp_path, change, field) -> None:
    fill(dataset, [recipe], tmp_path)
    ((slot, values),) = change.items()
    other = recipe.model_copy(update={slot: getattr(recipe, slot).model_copy(update=values)})
    with pytest.raises(StoreMismatch) as caught:
        fill(dataset, [other], tmp_path)
    assert [d.field for d in caught.value.differences] == [field]
    assert "Give your recipe a name of its own" in str(caught.value)


def test_another_description_is_no_other_recipe(dataset: Dataset, recipe, tmp_path: Path) -> None:
    fill(dataset, [recipe], tmp_path)
    assert fill(dataset, [recipe.model_copy(update={"description": "new words"})], tmp_path)[0].computed == 0


def test_a_disk_that_cannot_hold_it_is_refused_before_anything(dataset: Dataset, recipe, tmp_path, monkeypatch) -> None:
    tree, manifest = dataset
    jobs = prepare(tree, manifest, [recipe], tmp_path / "features", device="cpu")
    monkeypatch.setattr(Folder, "free", lambda self: 1000)
    with pytest.raises(SpaceError, match=r"cannot hold the features.\n.*free\s+found 1,000 free"):
        check_space(jobs)
    assert not (tmp_path / "features").exists()


def test_the_forecast_of_bytes_is_close(dataset: Dataset, recipe, tmp_path: Path) -> None:
    tree, manifest = dataset
    (job,) = prepare(tree, manifest, [load_recipe("logmel128")], tmp_path, device="cpu")
    run(tree, manifest, [job], device="cpu")
    taken = sum(p.stat().st_size for p in job.place.path.rglob("*") if p.is_file())
    assert taken == pytest.approx(job.bytes, rel=0.1)


def test_a_disk_that_fills_up_says_so_and_goes_on_later(dataset: Dataset, recipe, tmp_path, monkeypatch) -> None:
    from ascfeat.store import Writer

    whole = fill(dataset, [recipe], tmp_path / "whole")[0].place.path
    write, units = Writer.write, []

    def full_after_one(self, unit, clips) -> None:
        if units:
            raise OSError(28, "No space left on device")
        units.append(unit)
        write(self, unit, clips)

    monkeypatch.setattr(Writer, "write", full_after_one)
    with pytest.raises(SpaceError, match="is full"):
        fill(dataset, [recipe], tmp_path / "full")
    monkeypatch.setattr(Writer, "write", write)
    later = fill(dataset, [recipe], tmp_path / "full")[0]
    assert later.computed == 6
    assert content(later.place.path) == content(whole)


def test_features_of_a_file_are_those_of_the_store(dataset: Dataset, recipe, tmp_path: Path) -> None:
    tree, _ = dataset
    store = open_store(fill(dataset, [recipe], tmp_path)[0].place.path)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no audio at all")
    files = [tree.root / "audio/07.wav", bad, tmp_path / "none.wav", tree.root / "audio/02.wav"]
    found = dict(features_of(files, store.header))
    np.testing.assert_array_equal(found[files[0]], store.read([7])[0])
    np.testing.assert_array_equal(found[files[3]], store.read([2])[0])
    assert isinstance(found[bad], AudioError)
    assert isinstance(found[files[2]], AudioError)


def test_unknown_devices_and_backends_are_refused(dataset: Dataset, recipe, tmp_path: Path) -> None:
    tree, manifest = dataset
    for how in ({"device": "cuda:7"}, {"device": "tpu"}, {"device": "cpu", "backend": "torsh"}):
        with pytest.raises(RecipeError):
            prepare(tree, manifest, [recipe], tmp_path, **how)
    with pytest.raises(DatasetError, match=r"lists no clips|None of the 0"):
        prepare(tree, manifest.model_copy(update={"clips": (), "splits": ()}), [recipe], tmp_path, device="cpu")
    assert not any(p.suffix == ".zarr" for p in tmp_path.rglob("*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_named(dataset: Dataset, recipe, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises((StoreError, PermissionError)):
        fill(dataset, [recipe], closed / "features")


def test_another_content_of_the_same_size_is_noticed(dataset: Dataset, recipe, tmp_path: Path) -> None:
    tree, _ = dataset
    fill(dataset, [recipe], tmp_path)
    path = tree.root / "audio/05.wav"
    path.write_bytes(path.read_bytes()[::-1][:44] + path.read_bytes()[44:])  # other bytes, and no audio any more
    assert fill(dataset, [recipe], tmp_path)[0].computed == 1, "it, and no other"


def test_another_dataset_of_the_same_name_is_refused(dataset: Dataset, recipe, tmp_path: Path) -> None:
    tree, manifest = dataset
    before = content(fill(dataset, [recipe], tmp_path / "features")[0].place.path)
    other = tmp_path / "elsewhere" / tree.root.name
    for seed, clip in enumerate(manifest.clips):
        (other / clip.id).parent.mkdir(parents=True, exist_ok=True)
        samples = 0.1 * np.random.default_rng(100 + seed).standard_normal(8000)
        soundfile.write(other / clip.id, samples, 8000, subtype="PCM_16")
    with pytest.raises(StoreMismatch, match="not one of 10 is the one in"):
        fill((Tree(other), manifest), [recipe], tmp_path / "features")
    assert content(tmp_path / "features" / tree.root.name / "small.zarr") == before


def test_two_recipes_of_one_name_are_refused(dataset: Dataset, recipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="several are called small"):
        fill(dataset, [recipe, recipe.model_copy(update={"description": "again"})], tmp_path)


def test_something_else_in_the_stores_place_is_named(dataset: Dataset, recipe, tmp_path: Path) -> None:
    (tmp_path / "set" / "small.zarr").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"is not a feature store: it has no zarr\.json"):
        fill(dataset, [recipe], tmp_path)
