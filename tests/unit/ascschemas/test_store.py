"""A store's header counts its units; digests and counts are checked."""

import pytest
from pydantic import ValidationError

from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis, Layout
from ascschemas.recipe import FeatureRecipe
from ascschemas.store import FORMAT_VERSION, ClipRecord, Seal, StoreHeader, UnitRecord

DIGEST = "0" * 64


def header(**changes):
    recipe = FeatureRecipe(name="logmel64", representation={"kind": "log_mel"})
    values = {
        "dataset": "scenes",
        "dataset_kind": "csv",
        "manifest": DIGEST,
        "table": DIGEST,
        "recipe": recipe,
        "recipe_fingerprint": recipe.fingerprint,
        "audio": AudioFormat(sample_rate=48_000, channels=1, frames=480_000),
        "layout": Layout(axes=(Axis(name="time", size=3),), quantity="ln(mel magnitude)"),
        "clips": 17,
        "clips_per_unit": 8,
        "classes": ("bus",),
        "splits": ("fold1",),
        "backend": "torch",
        "software": {"ascfeat": "0.1.0"},
    }
    return StoreHeader(**(values | changes))


@pytest.mark.parametrize(("clips", "per_unit", "units"), [(17, 8, 3), (16, 8, 2), (1, 8, 1), (8, 1, 8)])
def test_units_cover_every_clip(clips, per_unit, units):
    assert header(clips=clips, clips_per_unit=per_unit).units == units


def test_another_format_version_is_refused():
    assert header().format_version == FORMAT_VERSION
    with pytest.raises(ValidationError, match="format_version"):
        header(format_version=FORMAT_VERSION + 1)


@pytest.mark.parametrize("bad", [{"recipe_fingerprint": "abc"}, {"clips": 0}, {"dataset": "../x"}, {"surprise": 1}])
def test_header_refuses(bad):
    with pytest.raises(ValidationError):
        header(**bad)


def test_ledger_and_seal_survive_json():
    unit = UnitRecord(unit=0, clips=(ClipRecord(source=DIGEST, values=DIGEST), ClipRecord(excluded="empty")))
    seal = Seal(digest=DIGEST, usable=1, excluded={"empty": 1})
    assert UnitRecord.model_validate_json(unit.model_dump_json()) == unit
    assert Seal.model_validate_json(seal.model_dump_json()) == seal
    assert StoreHeader.model_validate_json(header().model_dump_json()) == header()
