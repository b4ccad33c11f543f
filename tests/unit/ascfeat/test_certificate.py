"""Does a certificate say how far a store lies from the reference, also when that is far, and nothing else?"""

import hashlib
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import zarr

from ascfeat import certificate as certificate_module
from ascfeat.certificate import SAMPLE, TOLERANCE, apart
from ascfeat.extract import run
from ascfeat.jobs import prepare
from ascfeat.recipes import complete
from ascfeat.store import Store, Writer, open_store, row
from ascschemas.base import canonical_json
from ascschemas.problems import StoreError
from ascschemas.recipe import FeatureRecipe


def fill(dataset, recipe, features: Path, *, backend="auto", **how):
    tree, manifest = dataset
    jobs = prepare(tree, manifest, [recipe], features, device="cpu", backend=backend)
    return run(tree, manifest, jobs, device="cpu", **how)[0]


def written_as(monkeypatch, change) -> None:
    """Let the writer store ``change(values)`` instead of the values: what a wrong backend would do."""
    monkeypatch.setattr(
        "ascfeat.units.row", lambda record, values, header, **how: row(record, change(values), header, **how)
    )


def by_digest(ids) -> list[str]:
    return sorted(ids, key=lambda clip: hashlib.sha256(clip.encode()).digest())


@pytest.mark.parametrize("backend", ["numba", "torch", "nnaudio", "librosa"])
def test_every_backend_is_within_the_tolerance(dataset, recipe, tmp_path, backend) -> None:
    outcome = fill(dataset, recipe, tmp_path, backend=backend)
    found = open_store(outcome.place).seal.certificate
    assert found == outcome.certificate
    assert found.holds
    assert found.clips == tuple(by_digest(c.id for c in dataset[1].clips)[:SAMPLE])
    assert (found.backend, found.device, found.tf32) == (f"{backend}-cpu", "cpu", "off")
    assert found.reference == f"librosa {librosa.__version__}, float64"
    assert found.software["librosa"] == librosa.__version__
    assert found.unit == "ln(mel power + 1e-08)"
    (comparison,) = found.comparisons
    assert comparison.relative <= TOLERANCE == comparison.tolerance
    assert comparison.max < 1e-3


def test_the_numbers_are_those_of_librosa_against_what_lies_on_disk(dataset, recipe, tmp_path, monkeypatch) -> None:
    written_as(monkeypatch, lambda values: values + np.float32(0.001))
    store = open_store(fill(dataset, recipe, tmp_path).place)
    whole, (said,) = np.asarray(zarr.open_group(store.place.path)["features"][:]), store.seal.certificate.comparisons
    worst = dict.fromkeys(("max", "p99", "mean", "relative", "relative_max"), 0.0)
    for clip in store.seal.certificate.clips:
        x, rate = soundfile.read(dataset[0].root / clip)
        power = np.abs(librosa.stft(x, n_fft=256, hop_length=128, pad_mode="reflect")) ** 2
        expected = np.log(librosa.filters.mel(sr=rate, n_fft=256, n_mels=16, dtype=float) @ power + 1e-8)
        off = np.abs(whole[store.ids.index(clip), 0] - expected)
        p99 = np.quantile(off, 0.99)
        rms, largest = np.sqrt((expected**2).mean()), np.abs(expected).max()
        ours = (off.max(), p99, off.mean(), p99 / rms, off.max() / largest)
        worst = {name: max(worst[name], value) for name, value in zip(worst, ours, strict=True)}
    assert {name: getattr(said, name) for name in worst} == pytest.approx(worst, rel=6e-3)
    assert worst["mean"] == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize(("change", "relative"), [
    (lambda v: v * np.float32(1.001), (1e-3, 2.5e-3)),
    (lambda v: v + np.float32(1e-3), (1e-4, 1e-3)),
    (lambda v: v.astype(np.float16).astype(np.float32), (1e-4, 1e-3)),
])  # fmt: skip
def test_values_a_little_off_are_sealed_and_told(dataset, recipe, tmp_path, monkeypatch, change, relative) -> None:
    written_as(monkeypatch, change)
    found = fill(dataset, recipe, tmp_path).certificate
    assert not found.holds
    assert relative[0] < found.comparisons[0].relative < relative[1]
    assert found.comparisons[0].correlation > 0.99999, "a correlation alone would not have told"


def test_what_float32_differs_by_is_within_the_tolerance(dataset, recipe, tmp_path, monkeypatch) -> None:
    written_as(monkeypatch, lambda values: np.nextafter(np.nextafter(values, np.float32(9)), np.float32(9)))
    found = fill(dataset, recipe, tmp_path).certificate
    assert found.holds
    assert 1e-8 < found.comparisons[0].relative < TOLERANCE / 10


@pytest.mark.parametrize("change", [lambda v: v * np.float32(1.2), lambda v: v[..., ::-1].copy(), np.exp])
def test_other_values_are_not_sealed(dataset, recipe, tmp_path, monkeypatch, change) -> None:
    written_as(monkeypatch, change)
    with pytest.raises(StoreError, match=r"its values are not ln\(mel power \+ 1e-08\)(.|\n)*at most 1e-05 +found"):
        fill(dataset, recipe, tmp_path)
    assert Store(tmp_path / "set" / "small.zarr").seal is None


def test_an_interrupted_run_gets_the_certificate_of_a_whole_one(dataset, recipe, tmp_path, monkeypatch) -> None:
    whole = fill(dataset, recipe, tmp_path / "whole", backend="torch", threads=1)
    write, units = Writer.write, []

    def stopped(self, unit, clips) -> None:
        if units:
            raise KeyboardInterrupt
        units.append(unit)
        write(self, unit, clips)

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "write", stopped)
        with pytest.raises(KeyboardInterrupt):
            fill(dataset, recipe, tmp_path / "cut", backend="torch")
    later = fill(dataset, recipe, tmp_path / "cut", backend="torch", threads=3)
    assert later.computed == 6
    assert canonical_json(later.certificate) == canonical_json(whole.certificate)
    assert later.place.read("zarr.json") == whole.place.read("zarr.json")


def test_a_recording_that_changed_before_the_seal_is_passed_over(dataset, recipe, tmp_path) -> None:
    tree, manifest = dataset
    order = by_digest(c.id for c in manifest.clips)

    def meddle(done: int) -> None:
        if done == len(manifest.clips):
            (tree.root / order[0]).unlink()
            soundfile.write(tree.root / order[2], np.zeros(8000), 8000)

    found = fill(dataset, recipe, tmp_path, progress=meddle).certificate
    assert found.clips == (order[1], order[3], order[4])
    assert found.holds


def test_silence_and_clips_shorter_than_the_window_are_certified(dataset, recipe, tmp_path) -> None:
    """Constants have no correlation, and librosa warns of short clips: neither may stop a seal."""
    tree, manifest = dataset
    for clip in manifest.clips:
        soundfile.write(tree.root / clip.id, np.zeros(8000), 8000)
    found = fill(dataset, recipe, tmp_path / "silence").certificate
    assert found.holds
    assert found.comparisons[0].correlation is None
    long = recipe.representation.model_copy(update={"n_fft": 8192, "win_length": 4000})
    assert fill(dataset, recipe.model_copy(update={"representation": long}), tmp_path / "short").certificate.holds


def test_what_no_reference_computes_has_no_certificate(dataset, tmp_path) -> None:
    waveform = complete(FeatureRecipe.model_validate({"name": "w", "representation": {"kind": "waveform"}}), "w")
    outcome = fill(dataset, waveform, tmp_path)
    assert outcome.certificate is None
    assert open_store(outcome.place).seal.certificate is None


def test_a_related_definition_is_compared_for_information(dataset, recipe, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(certificate_module, "RELATED", {"log_mel": {"a higher floor": {"floor": 0.1}}})
    found = fill(dataset, recipe, tmp_path).certificate
    first, second = found.comparisons
    assert (first.holds, second.against, second.tolerance) == (True, "a higher floor", None)
    assert second.relative > 100 * TOLERANCE
    assert found.holds
    same = {"log_mel": {"its own floor": {"floor": 1e-8}}}
    monkeypatch.setattr(certificate_module, "RELATED", same)
    assert len(fill(dataset, recipe, tmp_path / "again").certificate.comparisons) == 1, "nothing is compared twice"


def test_a_constant_q_transform_is_compared_with_both_algorithms(dataset, tmp_path) -> None:
    cqt = {"kind": "cqt", "hop_length": 128, "n_bins": 36, "fmin": 110.0}
    recipe = complete(FeatureRecipe.model_validate({"name": "q", "representation": cqt}), "q")
    direct, recursive = fill(dataset, recipe, tmp_path).certificate.comparisons
    assert direct.holds
    assert (recursive.against, recursive.tolerance) == ("librosa's recursive algorithm", None)
    assert recursive.relative > 100 * TOLERANCE, "they are two definitions"
    assert recursive.correlation > 0.9, "of one thing"


def test_difference_of_arrays_by_hand() -> None:
    found = apart(np.array([3.0, -4.0, 12.5], np.float32), np.array([3.0, -4.0, 12.0], np.float32))
    assert (found.max, found.mean) == (0.5, 0.5 / 3)
    assert found.p99 == pytest.approx(0.49)  # 98 % of the way from the second of three to the third
    assert found.relative == pytest.approx(0.49 / (13 / np.sqrt(3)))
    assert found.relative_max == pytest.approx(0.5 / 12)
    nothing = apart(np.zeros(5, np.float32), np.zeros(5, np.float32))
    assert (nothing.max, nothing.relative, nothing.relative_max, nothing.correlation) == (0, 0, 0, None)
