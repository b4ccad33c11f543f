"""Is everything that can be wrong with a store, or between it and its recordings, found and named?"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import zarr

from ascfeat.datasets.tree import Tree
from ascfeat.extract import run
from ascfeat.jobs import prepare
from ascfeat.store import (
    Folder,
    Problem,
    Store,
    Writer,
    open_store,
    open_to_verify,
    root_problems,
    row,
    sound_root,
    verify,
)
from ascfeat.verify import count_of, recomputed
from ascschemas.base import canonical_json
from ascschemas.problems import StoreError, StoreMismatch

EXCLUDED = "audio/09.wav"


def fill(dataset, recipe, features: Path, **how) -> Path:
    tree, manifest = dataset
    jobs = prepare(tree, manifest, [recipe], features, device="cpu", **how)
    return run(tree, manifest, jobs, device="cpu")[0].place.path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the store is made once, to be copied for each test."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def path(dataset, recipe, made: Path, tmp_path: Path) -> Path:
    """A sealed store of ten clips in units of four; the last clip is excluded."""
    (dataset[0].root / EXCLUDED).write_bytes(b"")
    whole = made / "set" / "small.zarr"
    if not whole.exists():
        fill(dataset, recipe, made)
    return shutil.copytree(whole, tmp_path / "features" / "set" / "small.zarr")


def problems(path: Path) -> list[Problem]:
    try:
        return list(verify(open_to_verify(path), threads=2))
    except StoreError:  # neither the root nor its copy is whole: as the command
        if sound_root(Folder(path)) is not None or not path.exists():
            raise
        return list(root_problems(Folder(path)))


def told(path: Path) -> list[str]:
    """What is wrong, a line each, blanks made one."""
    return [" ".join(str(problem).split()) for problem in problems(path)]


def group(path: Path) -> zarr.Group:
    return zarr.open_group(path, mode="r+", use_consolidated=False)


def flip(file: str, at: int) -> Callable[[Path], None]:
    def corrupt(path: Path) -> None:
        data = bytearray((path / file).read_bytes())
        data[at] ^= 1
        (path / file).write_bytes(data)

    return corrupt


def drop(file: str) -> Callable[[Path], None]:
    return lambda path: (path / file).unlink()


def put(array: str, at, value) -> Callable[[Path], None]:
    """Write a value through Zarr, checksums and all, as another program could."""

    def corrupt(path: Path) -> None:
        held = group(path)[array].with_config({"write_empty_chunks": True})
        held[at] = value(str(held[at])) if callable(value) else value

    return corrupt


def swap(path: Path) -> None:
    features = group(path)["features"]
    first, second = features[0], features[5]
    features[0], features[5] = second, first


def rewrite(file: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def corrupt(path: Path) -> None:
        text = json.loads((path / file).read_text())
        change(text)
        (path / file).write_text(json.dumps(text))

    return corrupt


def ledger(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def corrupt(path: Path) -> None:
        record = group(path)["ledger/record"]
        said = json.loads(str(record[1]))
        change(said)
        record[1] = canonical_json(said)

    return corrupt


def root(change: Callable[[dict], object], *files: str) -> Callable[[Path], None]:
    """Change the root's attributes and write them with the digest that fits: a forger's root, alone or with its copy.

    The digest is made here as docs/reference/store-format.md says, not by the package.
    """

    def corrupt(path: Path) -> None:
        for file in files:
            text = json.loads((path / file).read_text())
            change(text["attributes"])
            del text["attributes"]["ascfeat_sha256"]
            text["attributes"]["ascfeat_sha256"] = hashlib.sha256(canonical_json(text).encode()).hexdigest()
            (path / file).write_text(json.dumps(text, indent=2))

    return corrupt


def both(*corruptions: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda path: [corrupt(path) for corrupt in corruptions]


def seal(**said: object) -> Callable[[dict], object]:
    return lambda attributes: attributes["ascfeat_seal"].update(said)


def kinder(attributes: dict) -> None:
    """A certificate that is better than it was."""
    attributes["ascfeat_seal"]["certificate"]["comparisons"][0]["relative"] = 0.0


def edited(change: Callable[[dict], object], file: str = "zarr.json") -> Callable[[Path], None]:
    """Change the root's attributes and nothing else, as an editor could."""

    def corrupt(path: Path) -> None:
        text = json.loads((path / file).read_text())
        change(text["attributes"])
        (path / file).write_text(json.dumps(text, indent=2))

    return corrupt


def backend(attributes: dict) -> None:
    """A header that names another backend."""
    attributes["ascfeat"]["backend"] = "torch-cuda"


UNIT_1 = "audio/04.wav … audio/07.wav"
TABLE = "ids, labels, devices, places or splits"
UNLIKE, NO_COPY = "it does not match its digest", "it is not a copy of zarr.json"
CORRUPTIONS = {
    "a flipped bit in a chunk": (flip("features/c/1/0/0/0", 100), ["damaged audio/04.wav"]),
    "a flipped bit in a shard's index": (flip("features/c/1/0/0/0", -10), [f"damaged features of {UNIT_1}"]),
    "a flipped bit in the means": (flip("mean/c/1/0/0", 5), [f"damaged mean of {UNIT_1}"]),
    "a flipped bit in the labels": (flip("label/c/0", 9), ["damaged label"]),
    "a flipped bit in the ledger": (flip("ledger/record/c/1", 60), ["damaged ledger record 1"]),
    "a shard cut short": (
        lambda path: (path / "features/c/1/0/0/0").write_bytes((path / "features/c/1/0/0/0").read_bytes()[:3000]),
        [f"damaged features of {UNIT_1}"],
    ),
    "a shard too large to be any": (
        lambda path: os.truncate(path / "features/c/1/0/0/0", 1 << 40),
        [f"damaged features of {UNIT_1}: features/c/1/0/0/0 is larger than"],
    ),
    "means too large to be any": (
        lambda path: os.truncate(path / "mean/c/1/0/0", 1 << 40),
        [f"damaged mean of {UNIT_1}: mean/c/1/0/0 is larger than"],
    ),
    "a shard gone": (
        drop("features/c/1/0/0/0"), [f"missing features of {UNIT_1}: there is no file features/c/1/0/0/0"],
    ),
    "a chunk gone from a shard": (
        lambda path: group(path)["features"].__setitem__(5, np.nan), ["missing audio/05.wav: its chunk is not"],
    ),
    "variances gone": (drop("variance/c/1/0/0"), [f"missing variance of {UNIT_1}"]),
    "labels gone": (drop("label/c/0"), ["missing label: there is no file label/c/0"]),
    "a ledger record gone": (drop("ledger/record/c/1"), ["missing ledger record 1"]),
    "an array's metadata gone": (drop("split_fold1/zarr.json"), ["missing split_fold1: there is no zarr.json"]),
    "an array's metadata torn": (
        lambda path: (path / "label/zarr.json").write_text("{"), ["damaged label: its zarr.json does not read: Exp"],
    ),
    "another fill value": (
        rewrite("mean/zarr.json", lambda text: text.update(fill_value=0.0)), ["different mean: its fill_value is 0.0"],
    ),
    "another shape": (
        rewrite("label/zarr.json", lambda text: text.update(shape=[9])),
        ["different label: its shape[0] is 9, the header asks for 10"],
    ),
    "another shape, in the root too": (
        both(
            rewrite("label/zarr.json", lambda text: text.update(shape=[9])),
            rewrite("zarr.json", lambda text: text["consolidated_metadata"]["metadata"]["label"].update(shape=[9])),
        ),
        [f"damaged zarr.json: {UNLIKE}", "different label: its shape[0] is 9, the header asks for 10"],
    ),
    "another shape, in the root only": (
        rewrite("zarr.json", lambda text: text["consolidated_metadata"]["metadata"]["label"].update(shape=[9])),
        [f"damaged zarr.json: {UNLIKE}"],
    ),
    "another shape, in the root and its digest": (
        both(
            rewrite("zarr.json", lambda text: text["consolidated_metadata"]["metadata"]["label"].update(shape=[9])),
            root(lambda attributes: None, "zarr.json"),
        ),
        [f"different ledger/root.json: {NO_COPY}", "different label: its zarr.json is not what the store's root says"],
    ),
    "an array's metadata in other bytes": (
        rewrite("label/zarr.json", lambda text: None),
        ["damaged label: its zarr.json is not byte for byte what the root says of it"],
    ),
    "an array's metadata in other bytes, beside a root in other bytes": (
        both(rewrite("label/zarr.json", lambda text: None), rewrite("zarr.json", lambda text: None)),
        [f"damaged zarr.json: {UNLIKE}", "damaged label: its zarr.json is not byte for byte what the root says of it"],
    ),
    "an array's metadata too large to be any": (
        lambda path: os.truncate(path / "label/zarr.json", 1 << 40),
        ["damaged label: its zarr.json is 1,099,511,627,776 bytes, and no store has more than 262,144 there"],
    ),
    "features without metadata": (drop("features/zarr.json"), ["missing features: there is no zarr.json"]),
    "two clips' values swapped": (swap, ["different audio/00.wav: its values", "different audio/05.wav: its values"]),
    "one value changed": (put("features", (6, 0, 3, 7), 1.0), ["different audio/06.wav: its values are not those"]),
    "a value not finite": (put("features", (6, 0, 3, 7), np.nan), ["different audio/06.wav: its values are not finit"]),
    "values of an excluded clip": (put("features", 9, 0.0), [f"different {EXCLUDED}: it holds values"]),
    "a mean altered": (put("mean", (4, 0, 0), 1.0), ["different audio/04.wav: its mean is not that of its values"]),
    "a variance altered": (put("variance", (8, 0, 15), 1e-3), ["different audio/08.wav: its variance is not"]),
    "a mean lost": (put("mean", (4, 0, 0), np.nan), ["different audio/04.wav: its mean is not that of its values"]),
    "a label changed": (put("label", 2, "tram"), [f"different {TABLE}: not those of the header"]),
    "a side of a split changed": (put("split_fold1", 0, "test"), [f"different {TABLE}: not those of the header"]),
    "a frequency changed": (put("frequency", 3, 1.0), ["different frequency: its coordinates are not"]),
    "usable changed": (put("usable", 9, True), ["different usable: it does not name"]),
    "a recording's digest changed": (
        ledger(lambda said: said["clips"][0].update(source="0" * 64)), ["different seal: digest: sealed"],
    ),
    "a clip excluded later": (
        ledger(lambda said: said["clips"][0].update(excluded="silent", values=None)),
        ["different audio/04.wav: it holds values, and the ledger excludes it: silent", "different usable",
         "different seal: usable clips: sealed 9, header and ledger give 8", "different seal: excluded clips",
         "different seal: digest"],
    ),
    "a record of another unit": (
        ledger(lambda said: said.update(unit=2)),
        ["different ledger record 1: it speaks of unit 2 of 4 clips, not of unit 1 of 4 clips"],
    ),
    "an empty record": (put("ledger/record", 1, ""), ["different ledger record 1: it is empty"]),
    "a record in another form": (
        put("ledger/record", 1, lambda said: json.dumps(json.loads(said), indent=1)),
        ["different ledger record 1: it is not in its canonical form"],
    ),
    "a record that is none": (
        put("ledger/record", 1, '{"unit": 1}'), ["damaged ledger record 1: it is no record of a unit: Field required"],
    ),
    "a root in other bytes": (rewrite("zarr.json", lambda text: None), [f"damaged zarr.json: {UNLIKE}"]),
    "a copy of the root in other bytes": (
        rewrite("ledger/root.json", lambda text: None), [f"damaged ledger/root.json: {UNLIKE}"],
    ),
    "no copy of the root": (drop("ledger/root.json"), ["missing ledger/root.json: there is no such file"]),
    "a copy of the root too large to be any": (
        lambda path: os.truncate(path / "ledger/root.json", 1 << 40), ["damaged ledger/root.json: it is 1,099,511,627"],
    ),
    "a seal of other values": (edited(seal(digest="0" * 64)), [f"damaged zarr.json: {UNLIKE}"]),
    "a seal that counts more": (edited(seal(usable=10)), [f"damaged zarr.json: {UNLIKE}"]),
    "a seal that hides an exclusion": (edited(seal(excluded={})), [f"damaged zarr.json: {UNLIKE}"]),
    "a certificate edited": (edited(kinder), [f"damaged zarr.json: {UNLIKE}"]),
    "a header that names another backend": (edited(backend), [f"damaged zarr.json: {UNLIKE}"]),
    "a header that names another list": (
        edited(lambda attributes: attributes["ascfeat"].update(table="0" * 64)), [f"damaged zarr.json: {UNLIKE}"],
    ),
    "an edited seal over a ledger that is edited too": (
        both(edited(seal(usable=10)), ledger(lambda said: said["clips"][0].update(source="0" * 64))),
        [f"damaged zarr.json: {UNLIKE}", "different seal: digest: sealed"],
    ),
    "a forged seal of other values": (
        root(seal(digest="0" * 64), "zarr.json"),
        [f"different ledger/root.json: {NO_COPY}", "different seal: digest: sealed 000"],
    ),
    "a forged seal of other values, and its copy": (
        root(seal(digest="0" * 64), "zarr.json", "ledger/root.json"), ["different seal: digest: sealed 000"],
    ),
    "a forged seal that counts more, and its copy": (
        root(seal(usable=10), "zarr.json", "ledger/root.json"),
        ["different seal: usable clips: sealed 10, header and ledger give 9"],
    ),
    "a forged seal that hides an exclusion, and its copy": (
        root(seal(excluded={}), "zarr.json", "ledger/root.json"), ["different seal: excluded clips: sealed {}"],
    ),
    "a forged certificate": (root(kinder, "zarr.json"), [f"different ledger/root.json: {NO_COPY}"]),
    "a forged header that names another backend, and its copy": (
        root(backend, "zarr.json", "ledger/root.json"), ["different seal: digest"],
    ),
    "a root and its copy edited without their digests": (
        lambda path: [edited(seal(usable=10), file)(path) for file in ("zarr.json", "ledger/root.json")],
        [f"damaged zarr.json: {UNLIKE}", f"damaged ledger/root.json: {UNLIKE}"],
    ),
}  # fmt: skip


def test_a_whole_store_has_no_problems_and_is_not_touched(path: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in path.parent.rglob("*")}
    done: list[int] = []
    assert list(verify(open_store(path), progress=done.append)) == []
    assert done == [4, 8, 10]
    assert {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in path.parent.rglob("*")} == before


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_named_and_nothing_else(path: Path, name: str) -> None:
    corrupt, expected = CORRUPTIONS[name]
    corrupt(path)
    found = told(path)
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


def test_every_byte_of_a_shard_matters(path: Path) -> None:
    """Whichever bit flips, in values, checksums or index, a line of that unit is printed."""
    shard = path / "features/c/2/0/0/0"
    whole = shard.read_bytes()
    for at in np.random.default_rng(0).choice(len(whole), 40, replace=False).tolist():
        flip("features/c/2/0/0/0", at)(path)
        if at < 2 * (4 * 16 * 63 + 4) or at >= len(whole) - 4 * 16 - 4:  # clips 8 and 9, and the index of four
            (line,) = told(path)
            assert line.startswith(("damaged audio/08", "damaged audio/09", "damaged features of audio/08")), (at, line)
        shard.write_bytes(whole)


def test_several_problems_are_all_named(path: Path) -> None:
    for name in ("a flipped bit in a chunk", "a label changed", "a mean altered", "a seal of other values"):
        CORRUPTIONS[name][0](path)
    found = told(path)
    assert [line.split(":")[0] for line in found] == [
        "damaged zarr.json",
        f"different {TABLE}",
        "damaged audio/04.wav",
    ], "a seal is that of the root's copy where the root is damaged, and a clip without values has no second problem"


def test_clips_without_names_are_named_by_their_numbers(path: Path) -> None:
    CORRUPTIONS["a flipped bit in a chunk"][0](path)
    drop("clip/c/0")(path)
    with pytest.raises(StoreError, match="clip is missing"):
        assert open_store(path).ids
    assert [line.split(":")[0] for line in told(path)] == ["missing clip", "damaged clip 4"]


def test_stores_that_are_not_sealed_or_not_there_are_refused(dataset, recipe, path: Path, tmp_path: Path) -> None:
    Writer(path).reopen([0])
    with pytest.raises(StoreError, match="is not finished: 2 of 3 units"):
        problems(path)
    with pytest.raises(StoreError, match="There is no feature store"):
        problems(tmp_path / "none.zarr")


def test_recomputed_clips_are_those_of_the_certificate_and_more(dataset, path: Path) -> None:
    store, done = open_store(path), []
    found = recomputed(store, *dataset, 5, threads=2, progress=done.append)
    assert (found.clips, done, found.problems) == (5, [1, 2, 3, 4, 5], ())
    assert recomputed(store, *dataset, 3).comparisons == store.seal.certificate.comparisons
    assert recomputed(store, *dataset, 1.0).clips == 9, "clips without values are not drawn"


@pytest.mark.parametrize("backend", ["torch", "nnaudio", "numba"])
def test_a_store_of_any_backend_is_recomputed(dataset, recipe, tmp_path, backend) -> None:
    store = open_store(fill(dataset, recipe, tmp_path, backend=backend))
    found = recomputed(store, *dataset, 1.0)
    assert (found.clips, found.problems) == (10, ())
    assert found.comparisons[0].holds


def test_one_clip_with_another_clips_values_is_named(dataset, recipe, tmp_path, monkeypatch) -> None:
    """Written wrong and sealed so: the ledger agrees, and only the recordings can tell."""
    write = Writer.write

    def wrong(self, unit, clips) -> None:
        first, second = clips[:2]
        digest = first.record.model_copy(update={"values": second.record.values})
        other = replace(second, record=digest)
        write(self, unit, [other, *clips[1:]] if unit == 1 else clips)

    monkeypatch.setattr(Writer, "write", wrong)
    monkeypatch.setattr("ascfeat.extract.certify", lambda store, tree, device: None)
    path = fill(dataset, recipe, tmp_path)
    assert problems(path) == []
    found = recomputed(open_store(path), *dataset, 1.0)
    (problem,) = found.problems
    assert (problem.kind, problem.where) == ("different", "audio/04.wav")
    assert "from librosa" in problem.detail
    assert not found.comparisons[0].holds


def test_values_off_by_a_thousandth_are_named(dataset, recipe, tmp_path, monkeypatch) -> None:
    by = np.float32(1.001)
    off = lambda record, values, header, **how: row(record, values * by, header, **how)  # noqa: E731
    monkeypatch.setattr("ascfeat.units.row", off)
    found = recomputed(open_store(fill(dataset, recipe, tmp_path)), *dataset, 1.0)
    assert len(found.problems) == 10


def test_recordings_that_changed_are_named_and_not_compared(dataset, path: Path) -> None:
    tree, manifest = dataset
    store = open_store(path)
    (tree.root / "audio/03.wav").unlink()
    soundfile.write(tree.root / "audio/05.wav", np.zeros(8000), 8000)
    found = recomputed(store, tree, manifest, 1.0)
    lines = {p.where: f"{p.kind}: {p.detail}" for p in found.problems}
    assert set(lines) == {"audio/03.wav", "audio/05.wav"}
    assert lines["audio/03.wav"] == "missing: is listed, but there is no such file."
    assert lines["audio/05.wav"] == "different: is not the recording that it was made from."
    assert found.clips == 7
    assert found.comparisons[0].holds


def test_damaged_values_are_named_and_the_others_compared(dataset, path: Path) -> None:
    flip("features/c/1/0/0/0", 100)(path)
    found = recomputed(open_store(path), *dataset, 1.0)
    (problem,) = found.problems
    assert (problem.kind, problem.where, found.clips) == ("damaged", "audio/04.wav", 8)


def test_another_dataset_is_refused(dataset, path: Path, tmp_path: Path) -> None:
    tree, manifest = dataset
    shutil.copytree(tree.root, tmp_path / "other")
    fewer = manifest.model_copy(update={"dataset": "other", "clips": manifest.clips[1:], "splits": ()})
    with pytest.raises(StoreMismatch, match=r"expected all 10 in set  found 1 not in other, first audio/00\.wav"):
        recomputed(open_store(path), Tree(tmp_path / "other"), fewer, 1)


def test_no_clip_left_to_compare_is_no_comparison(dataset, path: Path) -> None:
    tree, manifest = dataset
    store = open_store(path)
    for clip in manifest.clips:
        (tree.root / clip.id).unlink()
    found = recomputed(store, tree, manifest, 2)
    assert (found.clips, found.comparisons, len(found.problems)) == (0, (), 2)


@pytest.mark.parametrize(("share", "usable", "count"), [
    (0.01, 1, 1), (0.01, 100, 1), (0.01, 101, 2), (1.0, 7, 7), (3, 7, 3), (30, 7, 7),
])  # fmt: skip
def test_shares(share, usable, count) -> None:
    assert count_of(share, usable) == count


def test_a_seal_from_before_certificates_still_holds(path: Path, dataset) -> None:
    root(lambda attributes: attributes["ascfeat_seal"].pop("certificate"), "zarr.json", "ledger/root.json")(path)
    assert Store(path).seal.certificate is None
    assert problems(path) == []
    assert recomputed(open_store(path), *dataset, 1).problems == ()
