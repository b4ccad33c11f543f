"""Through the installed command: what cannot be used is named, what can is kept, and the status tells which."""

import json
import os
import pty
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

RECIPE = """
name: small
representation: {kind: log_mel, n_fft: 1024, hop_length: 512, spectrum: power, n_mels: 40, floor: 1.0e-8}
"""


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Stereo recordings of ten seconds, as a lab has them, and seven that went wrong on the way."""
    root = tmp_path / "field"
    for i in range(9):
        path = root / ("bus", "park", "tram")[i % 3] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(i).standard_normal((80_000, 2)), 8000, subtype="PCM_24")
    whole = (root / "bus/0.wav").read_bytes()
    (root / "bus/truncated.wav").write_bytes(whole[: len(whole) // 3])
    (root / "bus/zero bytes.wav").write_bytes(b"")
    (root / "bus/page.wav").write_bytes(b"<html>Not found</html>")
    soundfile.write(root / "park/nan.wav", np.full((80_000, 2), np.nan), 8000, subtype="FLOAT")
    soundfile.write(root / "park/rate.wav", np.zeros((160_000, 2)) + 0.1, 16_000)
    soundfile.write(root / "tram/mono.wav", np.zeros(80_000) + 0.1, 8000)
    soundfile.write(root / "tram/nine.wav", np.zeros((72_000, 2)) + 0.1, 8000)
    (tmp_path / "small.yaml").write_text(RECIPE)
    return root


BAD = {
    "bus/truncated.wav": "truncated",
    "bus/zero bytes.wav": "empty",
    "bus/page.wav": "unreadable",
    "park/nan.wav": "nan",
    "park/rate.wav": "wrong-rate",
    "tram/mono.wav": "wrong-channels",
    "tram/nine.wav": "wrong-length",
}


def ascfeat(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = ["ascfeat", *map(str, arguments)]
    return subprocess.run(
        words, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_the_whole_story_of_a_damaged_dataset(dataset: Path, tmp_path: Path) -> None:
    doctor = ascfeat("check", dataset, "--json", cwd=tmp_path)
    assert doctor.returncode == 1
    found = {(c, f["kind"]) for f in json.loads(doctor.stdout)["findings"] for c in f["clips"]}
    assert found >= set(BAD.items()), "the doctor and the extraction give the same reasons"

    done = ascfeat("extract", "--recipe", "small.yaml", dataset, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "9 of 16 clips usable" in done.stdout
    assert "forecast: " in done.stdout
    assert "16/16 clips" in done.stderr, "piped, progress is plain lines"
    for clip, reason in BAD.items():
        assert any(clip in line and reason in line for line in done.stderr.splitlines()), clip

    again = ascfeat("extract", "--recipe", "small.yaml", dataset, cwd=tmp_path)
    assert "nothing to do" in again.stdout
    assert ascfeat("extract", "--strict", "--recipe", "small.yaml", dataset, cwd=tmp_path).returncode == 1

    info = json.loads(ascfeat("info", "features/field/small.zarr", "--json", cwd=tmp_path).stdout)
    assert {clip: record["excluded"] for clip, record in info["excluded"].items()} == BAD
    assert info["seal"]["usable"] == 9

    table = ascfeat("ls", cwd=tmp_path, ASC_FEATURES=str(tmp_path / "features"))
    assert "small" in table.stdout
    assert "9 clips usable" in table.stdout
    refused = ascfeat("show", "features/field/small.zarr", "bus/page.wav", "--out", "no.png", cwd=tmp_path)
    assert (refused.returncode, "holds no values: unreadable" in refused.stderr) == (2, True)
    picture = ascfeat("show", "features/field/small.zarr", "park/1.wav", "--out", "clip.png", cwd=tmp_path)
    assert picture.returncode == 0, picture.stderr
    assert (tmp_path / "clip.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_words_are_answered(dataset: Path, tmp_path: Path) -> None:
    answers = {
        ("extract", "--recipe", "logmel265", dataset): "did you mean logmel256",
        ("extract", "--recipe", "small.yaml", tmp_path / "none"): "There is no dataset folder",
        ("extract", "--recipe", "small.yaml", dataset, "--device", "cuda:9"): "There is no device 'cuda:9' here",
        ("info", "features/none.zarr"): "There is no feature store",
        ("ls", "nowhere"): "There are no feature stores in nowhere",
        ("recipes", "show", "cqt"): "There is no recipe 'cqt'",
    }
    for words, answer in answers.items():
        reply = ascfeat(*words, cwd=tmp_path)
        assert reply.returncode == 2
        assert answer in reply.stderr
        assert "Traceback" not in reply.stderr


def test_on_a_terminal_there_is_a_bar(dataset: Path, tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    words = ["ascfeat", "extract", "--recipe", "small.yaml", str(dataset)]
    with subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    ):
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(main, 4096)
            except OSError:  # the other side is closed: the command has ended
                break
    os.close(main)
    assert b"16/16" in shown
    assert b"clips/s" in shown


def test_recipes_are_listed_and_shown_whole(tmp_path: Path) -> None:
    listed = ascfeat("recipes", cwd=tmp_path).stdout
    assert {"logmel128", "logmel64", "logmel256"} <= set(listed.split())
    shown = ascfeat("recipes", "show", "logmel64", cwd=tmp_path).stdout
    (tmp_path / "copy.yaml").write_text(shown)
    copy = ascfeat("recipes", "show", "copy.yaml", cwd=tmp_path).stdout
    assert copy == shown, "what is printed is a recipe again, with the same fingerprint"


def test_two_extractions_at_once_do_not_touch_each_other(dataset: Path, tmp_path: Path) -> None:
    words = ["ascfeat", "extract", "--recipe", "small.yaml", str(dataset)]
    both = [subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [p.communicate()[1] for p in both]
    statuses = sorted(p.returncode for p in both)
    assert statuses in ([0, 0], [0, 2])  # one after the other, or one is told that the other writes
    if statuses == [0, 2]:
        assert any("is being written by" in e for e in errors)
    alone = ascfeat("extract", "--recipe", "small.yaml", dataset, "--features", "alone", cwd=tmp_path)
    assert alone.returncode == 0
    first, second = tmp_path / "features/field/small.zarr", tmp_path / "alone/field/small.zarr"
    assert {p.relative_to(first): p.read_bytes() for p in first.rglob("*") if p.is_file()} == {
        p.relative_to(second): p.read_bytes() for p in second.rglob("*") if p.is_file()
    }


def test_a_folder_with_a_space_is_found_again_by_training(dataset: Path, tmp_path: Path) -> None:
    spaced = dataset.rename(tmp_path / "my scenes (2)")
    assert ascfeat("extract", "--recipe", "small.yaml", spaced, cwd=tmp_path).returncode == 0
    recipe = "name: tiny\nfeatures: small\nfamily: {kind: five_conv, widths: [4, 4, 4, 4, 4]}\n"
    (tmp_path / "tiny.yaml").write_text(
        recipe + "objective: {kind: focal}\noptimiser: {kind: adam}\nbatch_size: 4\nepochs: 1\n"
    )
    words = [
        "ascmodels",
        "fit",
        "tiny.yaml",
        str(spaced),
        "--out",
        "run",
        "--select",
        "last",
        "--set",
        "selection.fraction=0",
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_path_that_cannot_be_written_is_an_answer_and_no_traceback(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("x")
    reply = ascfeat("extract", "--recipe", "small.yaml", dataset, "--features", "afile", cwd=tmp_path)
    assert reply.returncode == 2
    assert "afile" in reply.stderr
    assert "Traceback" not in reply.stderr
