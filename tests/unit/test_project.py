"""The house rules that no linter knows: what modules are called, what they say first, and what a wheel carries."""

import re
import runpy
import zipfile

import pytest

FORBIDDEN = {"utils", "helpers", "common", "misc", "manager"}


@pytest.fixture(scope="module")
def tree(root):
    return runpy.run_path(str(root / "docs" / "tree.py"))


def test_every_module_says_its_job_in_one_sentence(tree):
    sentences = {str(module): tree["sentence"](module) for module in tree["modules"]()}
    wrong = [f"{module}: {words!r}" for module, words in sentences.items() if not re.fullmatch(r"[^.].*[^.]\.", words)]
    assert not wrong


def test_no_module_has_a_name_that_says_nothing(tree):
    assert not [module for module in tree["modules"]() if FORBIDDEN & {module.stem, module.parent.name}]


def test_no_package_is_without_its_init(root, tree):
    known = set(tree["modules"]())
    on_disk = {path for package in tree["PACKAGES"] for path in (root / package).rglob("*.py")}
    assert on_disk == known


def test_wheel_carries_every_file_of_every_package(root, tree, tmp_path):
    builders = pytest.importorskip("hatchling.builders.wheel", reason="the wheel's builder is not installed")
    wheel = next(builders.WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"]))
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert carried == {
        (path.relative_to((root / package).parent)).as_posix()
        for package in tree["PACKAGES"]
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
