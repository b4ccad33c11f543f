"""Any dataset in the TAU layout that is not one of the published sets, labelled or not."""

from __future__ import annotations

from typing import ClassVar

from ascfeat.datasets.protocol import LAYOUT
from ascfeat.datasets.tau import has_layout, read_layout
from ascfeat.datasets.tree import Tree
from ascschemas.dataset import Manifest


class Scenes:
    """Loader of the TAU layout: ``meta.csv`` with scene_label, lists in ``evaluation_setup/``, or named audio files."""

    kind: ClassVar[str] = "scenes"
    rank: ClassVar[int] = LAYOUT
    looks_for: ClassVar[str] = "meta.csv with scene_label, lists in evaluation_setup/, or audio/<scene>-<city>-….wav"

    def recognises(self, tree: Tree) -> bool:
        """Whether there is a ``meta.csv`` with scene labels, a list, or audio named in the TAU form."""
        return has_layout(tree)

    def manifest(self, tree: Tree) -> Manifest:
        """Clips and splits; folds are made by location where the folder has no lists."""
        return read_layout(tree, self.kind)
