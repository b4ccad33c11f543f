"""Files that are made from the code say what the code says; `make generated` writes them again."""

import runpy

import pytest

from ascschemas.export import schemas


@pytest.mark.parametrize("name", schemas())
def test_json_schema_is_the_models(root, name):
    assert (root / "schemas" / "json" / name).read_text(encoding="utf-8") == schemas()[name]


def test_no_json_schema_is_left_over(root):
    assert {path.name for path in (root / "schemas" / "json").iterdir()} == set(schemas())


def test_readme_tree_is_the_modules_first_sentences(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    make = runpy.run_path(str(root / "docs" / "tree.py"))
    assert make["tree"]() in readme
    assert make["with_tree"](readme) == readme
