"""Are libraries read from a variable as they are written, and are stores found in them by name and by fingerprint?"""

import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from asccli.fit import find_store
from asccli.libraries import LIBRARIES, find_named, split_places
from ascfeat.recipes import load_recipe
from ascfeat.store import Writer, clip_table, create, row, table_digest
from ascfeat.testing.stores import header_of, log_layout, make_store, manifest_of, values_for
from ascschemas.problems import StoreError, UnknownName
from ascschemas.recipe import FeatureRecipe
from ascschemas.store import ClipRecord


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("/a/b", ["/a/b"]),
        ("/a:/b c:d", ["/a", "/b c", "d"]),
        ("s3://bucket/x:/a", ["s3://bucket/x", "/a"]),
        ("/a:http://host:8080/y:s3://bucket", ["/a", "http://host:8080/y", "s3://bucket"]),
        ("https://host:443", ["https://host:443"]),
        (":/a::", ["/a"]),
        ("", []),
    ],
)
def test_a_variable_is_divided_as_path_is(text: str, places: list[str]) -> None:
    assert split_places(text, ":") == places


def test_the_option_is_repeated_or_the_variable_is_taken() -> None:
    @click.command()
    @LIBRARIES
    def show(libraries: tuple[str, ...]) -> None:
        click.echo(repr(libraries))

    run = CliRunner()
    assert run.invoke(show, ["--library", "/a:b", "--library", "s3://c"]).output == "('/a:b', 's3://c')\n"
    assert run.invoke(show, [], env={"ASC_LIBRARIES": "/a:s3://c/d"}).output == "('/a', 's3://c/d')\n"
    assert run.invoke(show, []).output == "()\n"


def store_of(path: Path, recipe: FeatureRecipe) -> None:
    """A sealed store that says it is of a recipe, whatever its values."""
    manifest = manifest_of()
    header = header_of(log_layout(), manifest, {}).model_copy(
        update={"recipe": recipe, "recipe_fingerprint": recipe.fingerprint, "table": table_digest(clip_table(manifest))}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    create(path, header, manifest)
    writer, values = Writer(path), values_for(log_layout(), 0)
    for unit in range(header.units):
        writer.write(unit, [row(ClipRecord(), v, header) for v in values[unit * 4 : unit * 4 + 4]])
    writer.finish()


def test_home_comes_first_then_libraries_in_their_order(tmp_path: Path) -> None:
    for shelf in ("home", "one", "two"):
        make_store(tmp_path / shelf / "made" / "mine.zarr")
    make_store(tmp_path / "two" / "other" / "mine.zarr")
    shelves = [str(tmp_path / s) for s in ("home", "one", "two")]
    assert [str(p) for p in find_named(shelves, "mine")] == [f"{tmp_path}/home/made/mine.zarr"]
    assert [str(p) for p in find_named(shelves[1:], "mine")] == [f"{tmp_path}/one/made/mine.zarr"]
    assert [str(p) for p in find_named(shelves, "mine", "other")] == [f"{tmp_path}/two/other/mine.zarr"]
    assert find_named(shelves, "yours") == []


def test_equal_parameters_count_where_no_name_does(tmp_path: Path) -> None:
    ours = load_recipe("logmel256")
    store_of(tmp_path / "theirs" / "made" / "renamed.zarr", ours.model_copy(update={"name": "renamed"}))
    store_of(tmp_path / "theirs" / "made" / "other.zarr", load_recipe("logmel128"))
    shelves = [str(tmp_path / "home"), str(tmp_path / "theirs")]
    assert [p.name for p in find_named(shelves, "logmel256", "made")] == ["renamed.zarr"]
    assert find_named(shelves, "logmel256", "another") == []
    found = find_store(shelves[0], tmp_path / "made", "logmel256", shelves[1:])
    assert found.header.recipe_fingerprint == ours.fingerprint
    with pytest.raises(UnknownName, match="no recipe of that name"):
        find_store(shelves[0], tmp_path / "made", "cqt84", shelves[1:])


def test_a_store_that_is_not_whole_is_not_taken_for_its_parameters(tmp_path: Path) -> None:
    make_store(tmp_path / "made" / "half.zarr", seal=False)
    (tmp_path / "made" / "torn.zarr").mkdir()
    (tmp_path / "made" / "torn.zarr" / "zarr.json").write_text("{")
    assert find_named([str(tmp_path)], "logmel256") == []


@pytest.mark.slow
def test_a_web_server_that_lists_nothing_and_one_that_is_down(tmp_path: Path, nginx, monkeypatch) -> None:
    """A store is found by its place there; a library that is down is done without, the feature folder is not."""
    monkeypatch.setenv("ASCFEAT_NETWORK_SECONDS", "1")
    down = "http://127.0.0.1:9/features"
    make_store(tmp_path / "home" / "made" / "mine.zarr")
    home = str(tmp_path / "home")
    assert [p.name for p in find_named([str(tmp_path / "none"), down, home], "mine", "made")] == ["mine.zarr"]
    with pytest.raises((StoreError, OSError)):
        find_named([down, home], "mine", "made")
    shutil.copytree(tmp_path / "home", nginx.files / "unlisted")
    url = f"{nginx.url}/unlisted"
    assert [str(p) for p in find_named([str(tmp_path / "none"), url], "mine", "made")] == [f"{url}/made/mine.zarr"]
