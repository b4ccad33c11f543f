"""The official lists of TAU 2019 over stand-in audio: every count is right, and a planted leak is named."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from ascfeat.datasets import open_dataset
from ascfeat.datasets.official import versions
from ascfeat.doctor import check
from ascfeat.testing.datasets import write_tone

LISTS = Path(__file__).parents[3] / "shared" / "data" / "tau2019"
"""The lists that are published with the set, where they are at hand."""
FILES = ("meta.csv", "evaluation_setup/fold1_train.csv", "evaluation_setup/fold1_evaluate.csv")
HEAD = "filename\tscene_label"
CITIES = ("barcelona", "lisbon", "vienna")


def equivalent_lists() -> dict[str, str]:
    """Lists with the official counts by class and side, each side with places of its own."""
    rows: dict[str, list[str]] = {"train": [], "test": [], "unused": []}
    for index, (label, counts) in enumerate(versions("tau2019")[0].classes["a"].items()):
        for (side, made), count in zip(rows.items(), counts, strict=True):
            for n in range(count):
                place = f"{CITIES[n % 3]}-{1000 * index + 300 * list(rows).index(side) + n % 30}"
                made.append(f"audio/{label}-{place}-{len(made)}{side[:2]}-a.wav\t{label}\t{place}\ta")
    meta = [f"{HEAD}\tidentifier\tsource_label", *(row for made in rows.values() for row in made)]
    sides = ([HEAD, *(row.rsplit("\t", 2)[0] for row in rows[side])] for side in ("train", "test"))
    return {name: "\r\n".join(lines) + "\r\n" for name, lines in zip(FILES, (meta, *sides), strict=True)}


def official_lists() -> dict[str, str]:
    return {name: (LISTS / name).read_bytes().decode() for name in FILES}


def written(root: Path, lists: dict[str, str]) -> Path:
    for name, text in lists.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    return root


def with_stand_in_audio(root: Path) -> Path:
    """Every listed recording as a link to one of a hundred short tones."""
    tones = [root.parent / "tones" / f"{n}.wav" for n in range(100)]
    for number, path in enumerate(tones):
        write_tone(path, number, seconds=0.01)
    (root / "audio").mkdir()
    for number, line in enumerate((root / "meta.csv").read_text().splitlines()[1:]):
        os.link(tones[number % 100], root / line.split("\t")[0])
    return root


@pytest.fixture(scope="module", params=["equivalent", "official"])
def dataset(request, tmp_path_factory):
    if request.param == "official" and not LISTS.is_dir():
        pytest.skip("the official lists are not at hand")
    lists = equivalent_lists() if request.param == "equivalent" else official_lists()
    return with_stand_in_audio(written(tmp_path_factory.mktemp(request.param) / "tau2019", lists))


@pytest.mark.slow
def test_counts_are_official_and_nothing_leaks(dataset):
    report = check(dataset)
    assert (report.kind, report.clips, report.usable) == ("tau2019", 14_400, 14_400)
    assert [(s.split, s.train, s.test, s.unused) for s in report.splits] == [("fold1", 9185, 4185, 1030)]
    assert report.official == "TAU-urban-acoustic-scenes-2019-development"
    assert report.count_differences == ()
    assert {f.kind for f in report.findings} == {"duplicate", "official-format"}  # which stand-in audio is
    assert report.fit


def planted(dataset: Path, root: Path) -> tuple[Path, str]:
    """The same dataset with one test clip recorded at a place of the train side; its location."""
    meta, train, evaluate = (dataset.joinpath(name).read_bytes().decode() for name in FILES)
    place = train.split("\r\n")[1].split("\t")[0].split("-")[1:3]
    old = evaluate.split("\r\n")[1].split("\t")[0]
    scene, _, _, *rest = old.split("-")
    new = "-".join([scene, *place, *rest])
    row = next(line for line in meta.split("\r\n") if line.startswith(old))
    moved = row.replace(old, new).replace(row.split("\t")[2], "-".join(place))
    written(root, dict(zip(FILES, (meta.replace(row, moved), train, evaluate.replace(old, new)), strict=True)))
    (root / "audio").mkdir()
    for path in (dataset / "audio").iterdir():
        os.link(path, root / (new if f"audio/{path.name}" == old else f"audio/{path.name}"))
    return root, "-".join(place)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_planted_leak_is_named_and_decides_the_exit_status(dataset, tmp_path):
    root, place = planted(dataset, tmp_path / "tau2019")
    done = subprocess.run(["ascfeat", "check", "--json", str(root)], capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    leaks = [f for f in report["findings"] if f["severity"] == "leak"]
    assert done.returncode == 1
    assert (report["fit"], report["clips"]) == (False, 14_400)
    assert [f["kind"] for f in leaks] == ["leak-location"]
    assert f"location {place} is on both sides of fold1" in leaks[0]["detail"]
    assert "1 in test" in leaks[0]["detail"]


def test_lists_alone_are_read_at_scale(tmp_path):
    root = written(tmp_path / "tau2019", equivalent_lists())
    _, manifest = open_dataset(root)
    (split,) = manifest.splits
    assert (len(manifest.clips), len(split.train), len(split.test)) == (14_400, 9185, 4185)


@pytest.mark.usefixtures("quick")
def test_check_says_whether_a_dataset_is_fit_in_words_and_status(scenes, tmp_path):
    done = subprocess.run(["ascfeat", "check", str(scenes)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Fit to extract: all 216 recordings can be used, and no split leaks." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    missing = subprocess.run(["ascfeat", "check", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "no dataset layout that ascfeat knows" in missing.stderr
