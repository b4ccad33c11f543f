"""Is a store's metadata exactly what its header asks for, and everything else refused before zarr-python sees it?"""

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from ascfeat.recipes import complete
from ascfeat.store import chunks, clip_table, create, metadata, table_digest
from ascfeat.store.places import Folder
from ascschemas.dataset import AudioFormat, Clip, Manifest, Split
from ascschemas.layout import Axis, Layout
from ascschemas.problems import StoreError
from ascschemas.recipe import FeatureRecipe
from ascschemas.store import Encoding, StoreHeader

AXES = {
    "bands": (
        Axis(name="channel", size=2, values=("left", "right")),
        Axis(name="frequency", size=3, unit="Hz", values=(1.0, 2.5, 4.0)),
        Axis(name="time", size=5, unit="s", step=0.1),
    ),
    "tags": (Axis(name="tag", size=2, values=("2.5", "bird")),),
    "samples": (Axis(name="channel", size=1, values=("mono",)), Axis(name="time", size=9, unit="s", step=1 / 8)),
}
ENCODINGS = (
    Encoding(),
    Encoding(compress=True),
    Encoding(dtype="float16", offset=-5.0, tolerance=0.034),
    Encoding(dtype="int16", scale=0.05 / 8.686, missing=-(1 << 15), compress=True, tolerance=0.025),
    Encoding(dtype="int16", scale=2.0**-15),
    Encoding(dtype="int32", scale=2.0**-23, missing=-(1 << 31), compress=True),
)


def manifest(clips: int = 5) -> Manifest:
    names = tuple(f"audio/{i}.wav" for i in range(clips))
    split = Split(name="fold1", train=names[:1], test=names[1:2])
    return Manifest(dataset="d", kind="csv", clips=tuple(Clip(id=n, label="bus") for n in names), splits=(split,))


def header_of(listed: Manifest, **how: object) -> StoreHeader:
    log_mel = {"kind": "log_mel", "n_fft": 256, "hop_length": 128, "spectrum": "power", "n_mels": 16, "floor": 1e-8}
    recipe = complete(FeatureRecipe.model_validate({"name": "small", "representation": log_mel}), "small")
    said = {
        "dataset": "d",
        "dataset_kind": "csv",
        "manifest": listed.fingerprint,
        "table": table_digest(clip_table(listed)),
        "recipe": recipe,
        "recipe_fingerprint": recipe.fingerprint,
        "audio": AudioFormat(sample_rate=8000, channels=1, frames=8000),
        "layout": Layout(axes=AXES["bands"], quantity="dB"),
        "clips": len(listed.clips),
        "clips_per_unit": 2,
        "classes": listed.classes,
        "splits": ("fold1",),
        "backend": "numba-cpu",
        "software": {},
    }
    return StoreHeader.model_validate(said | how)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Folder, StoreHeader]:
    listed = manifest()
    place, header = Folder(tmp_path / "d" / "small.zarr"), header_of(listed)
    place.parent.make()
    create(place, header, listed)
    return place, header


@pytest.mark.parametrize("how", ENCODINGS)
@pytest.mark.parametrize("axes", AXES)
def test_is_what_create_writes(tmp_path: Path, axes: str, how: Encoding) -> None:
    listed = manifest()
    header = header_of(listed, layout=Layout(axes=AXES[axes], quantity="dB"), encoding=how)
    place = Folder(tmp_path / "d" / "small.zarr")
    place.parent.make()
    create(place, header, listed)
    assert not metadata.header_problems(header)
    assert list(metadata.problems(place, header)) == []
    on_disk = {p.parent.relative_to(place.path).as_posix() for p in place.path.rglob("zarr.json")} - {"."}
    assert on_disk == {*metadata.array_names(header), *metadata.GROUPS}
    for name in metadata.array_names(header):
        metadata.check(place, header, name)


@pytest.mark.filterwarnings("ignore:.*Consolidated metadata.*", "ignore:.*not recognized as a component.*")
def test_consolidated_copies_are_compared(made: tuple[Folder, StoreHeader]) -> None:
    place, header = made
    zarr.consolidate_metadata(place.path)
    assert list(metadata.problems(place, header)) == []
    root = json.loads(place.read("zarr.json"))
    copies = root["consolidated_metadata"]["metadata"]
    copies["mean"]["shape"][0] = 6
    copies["stranger"] = copies["clip"]
    del copies["label"]
    place.write("zarr.json", [json.dumps(root).encode()])
    found = dict(metadata.problems(place, header))
    assert found.keys() == {"mean", "label", "stranger"}
    assert "not what the store's root says" in found["mean"]


def paths(value: object, path: tuple = ()) -> list[tuple]:
    """Every leaf and container of a JSON value, by its path."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, v in inner for p in paths(v, (*path, key)))]


@pytest.mark.parametrize("name", ["features", "mean", "clip", "usable", "time", "ledger/record"])
def test_no_leaf_can_be_another(made: tuple[Folder, StoreHeader], name: str) -> None:
    """Whatever is put anywhere into an array's metadata is seen, unless it says the same."""
    place, header = made
    good = json.loads(place.read(f"{name}/zarr.json"))
    for path, other in itertools.product(paths(good)[1:], [10**12, True, None, "gzip", -1, 0.5, [], {}]):
        bad = copy.deepcopy(good)
        at = bad
        for key in path[:-1]:
            at = at[key]
        same = json.dumps(at[path[-1]]) == json.dumps(other)
        at[path[-1]] = other
        neutral = path[-1] == "configuration" or path == ("storage_transformers",) or path == ("attributes",)
        if not same and not (neutral and other in ([], {})):
            assert metadata.array_problems(header, name, bad), path


@pytest.mark.parametrize("codec", [
    {"name": "gzip", "configuration": {"level": 5}},
    {"name": "numcodecs.pickle"},
    {"name": "transpose", "configuration": {"order": [0, 1, 2, 3]}},
])  # fmt: skip
def test_another_codec_is_refused_in_four_parts(made: tuple[Folder, StoreHeader], codec: dict) -> None:
    place, header = made
    said = json.loads(place.read("features/zarr.json"))
    said["codecs"][0]["configuration"]["codecs"].insert(1, codec)
    place.write("features/zarr.json", [json.dumps(said).encode()])
    with pytest.raises(StoreError) as caught:
        metadata.check(place, header, "features")
    assert "the array features is not what its header asks for" in caught.value.what
    assert caught.value.differences[0].field.startswith("codecs[0].configuration.codecs[1]")
    assert caught.value.todo


@pytest.mark.parametrize(("data", "why"), [
    (b"[" * 100_000, "nested too deep"),
    (b'{"a":' * 50_000, "nested too deep"),
    (b'{"a":' * 40 + b"1" + b"}" * 40, "nested too deep"),
    (b'{"a": 1, "a": 1}', "a key stands in it twice"),
    (b'{"a": NaN}', "NaN is no JSON"),
    (b'{"a": ' + b"9" * 5000 + b"}", "does not read"),
    (b'{"a": "\xff"}', "does not read"),
    (b"[]", "no object but list"),
    (b"", "does not read"),
    (b" " * (metadata.ARRAY_BYTES + 1), "no store has more than 262,144"),
])  # fmt: skip
def test_json_that_is_none_is_refused(made: tuple[Folder, StoreHeader], data: bytes, why: str) -> None:
    place, header = made
    place.write("clip/zarr.json", [data])
    with pytest.raises(StoreError, match=why):
        metadata.check(place, header, "clip")
    assert [name for name, _ in metadata.problems(place, header)] == ["clip"]


def test_an_enormous_file_is_not_read(made: tuple[Folder, StoreHeader]) -> None:
    place, header = made
    with (place.path / "clip" / "zarr.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: it takes no disk
    with pytest.raises(StoreError, match="1,099,511,627,776 bytes"):
        metadata.check(place, header, "clip")


@pytest.mark.parametrize(("how", "why"), [
    ({"clips": 2**40}, "1,099,511,627,776 clips"),
    ({"clips": 10**8, "clips_per_unit": 1}, "100,000,000 units"),
    ({"clips_per_unit": 2**40}, "clips of one unit"),
    ({"clips_per_unit": 2**20, "layout": Layout(axes=AXES["bands"], quantity="x")}, None),
    ({"layout": Layout(axes=(Axis(name="time", size=2**40),), quantity="x")}, "points of an axis"),
    ({"layout": Layout(axes=(Axis(name="a", size=10**5), Axis(name="b", size=10**5)), quantity="x")},
     "10,000,000,000 values of one clip"),
    ({"layout": Layout(axes=tuple(Axis(name=f"a{i}", size=1) for i in range(40)), quantity="x")}, "40 axes"),
    ({"layout": Layout(axes=(Axis(name="clip", size=3),), quantity="x")}, "an axis or split called 'clip'"),
    ({"layout": Layout(axes=(Axis(name="zarr.json", size=3),), quantity="x")}, "called 'zarr.json'"),
    ({"layout": Layout(axes=(Axis(name="Ledger", size=3),), quantity="x")}, "called 'Ledger'"),
    ({"splits": ("a", "a")}, "called 'split_a'"),
    ({"splits": ("a.partial",)}, "called 'split_a.partial'"),
    ({"splits": tuple(f"s{i}" for i in range(2000))}, "2,000 splits"),
    ({"encoding": Encoding(scale=0.0)}, "number x 0.0"),
    ({"encoding": Encoding(missing=3)}, "stand for missing"),
])  # fmt: skip
def test_headers_out_of_bounds_are_refused(how: dict, why: str | None) -> None:
    found = metadata.header_problems(header_of(manifest(), **how))
    assert found == [] if why is None else any(why in problem for problem in found)


def test_no_shard_is_larger_than_its_bound() -> None:
    """Also of random numbers, which do not compress and get blosc's header."""
    for how in ENCODINGS:
        header = header_of(manifest(), encoding=how)
        raw = np.random.default_rng(0).integers(0, 256, header.number_bytes, np.uint8)
        clip = chunks.chunk(raw.view(how.dtype).reshape(header.layout.shape), compress=how.compress)
        shard = b"".join(map(bytes, chunks.shard([clip] * header.clips_per_unit, header.clips_per_unit)))
        bound = metadata.most_bytes(header, "features")
        assert len(shard) <= bound <= len(shard) + 64 * header.clips_per_unit


@pytest.mark.parametrize(("how", "why"), [
    ({"clips": 2**40}, "1,099,511,627,776 clips, and no store has more"),
    ({"clips": 50_000_000, "clips_per_unit": 1024}, "50,000,000 clips, and there is no file clip/c/762"),
    ({"clips": 65_537, "clips_per_unit": 1024}, "65,537 clips, and clip/c/1 has no room for so many names"),
    ({"layout": Layout(axes=(Axis(name="time", size=2**26),), quantity="x")}, "67,108,864 points of time, and"),
])  # fmt: skip
def test_a_header_is_believed_where_the_names_are_there(made: tuple[Folder, StoreHeader], how: dict, why: str) -> None:
    place, header = made
    metadata.check_header(place, header)
    place.write("clip/c/1", [b"\0" * 100])
    with pytest.raises(StoreError, match=why):
        metadata.check_header(place, header.model_copy(update=how))


def test_a_chunk_that_is_larger_than_it_can_be_is_not_read(made: tuple[Folder, StoreHeader]) -> None:
    place, header = made
    assert metadata.read_chunk(place, header, "clip/c/0") == place.read("clip/c/0")
    with (place.path / "clip/c/0").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(StoreError, match="clip/c/0 is larger than the 86,016 bytes that it can have"):
        metadata.read_chunk(place, header, "clip/c/0")
    with pytest.raises(FileNotFoundError):
        metadata.read_chunk(place, header, "features/c/0/0/0/0")
