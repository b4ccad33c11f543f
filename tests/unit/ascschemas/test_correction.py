"""A correction is its numbers to the bit, and says so; no recipe that has none knows of it."""

import json
import math

import pytest
from pydantic import ValidationError

from ascfeat.recipes import load_recipe, names
from ascschemas.correction import Audit, Correction, DeviceAudit, Grid
from ascschemas.recipe import FeatureRecipe

GRID = Grid(sample_rate=8000, n_fft=4, win_length=4, hop_length=2, window="hann", remove_dc=True)
NUMBERS = {"b": (math.pi, 1e-300, 0.1), "a": (1.0, 1.0, 1 / 3)}
PUBLISHED = {
    "cqt_patches": "f2a3efb272d0",
    "hpss_mfcc_patches": "ba4df09fc646",
    "logmel128": "e8d520513468",
    "logmel256": "9825e4257c97",
    "logmel64": "21f39b7bc625",
    "mean_spectrum": "1e7954b14bd2",
    "mfcc_patches": "b2a692c56efc",
    "mfcc_patches_fine": "cd0038cffb8e",
    "tags": "6a9420061a8d",
    "waveform": "4d66db727c6a",
}
"""Fingerprints of recipes from before there was any correction: stores by them are there."""


def correction(**other: object) -> Correction:
    said = {"reference": ("b", "a"), "method": "mean", "split": "fold1", "grid": GRID, **other}
    return Correction.of(said.pop("coefficients", NUMBERS), **said)


def test_numbers_come_back_to_the_bit():
    held = Correction.model_validate_json(correction().model_dump_json())
    assert {d: held.of_device(d) for d in held.devices} == NUMBERS
    assert (held.devices, held.reference) == (("a", "b"), ("a", "b"))
    assert held.of_device("c") is None
    assert held.grid.frequencies() == (0.0, 2000.0, 4000.0)


@pytest.mark.parametrize(
    "other",
    [
        {"reference": ("a",)},
        {"method": "pairs"},
        {"split": "fold2"},
        {"grid": GRID.model_copy(update={"hop_length": 1})},
        {"coefficients": {**NUMBERS, "a": (1.0, 1.0, math.nextafter(1 / 3, 1))}},
        {"coefficients": {"a": NUMBERS["a"]}},
    ],
)
def test_everything_is_in_the_digest(other):
    assert correction(**other).digest != correction().digest


@pytest.mark.parametrize("numbers", [(1.0, 1.0), (1.0, -1.0, 1.0), (1.0, math.inf, 1.0), (math.nan,) * 3])
def test_numbers_that_correct_nothing_are_refused(numbers):
    with pytest.raises(ValidationError):
        correction(coefficients={"a": numbers})


@pytest.mark.parametrize(
    ("field", "value"),
    [("digest", "0" * 64), ("coefficients", {"a": "AAAA"}), ("coefficients", {"a": "?"}), ("reference", ["b", "a"])],
)
def test_what_was_edited_is_refused(field, value):
    held = json.loads(correction().model_dump_json()) | {field: value}
    with pytest.raises(ValidationError):
        Correction.model_validate(held)


def test_recipes_without_a_correction_are_what_they_were():
    assert PUBLISHED.keys() == {*names()} - {"mean_log_spectrum", "powermel128"}
    for name, published in PUBLISHED.items():
        recipe = load_recipe(name)
        assert recipe.fingerprint[:12] == published
        assert "correction" not in recipe.model_dump(mode="json")
        assert "correction" not in json.loads(recipe.model_dump_json())
        assert "average" not in recipe.representation.values()


def test_a_corrected_recipe_has_a_name_and_a_fingerprint_of_its_own():
    plain = load_recipe("logmel256")
    corrected = plain.corrected(correction(), "ref_ab")
    assert corrected.name == "logmel256+ref_ab"
    assert FeatureRecipe.model_validate_json(corrected.model_dump_json()) == corrected
    other = plain.corrected(correction(method="pairs"), "ref_ab")
    assert len({r.fingerprint for r in (plain, corrected, other)}) == 3


def test_an_audit_that_admits_test_clips_is_none():
    device = DeviceAudit(device="a", clips=("x",), unpaired=0, guarded=(), lowest=0, highest=0)
    facts = {
        "dataset": "set", "manifest": "0" * 64, "spectra": "0" * 64, "split": "fold1", "pairing": "complete",
        "moments": 1, "devices": (device,), "without": (), "beside_test": 0, "excluded": 0, "repeated": 0,
        "identity": None, "held_out": None,
    }  # fmt: skip
    assert Audit(from_test=0, **facts)
    with pytest.raises(ValidationError, match="1 clips are from the test side"):
        Audit(from_test=1, **facts)
