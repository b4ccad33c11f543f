"""Which loader reads which folder, and what is said when none or several do."""

import zipfile
from importlib.metadata import EntryPoint

import pytest

from ascfeat.datasets import loaders, open_dataset
from ascfeat.datasets.official import official_sets
from ascfeat.datasets.tau_set import TauSet
from ascschemas import plugins
from ascschemas.dataset import Clip, Manifest
from ascschemas.problems import DatasetError, UnknownName

TABLE = "filename\tscene_label\tidentifier\tsource_label\n"
SCENE = "audio/bus-paris-1-1-a.wav"


class Mine:
    """A stranger's loader that recognises everything."""

    kind, rank, looks_for = "mine", 10, "anything"

    def recognises(self, tree):
        return True

    def manifest(self, tree):
        return Manifest(dataset="x", kind="mine", clips=(Clip(id="a.wav"),))


def register(monkeypatch, **points):
    table = dict(plugins._table("ascfeat.datasets"))
    table.update({name: EntryPoint(name, value, "ascfeat.datasets") for name, value in points.items()})
    monkeypatch.setattr(plugins, "_table", lambda group: table)


def published(entry):
    """Rows of meta.csv with the set's own counts: stems are numbered, classes in turn where they are not published."""
    rows = []
    for device, sides in entry.devices.items():
        classes = entry.classes.get(device) or {"bus": (sum(sides), 0, 0)}
        labels = (label for label, counts in classes.items() for _ in range(sum(counts)))
        rows += [
            f"audio/{label}-paris-{n}-{n}-{device}.wav\t{label}\tparis-{n}\t{device}" for n, label in enumerate(labels)
        ]
    return TABLE + "\n".join(rows)


@pytest.mark.parametrize("entry", official_sets(), ids=lambda entry: f"{entry.kind}{entry.version}")
def test_published_sets_are_known_by_their_devices_and_length_under_any_name(lay, entry):
    ending = "txt" if entry.kind.startswith("tut") else "csv"
    head = "" if ending == "txt" else "filename\tscene_label\n"
    first = next(iter(published(entry).split("\n", 2)[1:2])).split("\t")[0]
    root = lay({"meta.csv": published(entry), f"evaluation_setup/fold1_train.{ending}": f"{head}{first}\tx\n"})
    _, manifest = open_dataset(root)
    assert (manifest.kind, len(manifest.clips)) == (entry.kind, entry.clips)


@pytest.mark.parametrize("entry", official_sets(), ids=lambda entry: f"{entry.kind}{entry.version}")
def test_part_of_a_published_set_is_known_by_its_folder(lay, entry):
    root = lay({"meta.csv": f"{TABLE}{SCENE}\tbus\tparis-1\ta\n"}, name=entry.folder.lower())
    assert open_dataset(root)[1].kind == entry.kind


def test_published_set_is_known_by_its_archives(lay):
    root = lay({})
    with zipfile.ZipFile(root / "meta.zip", "w") as archive:
        archive.writestr("TAU-urban-acoustic-scenes-2019-development/meta.csv", f"{TABLE}{SCENE}\tbus\tparis-1\ta\n")
    assert open_dataset(root)[1].kind == "tau2019"


def test_official_length_with_other_classes_is_not_official(lay):
    rows = "".join(f"audio/{'ab'[n % 2]}-x-{n}-{n}-a.wav\t{'ab'[n % 2]}\tx-{n}\ta\n" for n in range(14_400))
    assert open_dataset(lay({"meta.csv": TABLE + rows}))[1].kind == "scenes"


def test_loaders_are_asked_by_rank_and_name():
    asked = [(loader.rank, loader.kind) for loader in loaders()]
    assert asked == sorted(asked)
    assert [kind for _, kind in asked][-2:] == ["csv", "folders"]
    assert all(isinstance(loader, TauSet) for loader in loaders()[:5])


def test_unknown_kind_suggests_the_nearest(lay):
    with pytest.raises(UnknownName, match=r"did you mean esc50 or esc10\?|did you mean esc10 or esc50\?"):
        open_dataset(lay({}), "esc5")


def test_unknown_folder_says_what_was_looked_for(lay):
    with pytest.raises(DatasetError) as caught:
        open_dataset(lay({"README.md": "hello"}))
    assert "no dataset layout that ascfeat knows; it holds README.md." in caught.value.what
    assert {d.field for d in caught.value.differences} == set(plugins.names("ascfeat.datasets"))
    assert "--dataset-kind" in caught.value.todo


def test_empty_folder_is_said_to_hold_nothing(lay):
    with pytest.raises(DatasetError, match="it holds nothing"):
        open_dataset(lay({}))


def test_dataset_one_folder_down_is_pointed_at(lay):
    root = lay({}, "inner/audio/bus-paris-1-1-a.wav", "inner/audio/park-paris-1-1-a.wav")
    (root / "inner" / "meta.csv").write_text(f"{TABLE}{SCENE}\tbus\tparis-1\ta\n")
    with pytest.raises(DatasetError, match=r"Perhaps you mean .*inner\."):
        open_dataset(root)


def test_stranger_takes_part_by_its_rank(lay, monkeypatch):
    register(monkeypatch, mine=f"{__name__}:Mine")
    monkeypatch.setattr(
        plugins, "load", lambda group, name, load=plugins.load: Mine if name == "mine" else load(group, name)
    )
    assert open_dataset(lay({"meta.csv": f"{TABLE}{SCENE}\tbus\tparis-1\ta\n"}))[1].kind == "mine"


def test_two_of_one_rank_are_an_error_that_names_both(lay, monkeypatch):
    register(monkeypatch, mine=f"{__name__}:Mine")
    monkeypatch.setattr(
        plugins, "load", lambda group, name, load=plugins.load: Mine if name == "mine" else load(group, name)
    )
    root = lay({"meta.csv": f"{TABLE}{SCENE}\tbus\tparis-1\ta\n"}, name="TAU-urban-acoustic-scenes-2019-development")
    with pytest.raises(DatasetError, match="is recognised as mine and as tau2019"):
        open_dataset(root)


def test_loader_that_cannot_be_imported_is_left_out_with_a_word(lay, monkeypatch, caplog):
    register(monkeypatch, broken="no.such.module:Loader")
    assert open_dataset(lay({"meta.csv": f"{TABLE}{SCENE}\tbus\tparis-1\ta\n"}))[1].kind == "scenes"
    assert "'broken' cannot be imported" in caplog.text
