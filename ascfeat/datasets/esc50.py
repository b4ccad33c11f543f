"""ESC-50: environmental sounds in five folds that never share a source recording."""

from __future__ import annotations

from typing import ClassVar, Final

from ascfeat.datasets.columns import column_splits
from ascfeat.datasets.listing import Listed, assemble, clips_of, posix
from ascfeat.datasets.protocol import LAYOUT
from ascfeat.datasets.tables import Row, Table, read_table
from ascfeat.datasets.tree import Tree
from ascschemas.dataset import Manifest

META: Final = "meta/esc50.csv"


class Esc50:
    """Loader of ESC-50: ``meta/esc50.csv`` and ``audio/``."""

    kind: ClassVar[str] = "esc50"
    rank: ClassVar[int] = LAYOUT
    looks_for: ClassVar[str] = "meta/esc50.csv"

    def recognises(self, tree: Tree) -> bool:
        """Whether ``meta/esc50.csv`` is there."""
        return tree.exists(META)

    def manifest(self, tree: Tree) -> Manifest:
        """Clips and the five official folds."""
        return esc_manifest(tree, self.kind, read_table(tree, META))


def esc_manifest(tree: Tree, kind: str, table: Table, *, ten: bool = False, notes: tuple[str, ...] = ()) -> Manifest:
    """The manifest of a list in ESC's columns: filename, fold, category, src_file.

    Parameters
    ----------
    tree : Tree
        The dataset's files.
    kind : str
        Name of the loader.
    table : Table
        The list.
    ten : bool
        Keep only the rows whose column ``esc10`` is true.
    notes : tuple of str
        What the loader assumed.
    """
    rows = [row for row in table.rows if not ten or row.get("esc10").lower() in ("true", "1")]
    listed = [_listed(row) for row in rows]
    clips, problems = clips_of(listed)
    kept = {clip.id for clip in clips}
    splits = column_splits([entry for entry in listed if posix(entry.path) in kept])
    return assemble(tree, kind, clips=clips, splits=splits, notes=notes, problems=(*table.problems, *problems))


def _listed(row: Row) -> Listed:
    name = row.get("filename")
    return Listed(
        path=f"audio/{name}" if name else "",
        where=row.where,
        label=row.get("category"),
        location=row.get("src_file"),
        fold=row.get("fold"),
    )
