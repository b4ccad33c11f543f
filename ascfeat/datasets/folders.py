"""A folder for each class: ``<class>/<recording>``, perhaps inside ``audio/`` or ``train/`` and ``test/``."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar, Final

from ascfeat.datasets.columns import SIDE_WORDS, column_splits
from ascfeat.datasets.csv_list import described
from ascfeat.datasets.folds import made_folds
from ascfeat.datasets.listing import Listed, assemble, clips_of
from ascfeat.datasets.protocol import FOLDERS
from ascfeat.datasets.tree import Tree
from ascschemas.dataset import Manifest
from ascschemas.problems import DatasetError

WRAPPERS: Final = ("audio", "data", "wav")
"""Folders around the class folders that are no class themselves, where nothing else holds audio."""


class Folders:
    """Loader of a folder for each class."""

    kind: ClassVar[str] = "folders"
    rank: ClassVar[int] = FOLDERS
    looks_for: ClassVar[str] = "a folder for each class with recordings in it, two classes at least"

    def recognises(self, tree: Tree) -> bool:
        """Whether recordings lie in the folders of two classes or more."""
        return len({entry.label for entry in _listed(tree)} - {""}) > 1

    def manifest(self, tree: Tree) -> Manifest:
        """Clips, and the sides that the folders name or made folds."""
        listed = _listed(tree)
        if not listed:
            raise DatasetError(
                f"{tree.root} holds no recordings in folders.", todo="Make a folder for each class and put them there."
            )
        clips, problems = clips_of(listed)
        splits = () if problems else column_splits(listed, origin="made from the folders train and test")
        return assemble(tree, self.kind, clips=clips, splits=splits or made_folds(clips), problems=problems)


def _listed(tree: Tree) -> tuple[Listed, ...]:
    """Every recording below a folder, described by the folders above it."""
    parts = [PurePosixPath(path).parts for path in tree.files()]
    inside = [p for p in parts if len(p) > 1]
    skip = 1 if inside and {p[0] for p in inside} <= {*WRAPPERS} and all(len(p) > 2 for p in inside) else 0
    sided = bool(inside) and all(len(p) > skip + 2 and p[skip].lower() in SIDE_WORDS for p in inside)
    return tuple(_entry("/".join(p), p[skip + sided], p[skip].lower() if sided else "") for p in inside)


def _entry(path: str, label: str, fold: str) -> Listed:
    name = described(path, label)
    return Listed(path, path, label, name.device, name.city, name.location, name.segment, fold)
