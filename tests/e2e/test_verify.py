"""Through the installed command: a whole store is told whole, a damaged one is told how, and the status tells which."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ascfeat.store import Writer

pytestmark = pytest.mark.slow
RECIPE = """
name: small
representation: {kind: log_mel, n_fft: 512, hop_length: 512, spectrum: power, n_mels: 20, floor: 1.0e-8}
storage: {clips_per_shard: 64}
"""


@pytest.fixture(scope="module")
def made(scenes: Path, tmp_path_factory: pytest.TempPathFactory, all_quick: None) -> Path:
    """A folder with a small store of the demo scenes, computed by convolutions."""
    folder = tmp_path_factory.mktemp("verify")
    (folder / "small.yaml").write_text(RECIPE)
    done = ascfeat("extract", "--recipe", "small.yaml", "--backend", "nnaudio", scenes, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of that store, to be spoiled."""
    return Path(shutil.copytree(made / "features/scenes/small.zarr", tmp_path / "small.zarr"))


def ascfeat(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = ["ascfeat", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def without_one_clip(scenes: Path, folder: Path) -> Path:
    """A copy of the dataset whose lists know one clip less."""
    shutil.copytree(scenes, folder)
    clip = (folder / "meta.csv").read_text().splitlines()[-1].split("\t")[0]
    for table in [folder / "meta.csv", *(folder / "evaluation_setup").glob("*.csv")]:
        kept = [line for line in table.read_text().splitlines(keepends=True) if not line.startswith(clip)]
        table.write_text("".join(kept))
    return folder


def test_a_whole_store(made: Path, scenes: Path) -> None:
    path = made / "features/scenes/small.zarr"
    before = {p: p.stat().st_mtime_ns for p in made.rglob("*")}
    reply = ascfeat("verify", path, cwd=made)
    assert (reply.returncode, "Whole: every checksum" in reply.stdout) == (0, True), reply.stdout + reply.stderr
    assert "216/216 clips" in reply.stderr
    again = ascfeat("verify", path, "--recompute", "2%", "--dataset", scenes, cwd=made)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Differences in ln(mel power + 1e-08)" in again.stdout
    assert "now, 5 clips" in again.stdout
    assert "at the seal, 3 clips" in again.stdout
    assert "The recordings give these values again." in again.stdout
    assert {p: p.stat().st_mtime_ns for p in made.rglob("*")} == before, "nothing is written"


def test_info_tells_the_certificate(made: Path) -> None:
    path = made / "features/scenes/small.zarr"
    (line,) = [x for x in ascfeat("info", path, cwd=made).stdout.splitlines() if x.startswith("certificate")]
    assert "within 1e-05" in line
    assert "3 clips on cpu, TF32 off" in line
    said = json.loads(ascfeat("info", path, "--json", cwd=made).stdout)["seal"]["certificate"]
    assert 0 <= said["comparisons"][0]["max"] < 0.01
    assert f"max {said['comparisons'][0]['max']:g}" in line


def test_what_is_wrong_is_a_line_each_and_status_1(store: Path, tmp_path: Path) -> None:
    shards = [store / f"features/c/{unit}/0/0/0" for unit in range(3)]
    data = bytearray(shards[0].read_bytes())
    data[99] ^= 4
    shards[0].write_bytes(data)
    shards[1].unlink()
    reply = ascfeat("verify", store, cwd=tmp_path)
    assert reply.returncode == 1
    wrong = [line for line in reply.stdout.splitlines() if line.startswith(("missing", "damaged", "different"))]
    assert len(wrong) == 2
    assert wrong[0].startswith("damaged    audio/")
    assert "there is no file features/c/1/0/0/0" in wrong[1]
    assert "Whole" not in reply.stdout


def test_an_edited_certificate_is_told(store: Path, tmp_path: Path) -> None:
    text = json.loads((store / "zarr.json").read_text())
    text["attributes"]["ascfeat_seal"]["certificate"]["comparisons"][0]["correlation"] = 0.5
    (store / "zarr.json").write_text(json.dumps(text, indent=2))
    reply = ascfeat("verify", store, cwd=tmp_path)
    assert reply.returncode == 1
    wrong = [line for line in reply.stdout.splitlines() if line.startswith(("missing", "damaged", "different"))]
    assert wrong == ["damaged    zarr.json: it does not match its digest"]


def test_recordings_that_changed_are_named(store: Path, scenes: Path, tmp_path: Path) -> None:
    said = json.loads((store / "zarr.json").read_text())["attributes"]["ascfeat_seal"]["certificate"]
    here = Path(shutil.copytree(scenes, tmp_path / "scenes"))
    first, second, _ = said["clips"]
    (here / first).write_bytes((here / second).read_bytes())
    reply = ascfeat("verify", store, "--recompute", "3", "--dataset", here, cwd=tmp_path)
    assert reply.returncode == 1
    assert f"different  {first}: is not the recording that it was made from." in reply.stdout
    assert "now, 2 clips" in reply.stdout


def test_wrong_words_are_answered(made: Path, store: Path, scenes: Path, tmp_path: Path) -> None:
    elsewhere = without_one_clip(scenes, tmp_path / "elsewhere")
    open_again = Path(shutil.copytree(store, tmp_path / "open.zarr"))
    Writer(open_again).unseal()
    answers = {
        ("verify", store, "--recompute", "1%"): "go together",
        ("verify", store, "--dataset", scenes): "go together",
        ("verify", store, "--recompute", "0%", "--dataset", scenes): "'0%' is neither a share such as 1%",
        ("verify", store, "--recompute", "some", "--dataset", scenes): "'some' is neither",
        ("verify", store, "--recompute", "1", "--dataset", tmp_path / "none"): "There is no dataset folder",
        ("verify", store, "--recompute", "1", "--dataset", elsewhere): "is not the dataset that",
        ("verify", tmp_path / "none.zarr"): "There is no feature store",
        ("verify", open_again): "is not finished: 4 of 4 units are done, and it is not sealed",
    }
    for words, answer in answers.items():
        reply = ascfeat(*words, cwd=tmp_path)
        assert reply.returncode == 2, words
        assert answer in reply.stderr, (words, reply.stderr)
        assert "Traceback" not in reply.stderr


def test_a_seal_that_was_cut_out_is_damage(store: Path, tmp_path: Path) -> None:
    cut = Path(shutil.copytree(store, tmp_path / "cut.zarr"))
    root = json.loads((cut / "zarr.json").read_text())
    del root["attributes"]["ascfeat_seal"]
    (cut / "zarr.json").write_text(json.dumps(root))
    reply = ascfeat("verify", cut, cwd=tmp_path)
    assert reply.returncode == 1
    assert "damaged    zarr.json: it does not match its digest" in reply.stdout
