"""A name is loaded from its one owner; an unknown or a contested name is an error that helps."""

from importlib.metadata import EntryPoint, entry_points

import pytest

from ascschemas import plugins
from ascschemas.problems import AscError, UnknownName

GROUP = "ascfeat.representations"


@pytest.fixture
def register(monkeypatch):
    def replace(*points):
        monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in points if p.group == group])

    return replace


def test_loads_what_is_registered(register):
    register(EntryPoint("sqrt", "math:sqrt", GROUP), EntryPoint("other", "math:cos", "ascfeat.datasets"))
    assert plugins.names(GROUP) == ("sqrt",)
    assert plugins.load(GROUP, "sqrt")(9) == 3


def test_unknown_name_suggests_the_nearest(register):
    register(EntryPoint("log_mel", "math:sqrt", GROUP))
    with pytest.raises(UnknownName, match=r"'logmel'.*did you mean log_mel\?"):
        plugins.load(GROUP, "logmel")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module:f", "found ModuleNotFoundError: No module named 'no_such_module'"),
        ("math:no_such_thing", "found AttributeError: .*no_such_thing"),
    ],
)
def test_what_cannot_be_imported_is_said(register, value, said):
    register(EntryPoint("broken", value, GROUP))
    with pytest.raises(plugins.BrokenPlugin, match=f"'broken' of {GROUP} cannot be imported(.|\n)*{said}") as failed:
        plugins.load(GROUP, "broken")
    assert isinstance(failed.value, ImportError)  # who goes on without it catches this
    assert "Install the package" in failed.value.todo


def test_two_owners_of_a_name_are_both_named(register):
    register(EntryPoint("cqt", "math:sqrt", GROUP), EntryPoint("cqt", "math:cos", GROUP))
    with pytest.raises(AscError, match=r"expected math:sqrt.*found math:cos"):
        plugins.names(GROUP)


def test_one_owner_listed_twice_is_no_contest(register):
    register(EntryPoint("cqt", "math:sqrt", GROUP), EntryPoint("cqt", "math:sqrt", GROUP))
    assert plugins.names(GROUP) == ("cqt",)


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_everything_built_in_loads(group):
    assert plugins.names(group)
    for name in plugins.names(group):
        plugins.load(group, name)


def test_what_is_installed_while_a_process_runs_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    asked = []

    def counted(group):
        asked.append(group)
        return entry_points(group=group)

    monkeypatch.setattr(plugins, "entry_points", counted)
    before = plugins.names(GROUP)
    assert plugins.names(GROUP) == before
    assert asked == [GROUP]  # to look at all packages takes 30 ms
    about = tmp_path / "late-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\nlate = math:sqrt\n")
    assert plugins.load(GROUP, "late")(9) == 3
