"""ESC-10: the ten-class part of ESC-50, on its own or inside ESC-50."""

from __future__ import annotations

from typing import ClassVar, Final

from ascfeat.datasets.esc50 import META as ESC50_META
from ascfeat.datasets.esc50 import esc_manifest
from ascfeat.datasets.protocol import LAYOUT
from ascfeat.datasets.tables import read_table
from ascfeat.datasets.tree import Tree
from ascschemas.dataset import Manifest
from ascschemas.problems import DatasetError

META: Final = "meta.csv"


class Esc10:
    """Loader of ESC-10: ``meta.csv`` with filename, fold and category, or, when asked for by name, part of ESC-50."""

    kind: ClassVar[str] = "esc10"
    rank: ClassVar[int] = LAYOUT
    looks_for: ClassVar[str] = "meta.csv with columns filename, fold and category"

    def recognises(self, tree: Tree) -> bool:
        """Whether ``meta.csv`` has ESC's columns."""
        return tree.exists(META) and {"filename", "fold", "category"} <= set(read_table(tree, META).columns)

    def manifest(self, tree: Tree) -> Manifest:
        """Clips and the five official folds."""
        if self.recognises(tree):
            return esc_manifest(tree, self.kind, read_table(tree, META))
        if not tree.exists(ESC50_META):
            raise DatasetError(
                f"{tree.root} is not ESC-10: there is neither {META} with columns filename, fold and category "
                f"nor {ESC50_META}.",
                todo="Check the folder, or leave --dataset-kind out to have its layout recognised.",
            )
        notes = (f"ESC-10 is the rows of {ESC50_META} whose column esc10 is True.",)
        return esc_manifest(tree, self.kind, read_table(tree, ESC50_META), ten=True, notes=notes)
