"""From recordings to corrected stores: known responses come back, formulas hold, a refusal leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from parallel import RATE, Recorded, make_dataset, taps, usual

import ascfeat
from ascfeat import work
from ascfeat.correction.correcting import find_dataset, recipe_of
from ascfeat.datasets import open_dataset
from ascfeat.difference import compare
from ascfeat.extract import features_from, features_of, run
from ascfeat.jobs import prepare
from ascfeat.pools import Processes, Threads
from ascfeat.recipes import load_recipe
from ascfeat.repair import repair
from ascfeat.store import Folder, find_stores, open_store, read_coefficients
from ascfeat.verify import recomputed
from ascfeat.work import transforms
from ascschemas.problems import AscError, DatasetError, RecipeError, StoreError, StoreMismatch
from ascschemas.store import StoreHeader

Float64 = npt.NDArray[np.float64]
REFERENCE = ("a", "b", "c")


def everything(folder: Path) -> list[str]:
    return sorted(p.as_posix() for p in folder.rglob("*"))


def magnitudes(file: Path) -> Float64:
    """``|X[t, k]|`` of a recording less its mean."""
    samples, _ = soundfile.read(file, dtype="float32")
    x = samples.astype(np.float64)
    return np.abs(librosa.stft(x - x.mean(), n_fft=2048, hop_length=512, pad_mode="reflect")).T


@pytest.fixture
def recordings(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a dataset and returns its folder."""
    return lambda moments=None, name="set": make_dataset(tmp_path / name, moments)


@pytest.fixture
def made(recordings, tmp_path):
    """A dataset, its features folder, and the coefficients as an array; a small recipe is corrected by them."""
    root, features = recordings(), tmp_path / "features"
    small = tmp_path / "small.yaml"
    small.write_text(
        "name: small\ndecode: {remove_dc: true}\nstorage: {clips_per_shard: 8}\nrepresentation: "
        "{kind: log_mel, n_fft: 2048, hop_length: 512, n_mels: 32, spectrum: magnitude, floor: 1.0e-7}\n"
    )
    array = ascfeat.correct(root, features=features, recipes=[str(small)], backend="numba", device="cpu")
    return root, features, array


def test_known_responses_come_back(made):
    _, _, array = made
    assert array.dims == ("device", "frequency")
    heard = (array.frequency.values >= 100) & (array.frequency.values <= 16_000)
    for device in "bc":
        ratio = array.sel(device="a").values / array.sel(device=device).values
        truth = np.abs(np.fft.rfft(taps(device), 2048))
        apart = 20 * np.log10(ratio / truth)[heard]
        assert np.sqrt(np.mean((apart - apart.mean()) ** 2)) < 0.1
    held = array.attrs["audit"]["held_out"]
    assert held["before"] > 3
    assert held["after"] < 0.05 * held["before"]
    assert held["each_after"] < 0.05 * held["each_before"]


def test_the_audit_counts_what_was_used(made):
    root, _, array = made
    audit = array.attrs["audit"]
    manifest = open_dataset(root)[1]
    train = {c for s in manifest.splits for c in s.train}
    used = {d["device"]: d for d in audit["devices"]}
    assert {d: len(u["clips"]) for d, u in used.items()} == {"a": 8, "b": 8, "c": 8}
    assert used["a"]["unpaired"] == 4
    assert all({*u["clips"]} <= train for u in used.values())
    assert (audit["from_test"], audit["pairing"], audit["moments"], audit["without"]) == (0, "complete", 8, [])
    assert audit["identity"] < 1e-10
    held = audit["held_out"]
    assert len(held["stems"]) == 2 == len(held["locations"])
    assert held["estimated_from"] == 6


@pytest.mark.parametrize("method", ["mean", "pairs", "geometric", "geometric_unaligned"])
def test_coefficients_are_their_formula_over_librosas_frames(recordings, tmp_path, method):
    root = recordings([Recorded(i) for i in range(3)])
    array = ascfeat.correct(root, features=tmp_path / "f", recipes=(), method=method, reference=("b", "c"))
    x = {d: np.stack([magnitudes(root / Recorded(i).file(d)) for i in range(3)]) for d in "abc"}
    for d in "abc":
        if method == "mean":
            expected = np.mean([x["b"], x["c"]], axis=(0, 1, 2)) / x[d].mean(axis=(0, 1))
        elif method == "pairs":
            expected = (np.mean([x["b"], x["c"]], axis=(0, 2)) / x[d].mean(axis=1)).mean(axis=0)
        else:
            expected = np.exp(np.mean([np.log(x[r] / x[d]) for r in "bc"], axis=(0, 1, 2)))
        np.testing.assert_allclose(array.sel(device=d).values[1:], expected[1:], rtol=2e-5)  # stores are float32


def test_corrected_features_are_librosas_and_the_store_needs_nobody_else(made, tmp_path):
    root, features, array = made
    store = open_store(features / "set/small+ref_abc.zarr")
    shutil.rmtree(features / "set/coefficients+ref_abc.zarr")
    shutil.rmtree(features / "set/mean_spectrum.zarr")
    bank = librosa.filters.mel(sr=RATE, n_fft=2048, n_mels=32, dtype=np.float64)
    values = store.numpy()
    for i, clip in enumerate(store.ids):
        gain = array.sel(device=store.devices[i]).values
        expected = np.log(magnitudes(root / clip) * gain @ bank.T + 1e-7).T
        np.testing.assert_allclose(values[i, 0], expected, atol=2e-5)
    found = recomputed(store, *open_dataset(root), 1.0)
    assert (found.clips, found.problems) == (37, ())
    assert found.comparisons[0].holds
    victim = features / "set/small+ref_abc.zarr/features/c/1/0/0/0"
    victim.write_bytes(b"\0" * victim.stat().st_size)
    assert repair(Folder(features / "set/small+ref_abc.zarr"), open_dataset(root)).same
    again = prepare(*open_dataset(root), [store.header.recipe], features)
    assert not again[0].pending
    assert StoreHeader.model_validate_json(store.header.model_dump_json()) == store.header


def test_a_certificate_looks_at_every_device(recordings, tmp_path):
    root = recordings([*usual(), *[Recorded(30 + i, ("s1",), side="test") for i in range(3)]])
    ascfeat.correct(root, features=tmp_path / "f", recipes=["mean_spectrum"])
    store = open_store(tmp_path / "f/set/mean_spectrum+ref_abc.zarr")
    certificate = store.seal.certificate
    assert sorted(store.devices[store.ids.index(c)] for c in certificate.clips) == ["a", "b", "c", "s1"]
    assert certificate.holds


def test_a_store_that_corrects_wrongly_is_not_sealed(recordings, tmp_path, monkeypatch):
    """One device's recordings are forgotten by what computes; the certificate has its own transforms, and sees it."""
    root = recordings([Recorded(i) for i in range(6)])

    def forgetful(*args, **named):
        plain, corrected = transforms(*args, **named)
        return plain, {**corrected, "b": plain}

    monkeypatch.setattr(work, "transforms", forgetful)
    with pytest.raises(StoreError, match="is not sealed"):
        ascfeat.correct(root, features=tmp_path / "f", recipes=["mean_spectrum"])


@pytest.mark.parametrize("workers", [Threads(2), Processes(2)], ids=str)
def test_workers_correct_to_the_same_bytes(made, tmp_path, workers):
    root, features, _ = made
    store = open_store(features / "set/small+ref_abc.zarr")
    tree, manifest = open_dataset(root)
    jobs = prepare(tree, manifest, [store.header.recipe], tmp_path / "w")
    (outcome,) = run(tree, manifest, jobs, workers=workers)
    assert open_store(outcome.place).seal == store.seal


def test_few_moments_of_all_devices_are_bridged_by_the_anchor(recordings, tmp_path):
    """As in 2020 Mobile: b and c share moments with a, and hardly any with each other; both responses come back."""
    moments = [Recorded(i, ("a", "b") if i % 2 else ("a", "c")) for i in range(12)] + [Recorded(12)]
    array = ascfeat.correct(recordings(moments), features=tmp_path / "f", recipes=())
    audit = array.attrs["audit"]
    assert (audit["pairing"], audit["anchor"], audit["identity"]) == ("anchor", "a", None)
    assert {d["device"]: len(d["clips"]) for d in audit["devices"]} == {"a": 13, "b": 7, "c": 7}
    heard = (array.frequency.values >= 100) & (array.frequency.values <= 16_000)
    for device in "bc":
        ratio = array.sel(device="a").values / array.sel(device=device).values
        apart = 20 * np.log10(ratio / np.abs(np.fft.rfft(taps(device), 2048)))[heard]
        assert np.sqrt(np.mean((apart - apart.mean()) ** 2)) < 0.1
    assert audit["held_out"]["after"] < 0.1 * audit["held_out"]["before"]


def test_new_recordings_are_corrected_where_their_device_is_named(made):
    root, features, _ = made
    store = open_store(features / "set/small+ref_abc.zarr")
    place = store.devices.index("c")
    file = root / store.ids[place]
    (_, as_c), (_, plain) = (next(features_of([file], store.header, recorder=r)) for r in ("c", ""))
    np.testing.assert_array_equal(as_c, store.read([place])[0])
    assert np.abs(plain - as_c).max() > 0.5
    samples = soundfile.read(file, dtype="float32")[0][None]
    np.testing.assert_array_equal(features_from(store.header, recorder="c")(samples, RATE), as_c)
    with pytest.raises(RecipeError, match="correct no device 's6'"):
        next(features_of([file], store.header, recorder="s6"))


def test_a_clip_that_another_device_recorded_by_now_gets_other_values(made, tmp_path):
    root, features, _ = made
    store = open_store(features / "set/small+ref_abc.zarr")
    recipe, clip = store.header.recipe, Recorded(2).file("b")
    old = store.read([store.ids.index(clip)])
    meta = root / "meta.csv"
    meta.write_text(meta.read_text().replace(f"{clip}\tpark\toslo-2\tb", f"{clip}\tpark\toslo-2\tc"))
    tree, manifest = open_dataset(root)
    assert next(c for c in manifest.clips if c.id == clip).device == "c"
    (outcome,) = run(tree, manifest, prepare(tree, manifest, [recipe], features))
    assert (outcome.computed, outcome.taken) == (1, 36)
    run(tree, manifest, prepare(tree, manifest, [recipe], tmp_path / "fresh"))
    fresh, now = open_store(tmp_path / "fresh/set/small+ref_abc.zarr"), open_store(outcome.place)
    assert now.seal == fresh.seal
    assert np.abs(now.read([now.ids.index(clip)]) - old).max() > 0.5


def test_a_device_without_coefficients_stays_as_it_is_or_is_refused(recordings, tmp_path):
    root = recordings([*usual(), Recorded(30, ("s1",), side="test"), Recorded(31, ("s1",))])
    with pytest.raises(DatasetError, match="1 devices would have no coefficients: s1"):
        ascfeat.correct(root, features=tmp_path / "f", unseen="error")
    assert not (tmp_path / "f").exists()
    array = ascfeat.correct(root, features=tmp_path / "f", recipes=["mean_spectrum"])
    assert array.attrs["audit"]["without"] == ["s1"]
    plain, corrected = (open_store(tmp_path / f"f/set/mean_spectrum{end}.zarr") for end in ("", "+ref_abc"))
    for i, device in enumerate(plain.devices):
        gain = array.sel(device=device).values if device != "s1" else 1.0
        np.testing.assert_allclose(corrected.read([i]), plain.read([i]) * gain, rtol=2e-6)


def test_two_devices_of_the_reference_and_longer_names(recordings, tmp_path):
    root = recordings([Recorded(i, ("a", "s1")) for i in range(4)])
    array = ascfeat.correct(root, features=tmp_path / "f", recipes=(), reference=("s1", "a"))
    assert (tmp_path / "f/set/coefficients+ref_a-s1.zarr").is_dir()
    assert array.attrs["reference"] == "a, s1"


def test_without_a_folder_the_only_dataset_nearby_is_taken(made, monkeypatch):
    root, features, array = made
    assert [p.name for p in find_stores(features)] == ["mean_spectrum.zarr", "small+ref_abc.zarr"]
    again = ascfeat.correct(features=features, recipes=())
    assert again.equals(array)
    moved = root.rename(root.with_name("elsewhere"))
    assert find_dataset(features, None).tree is None
    assert ascfeat.correct(features=features, recipes=()).equals(array)
    with pytest.raises(DatasetError, match="recordings of set are needed"):
        ascfeat.correct(features=features)
    monkeypatch.chdir(moved.parent)
    moved.rename(moved.with_name("set"))
    assert find_dataset(features, None).tree is not None
    shutil.copytree(features / "set", features / "other")
    with pytest.raises(DatasetError, match="holds stores of 2"):
        ascfeat.correct(features=features, recipes=())


def test_a_corrected_recipe_is_found_by_its_name(made):
    _, features, _ = made
    by_store = recipe_of("logmel256+ref_abc", features, "set")
    assert by_store.name == "logmel256+ref_abc"
    assert by_store.correction == read_coefficients(features / "set/coefficients+ref_abc.zarr")[0]
    assert by_store.fingerprint != load_recipe("logmel256").fingerprint
    with pytest.raises(StoreError, match="no coefficients at"):
        recipe_of("logmel256+ref_bc", features, "set")


def test_other_coefficients_of_that_name_are_refused_before_anything_is_written(made):
    root, features, _ = made
    before = everything(features)
    with pytest.raises(StoreMismatch) as refused:
        ascfeat.correct(root, features=features, method="pairs", recipes=())
    assert ("method", "pairs", "mean") in [(d.field, d.expected, d.found) for d in refused.value.differences]
    assert everything(features) == before
    ascfeat.correct(root, features=features, method="pairs", recipes=(), name="by_pairs")
    assert (features / "set/coefficients+by_pairs.zarr").is_dir()


def test_two_corrections_differ_by_their_digest(made):
    root, features, _ = made
    ascfeat.correct(root, features=features, recipes=["mean_spectrum"])
    ascfeat.correct(root, features=features, recipes=["mean_spectrum"], reference=("a",))
    first, second = (open_store(features / f"set/mean_spectrum+ref_{r}.zarr") for r in ("abc", "a"))
    assert first.header.recipe_fingerprint != second.header.recipe_fingerprint
    fields = [d.field for d in compare(first, second).header]
    assert {"recipe.correction.reference", "recipe.correction.digest"} <= {*fields}
    assert not any("coefficients" in f for f in fields)
    shutil.rmtree(features / "set/mean_spectrum+ref_a.zarr")
    shutil.move(features / "set/mean_spectrum+ref_abc.zarr", features / "set/mean_spectrum+ref_a.zarr")
    with pytest.raises(StoreMismatch, match="made from something else"):
        ascfeat.correct(root, features=features, recipes=["mean_spectrum"], reference=("a",))


WRONG = {
    "no parallel recordings": ([Recorded(i, "abc"[i % 3]) for i in range(9)], {}, "no parallel recordings"),
    "a reference that is not there": (usual(), {"reference": ("a", "z")}, "no device 'z'"),
    "one device": ([Recorded(i, "a") for i in range(4)], {"reference": ("a",)}, "only one device"),
    "no training clips": ([Recorded(i, side="test") for i in range(4)], {}, "no training clips"),
    "no such split": (usual(), {"split": "fold7"}, "no split 'fold7'"),
    "another n_fft": (usual(), {"recipes": ("logmel128",)}, "other frequencies"),
    "another rate": (usual(), {"recipes": ("logmel64",)}, "other frequencies"),
    "no spectra to correct": (usual(), {"recipes": ("waveform",)}, "cannot be corrected"),
    "a constant-Q transform": (usual(), {"recipes": ("cqt_patches",)}, "cannot be corrected"),
    "spectra of the other average": (usual(), {"spectra": "mean_log_spectrum"}, "takes no spectra"),
    "spectra that are none": (usual(), {"spectra": "logmel256"}, "takes no spectra"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_refusal_has_four_parts_and_nothing_is_written(recordings, tmp_path, case):
    moments, asked, words = WRONG[case]
    root = recordings(moments)
    before = everything(tmp_path)
    with pytest.raises(AscError, match=words) as refused:
        ascfeat.correct(root, features=tmp_path / "f", **asked)
    assert refused.value.differences
    assert all(d.expected and d.found for d in refused.value.differences)
    assert refused.value.todo
    assert everything(tmp_path) == before


def test_a_split_that_contradicts_itself_is_refused(recordings, tmp_path):
    root = recordings()
    both = Recorded(1).file("b")
    with (root / "evaluation_setup/fold1_evaluate.csv").open("a") as lines:
        lines.write(f"{both}\tpark\n")
    with pytest.raises(DatasetError, match="both of its sides"):
        ascfeat.correct(root, features=tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_planted_leak_changes_no_coefficient(recordings, tmp_path):
    """Clips of a moment that the test side knows by another device: their like is left out, and counted."""
    clean = ascfeat.correct(recordings(name="clean"), features=tmp_path / "f", recipes=())
    root = recordings([*usual(), Recorded(40, ("a", "b")), Recorded(40, ("c",), side="test")], name="leaky")
    leaky = ascfeat.correct(root, features=tmp_path / "f", recipes=())
    np.testing.assert_array_equal(leaky.values, clean.values)
    assert leaky.attrs["audit"]["beside_test"] == 2


def test_a_recording_that_cannot_be_used_is_left_out_with_its_moment(recordings, tmp_path):
    root = recordings()
    (root / Recorded(3).file("b")).write_bytes(b"RIFF")
    audit = ascfeat.correct(root, features=tmp_path / "f", recipes=()).attrs["audit"]
    assert {d["device"]: len(d["clips"]) for d in audit["devices"]} == {"a": 7, "b": 7, "c": 7}
    assert audit["excluded"] == 1


def test_an_audit_is_json_and_says_how_many_were_few(recordings, tmp_path):
    root = recordings([Recorded(0)])
    array = ascfeat.correct(root, features=tmp_path / "f", recipes=())
    audit = json.loads((tmp_path / "f/set/coefficients+ref_abc.zarr/audit.json").read_text())
    assert audit == json.loads(json.dumps(array.attrs["audit"]))
    assert audit["held_out"] is None
