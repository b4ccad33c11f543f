"""The command: what it prints, what it leaves, and what becomes of it when it is killed or started twice."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from parallel import Recorded, make_dataset, usual

from asccli.ascfeat import ascfeat
from asccli.output import run
from ascfeat.correction import reference_devices
from ascfeat.store import open_store, read_coefficients
from ascschemas.problems import RecipeError

SMALL = """name: small
decode: {remove_dc: true}
storage: {clips_per_shard: 8}
representation: {kind: log_mel, n_fft: 2048, hop_length: 512, n_mels: 32, spectrum: magnitude, floor: 1.0e-7}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_dataset(tmp_path / "set")
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*words: str):
    return CliRunner().invoke(ascfeat, ["correct", *words])


def test_from_recordings_to_a_corrected_store(here):
    done = command("--ref", "ABC", "set", "--recipe", "small.yaml", "--plot", "p.png", "--device", "cpu")
    assert done.exit_code == 0, done.output
    for words in (
        "features/set/coefficients+ref_abc.zarr: new",
        "reference a, b, c; method mean; training side of fold1",
        "8 parallel moments; used: moments that every device recorded",
        "clips used that are from the test side: 0",
        "on 2 moments of 2 locations that were held off",
        "features/set/small+ref_abc.zarr: sealed, 37 of 37 clips usable",
    ):
        assert words in done.output
    assert (here / "p.png").read_bytes().startswith(b"\x89PNG")
    again = command("--ref", "cab", "--recipe", "small.yaml", "--device", "cpu")  # of the only dataset
    assert "coefficients+ref_abc.zarr: as it was" in again.output
    assert "small+ref_abc.zarr: sealed, nothing to do" in again.output
    store = open_store(here / "features/set/small+ref_abc.zarr")
    assert store.header.recipe.correction == read_coefficients(here / "features/set/coefficients+ref_abc.zarr")[0]
    said = CliRunner().invoke(ascfeat, ["info", "features/set/small+ref_abc.zarr"]).output
    assert f"devices a, b, c by {store.header.recipe.correction.digest[:16]}" in said
    listed = CliRunner().invoke(ascfeat, ["ls"]).output
    assert "small+ref_abc" in listed
    assert "coefficients" not in listed


def test_coefficients_only_need_no_recordings(here):
    assert command("--ref", "BC", "set", "--coefficients-only").exit_code == 0
    (here / "set").rename(here / "gone")
    done = command("--ref", "A", "--coefficients-only")
    assert done.exit_code == 0, done.output
    names = sorted(p.name for p in (here / "features/set").glob("*.zarr"))
    assert names == ["coefficients+ref_a.zarr", "coefficients+ref_bc.zarr", "mean_spectrum.zarr"]


def test_a_corrected_recipe_is_extracted_by_name(here):
    assert command("--ref", "ABC", "set", "--coefficients-only").exit_code == 0
    done = CliRunner().invoke(ascfeat, ["extract", "--recipe", "mean_spectrum+ref_abc", "set"])
    assert done.exit_code == 0, done.output
    assert "mean_spectrum+ref_abc.zarr: sealed, 37 of 37 clips usable" in done.output


def test_devices_without_coefficients_are_named(here):
    make_dataset(here / "more", [*usual(), Recorded(30, ("s1",), side="test")])
    done = command("--ref", "ABC", "more", "--coefficients-only")
    assert "devices without coefficients, left as they are: s1" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ref", "ABZ", "set"], "There is no device 'z' in this dataset"),
        (["--ref", ",", "set"], "names no device"),
        (["--ref", "ABC", "set", "--recipe", "logmel128"], "expected 2048  found 4096"),
        (["--ref", "ABC"], "holds stores of 0"),
        (["--ref", "ABC", "set", "--split", "fold2"], "did you mean fold1?"),
    ],
)
def test_refusals_are_words_and_leave_nothing(here, capsys, words, said):
    before = sorted(here.rglob("*"))
    with pytest.raises(SystemExit) as left:
        run(ascfeat, ["correct", *words])
    assert left.value.code == 2
    text = capsys.readouterr().err
    assert said in " ".join(text.split("\n")).replace("\n", " ")
    assert "Traceback" not in text
    assert sorted(here.rglob("*")) == before


def test_a_damaged_store_of_coefficients_is_refused(here, capsys):
    assert command("--ref", "ABC", "set", "--coefficients-only").exit_code == 0
    audit = here / "features/set/coefficients+ref_abc.zarr/audit.json"
    audit.write_text(audit.read_text().replace('"from_test": 0', '"from_test": 0 '))
    with pytest.raises(SystemExit):
        run(ascfeat, ["correct", "--ref", "ABC", "set", "--recipe", "small.yaml"])
    assert "audit.json is not what was written" in capsys.readouterr().err
    assert not (here / "features/set/small+ref_abc.zarr").exists()


@pytest.mark.slow
def test_killed_and_started_again_it_ends_the_same(here):
    """SIGKILL as soon as each of the stores is there, and once more when the coefficients are."""
    words = ["ascfeat", "correct", "--ref", "ABC", "set", "--recipe", "small.yaml", "--device", "cpu"]
    subprocess.run([*words, "--features", "fresh"], check=True, capture_output=True)
    killed = [
        killed_at(words, here / "features/set", f"{name}.zarr") for name in ("mean_spectrum", "*+ref_abc", "small+*")
    ]
    assert killed[0]  # the later ones may come through before they are seen
    for found in (here / "features/set").glob("coefficients+*.zarr"):
        read_coefficients(found)  # whole, if it is there
    subprocess.run(words, check=True, capture_output=True)
    assert bytes_of(here / "features/set") == bytes_of(here / "fresh/set")


@pytest.mark.slow
def test_two_at_once_end_in_the_same_stores(here):
    words = ["ascfeat", "correct", "--ref", "ABC", "set", "--recipe", "small.yaml", "--device", "cpu"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    for process in both:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    subprocess.run([*words, "--features", "fresh"], check=True, capture_output=True)
    assert bytes_of(here / "features/set") == bytes_of(here / "fresh/set")


def killed_at(words: list[str], folder: Path, pattern: str) -> bool:
    """Start a command and kill it once there is something of that name; whether it was still at work."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(folder.glob(pattern)):
        time.sleep(0.001)
    process.kill()
    return process.wait() == -signal.SIGKILL


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file that is no lock or leftover beside the stores."""
    files = (p for p in folder.rglob("*") if p.is_file())
    names = {p.relative_to(folder).as_posix(): p for p in files}
    return {name: p.read_bytes() for name, p in names.items() if not name.startswith(".")}


def test_devices_of_the_reference_are_letters_or_names():
    assert reference_devices("CBA") == ("a", "b", "c")
    assert reference_devices("s1, s2") == ("s1", "s2")
    with pytest.raises(RecipeError):
        reference_devices("")
