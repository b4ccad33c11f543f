"""Does a comparison of two stores name everything that differs, read nothing that it need not, and see equality?"""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from asccli.diff import diff
from ascfeat.difference import WORST, compare
from ascfeat.store import Store, Writer, clip_table, create, encoding, open_store, row, table_digest, unit_rows
from ascfeat.testing.stores import log_layout
from ascschemas.dataset import AudioFormat, Clip, Manifest, Split
from ascschemas.recipe import FeatureRecipe
from ascschemas.store import ClipRecord, StoreHeader

CLIPS = tuple(Clip(id=f"{i:02}.wav", label=("bus", "tram")[i % 2], device="a") for i in range(11))
MANIFEST = Manifest(
    dataset="made",
    kind="test",
    clips=CLIPS,
    splits=(Split(name="fold1", train=tuple(c.id for c in CLIPS[:6]), test=tuple(c.id for c in CLIPS[6:])),),
)


def values_of(clip: str) -> np.ndarray:
    return np.random.default_rng(int(clip[:2])).normal(-5, 1, log_layout().shape).astype(np.float32)


def made(
    path: Path,
    manifest: Manifest = MANIFEST,
    *,
    change=lambda clip, values: values,
    excluded: tuple[str, ...] = (),
    sources: dict[str, str] | None = None,
    layout=None,
    seal: bool = True,
    **header,
) -> Store:
    """A store of made-up values, changed clip by clip."""
    layout = layout or log_layout()
    parameters = {"kind": "made_up", "floor": 1e-7, **header.pop("parameters", {})}
    recipe = FeatureRecipe.model_validate({"name": "made", "representation": parameters, **header.pop("recipe", {})})
    said = {
        "dataset": "made", "dataset_kind": "test", "manifest": manifest.fingerprint,
        "table": table_digest(clip_table(manifest)), "recipe": recipe, "recipe_fingerprint": recipe.fingerprint,
        "audio": AudioFormat(sample_rate=8000, channels=1, frames=8000), "layout": layout,
        "encoding": encoding(recipe.storage, layout), "clips": len(manifest.clips), "clips_per_unit": 4,
        "classes": manifest.classes, "splits": tuple(s.name for s in manifest.splits), "backend": "none",
        "software": {"ascfeat": "1"},
    }  # fmt: skip
    whole = StoreHeader.model_validate({**said, **header})
    create(path, whole, manifest)
    writer = Writer(path)
    for unit in range(whole.units if seal else whole.units - 1):
        clips = [c.id for c in manifest.clips[slice(*unit_rows(whole, unit))]]
        writer.write(unit, [_row(c, change, excluded, (sources or {}).get(c, c), whole) for c in clips])
    if seal:
        writer.finish()
    return Store(path)


def _row(clip: str, change, excluded: tuple[str, ...], source: str, header: StoreHeader):
    digest = f"{sum(map(ord, source)):064x}"
    if clip in excluded:
        return row(ClipRecord(source_bytes=1, source=digest, excluded="silent"), None, header)
    values = change(clip, values_of(clip))[:, : header.layout.shape[1]]
    return row(ClipRecord(source_bytes=1, source=digest), np.ascontiguousarray(values), header)


def without(manifest: Manifest, *gone: str) -> Manifest:
    kept = tuple(c for c in manifest.clips if c.id not in gone)
    splits = tuple(
        s.model_copy(
            update={
                "train": tuple(i for i in s.train if i not in gone),
                "test": tuple(i for i in s.test if i not in gone),
            }
        )
        for s in manifest.splits
    )
    return manifest.model_copy(update={"clips": kept, "splits": splits})


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch):
    """Make reading values an error."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("values were read")

    return lambda: monkeypatch.setattr(Store, "read", refuse)


def test_equal_stores_are_the_same_and_not_read(tmp_path: Path, no_reading) -> None:
    a, b = made(tmp_path / "a", excluded=("03.wav",)), made(tmp_path / "b", excluded=("03.wav",))
    no_reading()
    found = compare(a, b)
    assert found.same
    assert (found.equal, found.apart, found.worst) == (10, 0, ())


def test_every_field_of_recipe_and_software_that_differs_is_named(tmp_path: Path, no_reading) -> None:
    a = made(tmp_path / "a")
    b = made(tmp_path / "b", parameters={"floor": 1e-8}, software={"ascfeat": "2"}, backend="torch-cpu")
    no_reading()
    found = compare(a, b)
    assert {d.field: (d.expected, d.found) for d in found.header} == {
        "recipe.representation.floor": ("1e-07", "1e-08"),
        "software.ascfeat": ("1", "2"),
        "backend": ("none", "torch-cpu"),
    }
    assert not found.same
    assert found.equal == 11


def test_clips_labels_and_sides_that_differ_are_named_and_counted(tmp_path: Path, no_reading) -> None:
    changed = tuple(c.model_copy(update={"label": "ferry"}) if c.label == "bus" else c for c in CLIPS)
    split = MANIFEST.splits[0]
    turned = split.model_copy(update={"train": split.test, "test": split.train})
    other = without(MANIFEST.model_copy(update={"clips": changed, "splits": (turned,)}), "01.wav", "10.wav")
    a, b = made(tmp_path / "a"), made(tmp_path / "b", other)
    no_reading()
    found = compare(a, b)
    assert found.only_first == ("01.wav", "10.wav")
    assert found.only_second == ()
    assert compare(b, a).only_second == ("01.wav", "10.wav")
    assert [(d.field, d.expected, d.found) for d in found.facts] == [
        ("label of 5 clips, first 00.wav", "bus", "ferry"),
        ("side in fold1 of 9 clips, first 00.wav", "train", "test"),
    ]
    assert found.equal == 9


def test_order_and_splits_by_name(tmp_path: Path) -> None:
    turned = MANIFEST.model_copy(update={"clips": CLIPS[::-1], "splits": ()})
    found = compare(made(tmp_path / "a"), made(tmp_path / "b", turned))
    assert [d.field for d in found.facts] == ["splits", "order of the clips"]
    assert found.equal == 11


def test_the_clips_whose_values_differ_are_measured_and_the_worst_named(tmp_path: Path) -> None:
    def shifted(clip: str, values: np.ndarray) -> np.ndarray:
        number = int(clip[:2])
        if number < 7:
            values = values.copy()
            values[0, 0, 0] += np.float32(number)  # clip 0 by nothing
        return values

    a, b = made(tmp_path / "a"), made(tmp_path / "b", change=shifted)
    seen: list[int] = []
    found = compare(a, b, threads=2, progress=seen.append)
    assert (found.equal, found.apart) == (5, 6)
    assert [w.clip for w in found.worst] == [f"0{i}.wav" for i in (6, 5, 4, 3, 2)]
    assert len(found.worst) == WORST
    assert found.max == pytest.approx(6, abs=1e-5)
    size = np.prod(log_layout().shape)
    assert found.worst[0].mean == pytest.approx(6 / size, rel=1e-4)
    assert found.mean == pytest.approx((1 + 2 + 3 + 4 + 5 + 6) / size / 6, rel=1e-4)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_rounded_store_differs_by_its_rounding(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a"), made(tmp_path / "b", recipe={"storage": {"precision": "float16"}})
    found = compare(a, b)
    assert found.apart == 11
    assert 0 < found.max < 0.034
    assert "encoding.dtype" in [d.field for d in found.header]


def test_exact_stores_of_other_compression_hold_equal_values(tmp_path: Path, no_reading) -> None:
    a, b = made(tmp_path / "a"), made(tmp_path / "b", recipe={"storage": {"compress": True}})
    no_reading()
    found = compare(a, b)
    assert (found.equal, found.apart) == (11, 0)
    assert [d.field for d in found.header] == ["recipe.storage.compress", "encoding.compress"]


def test_exclusions_and_recordings(tmp_path: Path) -> None:
    a = made(tmp_path / "a", excluded=("02.wav",))
    b = made(tmp_path / "b", excluded=("05.wav",), sources={"07.wav": "another"})
    found = compare(a, b)
    assert [(d.field, d.expected, d.found) for d in found.excluded] == [
        ("02.wav", "silent", "values"),
        ("05.wav", "values", "silent"),
    ]
    assert found.recordings == ("07.wav",)
    assert (found.equal, found.apart) == (9, 0)


def test_other_shapes_are_not_compared(tmp_path: Path) -> None:
    layout = log_layout()
    axes = (layout.axes[0], layout.axes[1].model_copy(update={"size": 3, "values": (1, 2, 3)}), layout.axes[2])
    b = made(tmp_path / "b", layout=layout.model_copy(update={"axes": axes}))
    found = compare(made(tmp_path / "a"), b)
    assert found.unlike == "a clip is 2 x 5 x 7 in the first and 2 x 3 x 7 in the second"
    assert not found.same


def test_an_unfinished_store_is_compared_as_far_as_it_is(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a"), made(tmp_path / "b", seal=False)
    found = compare(a, b)
    assert [(d.field, d.expected, d.found) for d in found.header] == [("seal", "sealed", "not finished")]
    assert [d.field for d in found.excluded] == ["08.wav", "09.wav", "10.wav"]
    assert found.equal == 8


def test_the_command_says_it_on_one_screen_and_by_its_status(tmp_path: Path) -> None:
    everything = MANIFEST.model_copy(
        update={"clips": tuple(c.model_copy(update={"label": "x", "device": "b"}) for c in CLIPS), "splits": ()}
    )
    a, b = made(tmp_path / "a.zarr"), made(tmp_path / "b.zarr")
    c = made(
        tmp_path / "c.zarr", without(everything, "00.wav"), change=lambda _, v: v + 1, excluded=("02.wav",),
        parameters={"floor": 1e-8}, software={"ascfeat": "2"}, sources={c.id: "x" for c in CLIPS},
    )  # fmt: skip
    same = CliRunner().invoke(diff, [str(a.place), str(b.place)], standalone_mode=False)
    assert same.return_value == 0
    assert "The same: header, 11 clips" in same.output
    other = CliRunner().invoke(diff, [str(a.place), str(c.place)], standalone_mode=False)
    assert other.return_value == 1
    lines = other.output.splitlines()
    assert len(lines) <= 30
    for told in ("floor", "software.ascfeat", "only in the first: 1 clip, 00.wav", "label of 10 clips", "silent",
                 "made from other recordings: 10 clips", "largest difference 1", "max 1"):  # fmt: skip
        assert any(told in line for line in lines), told
    assert open_store(b.place).seal == a.seal
