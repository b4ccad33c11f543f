"""A folder for each class, in the shapes people keep them."""

import pytest

from ascfeat.datasets import open_dataset
from ascschemas.problems import DatasetError


@pytest.mark.parametrize("top", ["", "audio/", "data/"])
def test_folders_are_classes(lay, top):
    _, manifest = open_dataset(lay({}, f"{top}my dog/1.wav", f"{top}my dog/2.WAV", f"{top}rain/x/1.wav", "stray.wav"))
    assert (manifest.kind, manifest.classes) == ("folders", ("my dog", "rain"))
    assert [clip.label for clip in manifest.clips] == ["my dog", "my dog", "rain"]
    assert len(manifest.splits) == 3


def test_train_and_test_folders_are_sides(lay):
    _, manifest = open_dataset(lay({}, "train/dog/1.wav", "train/rain/2.wav", "test/dog/3.wav"))
    assert manifest.classes == ("dog", "rain")
    (split,) = manifest.splits
    assert (split.train, split.test) == (("train/dog/1.wav", "train/rain/2.wav"), ("test/dog/3.wav",))
    assert split.origin == "made from the folders train and test"


def test_one_folder_is_no_dataset_unless_it_is_named_one(lay):
    root = lay({}, "dog/1.wav", "dog/2.wav")
    with pytest.raises(DatasetError, match="no dataset layout"):
        open_dataset(root)
    assert open_dataset(root, "folders")[1].classes == ("dog",)


def test_names_in_the_tau_form_are_read(lay):
    _, manifest = open_dataset(lay({}, "bus/bus-paris-1-2-a.wav", "park/park-lyon-3-4-b.wav"))
    assert [(c.device, c.location) for c in manifest.clips] == [("a", "paris-1"), ("b", "lyon-3")]


def test_names_that_are_not_utf8_are_named(lay):
    root = lay({}, "dog/1.wav", "rain/1.wav")
    (root / "rain" / b"\xe9.wav".decode("utf-8", "surrogateescape")).write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        open_dataset(root)
    assert caught.value.differences[0].found == "rain/\\udce9.wav"
    str(caught.value).encode()


def test_no_recordings(lay):
    with pytest.raises(DatasetError, match="holds no recordings in folders"):
        open_dataset(lay({"dog/x.txt": ""}), "folders")
