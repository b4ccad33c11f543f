"""A trainer from somebody else's package, installed as a stranger installs it: found, checked, trained, refused."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ascmodels.testing.stores import make_store

RECIPE = """
{name: mine, features: made_up, family: {kind: five_conv, widths: [4, 4, 8, 8, 8]}, objective: {kind: focal},
 optimiser: {kind: adam}, batch_size: 16, epochs: 3, trainer: {kind: nearest_mean, sharpness: 2}}
"""
FIT = ["ascmodels", "fit", "mine.yaml", "scenes", "--features", "features", "--device", "cpu"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]


def package(root: Path, folder: Path, project: str = "nearest-mean", module: str = "nearest_mean") -> Path:
    """The package's files; another author's have other names, but for the trainer's."""
    shutil.copytree(root / "tests" / "data" / "nearest-mean", folder)
    (folder / "nearest_mean.py").rename(folder / f"{module}.py")
    about = folder / "pyproject.toml"
    text = about.read_text().replace('"nearest-mean"', f'"{project}"').replace("nearest_mean:", f"{module}:")
    about.write_text(text.replace("nearest_mean.py", f"{module}.py"))
    return folder


def install(*packages: Path, into: Path) -> Path:
    """With pip, from source, into a folder of their own; nothing is downloaded."""
    how = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--target", str(into)]
    done = run([sys.executable, "-m", "pip", "install", "--quiet", *how, *map(str, packages)], into.parent)
    assert done.returncode == 0, done.stderr
    return into


def run(command, folder, plugins=None):
    environment = {**os.environ, **({"PYTHONPATH": str(plugins)} if plugins else {})}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(root, tmp_path_factory):
    """The folder it is installed into."""
    folder = tmp_path_factory.mktemp("installed")
    return install(package(root, folder / "nearest-mean"), into=folder / "plugins")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a store and a recipe that asks for the trainer; tests leave only runs of their own."""
    folder = tmp_path_factory.mktemp("work")
    make_store(folder / "features" / "scenes" / "made_up.zarr")
    (folder / "mine.yaml").write_text(RECIPE)
    return folder


@pytest.mark.parametrize("name", ["nearest_mean.py", "pyproject.toml", "test_nearest_mean.py"])
def test_the_how_to_page_shows_this_package(root, name):
    page = (root / "docs" / "how-to" / "write-a-trainer.md").read_text(encoding="utf-8")
    assert f"\n{(root / 'tests' / 'data' / 'nearest-mean' / name).read_text(encoding='utf-8')}```" in page


def test_it_trains_and_is_evaluated_by_the_commands(work, installed):
    trained = run([*FIT, "--out", "run"], work, installed)
    assert trained.returncode == 0, trained.stderr
    assert "run: 1 epoch, epoch 1 selected." in trained.stdout
    scored = run(["ascmodels", "evaluate", "run", "--device", "cpu"], work, installed)
    assert scored.returncode == 0, scored.stderr
    accuracy = float(re.search(r"^overall +([\d.]+)", scored.stdout, re.MULTILINE)[1])
    assert accuracy > 90  # one band of a class is raised by two deviations over 25 frames
    assert '"sharpness":2.0' in (work / "run" / "config.json").read_text().replace(" ", "")


def test_its_options_are_checked_and_set_like_any(work, installed):
    refused = run([*FIT, "--out", "other", "--set", "trainer.sharpnes=1"], work, installed)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "did you mean trainer.sharpness" in refused.stderr
    refused = run([*FIT, "--out", "other", "--set", "trainer.sharpness=-1"], work, installed)
    assert refused.returncode == 2
    assert "trainer.sharpness" in refused.stderr
    assert not (work / "other").exists()


def test_it_keeps_the_contract(root, tmp_path, installed):
    tests = package(root, tmp_path / "theirs") / "test_nearest_mean.py"
    done = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)], tmp_path, installed)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_without_its_package_it_is_unknown(work):
    done = run([*FIT, "--out", "none"], work)
    assert done.returncode == 2
    assert "Nothing called 'nearest_mean' is registered in ascmodels.trainers" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_packages_that_claim_its_name_are_both_named(root, tmp_path, work):
    one, two = package(root, tmp_path / "one"), package(root, tmp_path / "two", "mean-of-others", "mean_of_others")
    done = run([*FIT, "--out", "none"], work, install(one, two, into=tmp_path / "plugins"))
    assert done.returncode == 2
    assert "Two packages claim the name 'nearest_mean' in ascmodels.trainers" in done.stderr
    for owner in ("nearest_mean:NearestMean of nearest-mean", "mean_of_others:NearestMean of mean-of-others"):
        assert owner in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (None, "found ModuleNotFoundError: No module named 'nearest_mean'"),
        (
            "from ascmodels.trainers.base import Trainer\nclass NearestMean(Trainer):\n    def fit(self, task): ...\n",
            "found NearestMean without scorer",
        ),
    ],
    ids=["no module", "half a class"],
)
def test_a_broken_package_is_named(tmp_path, work, installed, module, said):
    broken = tmp_path / "plugins"
    shutil.copytree(installed, broken, ignore=shutil.ignore_patterns("__pycache__"))
    (broken / "nearest_mean.py").write_text(module) if module else (broken / "nearest_mean.py").unlink()
    done = run([*FIT, "--out", "none"], work, broken)
    assert done.returncode == 2
    assert said in done.stderr
    assert "nearest_mean" in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr
