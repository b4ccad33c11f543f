"""What every dataset loader must keep, as a test class that the author of a loader fills in."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np

from ascfeat.audio import write_wav
from ascfeat.datasets import GROUP, Dataset, Tree, open_dataset, recognise
from ascschemas import plugins
from ascschemas.dataset import Manifest
from ascschemas.problems import DatasetError


def write_tone(path: Path, number: int, *, rate: int = 8_000, seconds: float = 0.05, channels: int = 1) -> None:
    """Write a short tone that differs from that of every other number; for datasets that tests make.

    Parameters
    ----------
    path : Path
        The WAV file; its folder is made.
    number : int
        Which tone.
    rate, seconds, channels
        Its format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(rate * seconds)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (100 + number) * time + number)
    write_wav(path, np.tile(wave.astype(np.float32), (channels, 1)), rate)


def zipped(folder: Path, archive: Path, top: str) -> None:
    """Pack a folder's files into an archive inside one top folder, as datasets are downloaded."""
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            target.write(path, f"{top}/{path.relative_to(folder).as_posix()}")


class DatasetContract:
    """Tests of one loader. Subclass it with a name that pytest collects, and say ``kind`` and ``build``.

    Examples
    --------
    >>> class TestMine(DatasetContract):
    ...     kind = "mine"
    ...
    ...     def build(self, root):
    ...         write_tone(root / "audio" / "one.wav", 1)  # and the lists
    """

    kind: ClassVar[str]
    """Name of the loader's entry point."""
    folder: ClassVar[str] = "dataset"
    """Name of the folder, where the loader goes by it."""

    def build(self, root: Path) -> None:
        """Make a small whole dataset of the layout, with at least two clips, in an empty folder."""
        raise NotImplementedError

    def made(self, tmp_path: Path) -> Path:
        """A folder with the small dataset."""
        root = tmp_path / self.folder
        root.mkdir()
        self.build(root)
        return root

    def loader(self) -> Dataset:
        """The registered loader."""
        loader: Dataset = plugins.load(GROUP, self.kind)()
        return loader

    def read(self, tmp_path: Path) -> Manifest:
        """The manifest of the small dataset, read by name."""
        return open_dataset(self.made(tmp_path), self.kind)[1]

    def test_it_says_what_it_is(self) -> None:
        """Kind, rank and what it looks for are there, and the kind is the entry point's name."""
        loader = self.loader()
        assert loader.kind == self.kind
        assert isinstance(loader.rank, int)
        assert loader.looks_for

    def test_it_recognises_its_own(self, tmp_path: Path) -> None:
        """The small dataset is recognised as this kind among all registered loaders."""
        assert recognise(Tree(self.made(tmp_path))).kind == self.kind

    def test_it_does_not_recognise_an_empty_folder(self, tmp_path: Path) -> None:
        """Nothing is not this layout."""
        assert self.loader().recognises(Tree(tmp_path)) is False

    def test_an_empty_folder_is_a_dataset_error(self, tmp_path: Path) -> None:
        """Asked for by name, an empty folder is an error that a person can read."""
        try:
            self.loader().manifest(Tree(tmp_path))
        except DatasetError:
            return
        raise AssertionError(f"{self.kind} made a manifest of an empty folder")

    def test_every_clip_is_a_file(self, tmp_path: Path) -> None:
        """Clip ids are the paths of the recordings."""
        tree, manifest = open_dataset(self.made(tmp_path), self.kind)
        assert len(manifest.clips) > 1
        assert [clip.id for clip in manifest.clips if not tree.exists(clip.id)] == []

    def test_it_names_itself_and_the_folder(self, tmp_path: Path) -> None:
        """The manifest says which loader read it, and the folder's name."""
        manifest = self.read(tmp_path)
        assert (manifest.kind, manifest.dataset) == (self.kind, self.folder)

    def test_reading_again_gives_the_same(self, tmp_path: Path) -> None:
        """Clips, their order and the splits do not depend on the moment."""
        root = self.made(tmp_path)
        first, second = (open_dataset(root, self.kind)[1] for _ in range(2))
        assert first == second
        assert first.fingerprint == second.fingerprint

    def test_no_clip_is_on_both_sides_of_a_split(self, tmp_path: Path) -> None:
        """Train and test have no clip in common."""
        for split in self.read(tmp_path).splits:
            assert not set(split.train) & set(split.test), split.name

    def test_archives_read_like_files(self, tmp_path: Path) -> None:
        """The same dataset inside a downloaded archive has the same manifest."""
        root = self.made(tmp_path)
        packed = tmp_path / "packed" / self.folder
        packed.mkdir(parents=True)
        zipped(root, packed / "download.zip", self.folder)
        assert open_dataset(packed, self.kind)[1] == open_dataset(root, self.kind)[1]
