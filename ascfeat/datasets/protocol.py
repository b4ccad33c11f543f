"""What every loader promises, and the order in which loaders are asked."""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

from ascfeat.datasets.tree import Tree
from ascschemas.dataset import Manifest

GROUP: Final = "ascfeat.datasets"
"""Entry-point table of the loaders."""

OFFICIAL: Final = 10
"""Rank of loaders that know one published set by its name and numbers."""
LAYOUT: Final = 20
"""Rank of loaders that know how a family of datasets lays out its files."""
LIST: Final = 30
"""Rank of loaders that take any list of recordings."""
FOLDERS: Final = 40
"""Rank of loaders that take what files there are."""


class Dataset(Protocol):
    """A loader: it knows one layout of a dataset folder and reads it into a manifest.

    Loaders are found in the entry-point table ``ascfeat.datasets``. A folder is read by the loader of the lowest rank
    that recognises it; two of the same rank are an error that names both, never a guess. Neither method reads audio.
    """

    kind: ClassVar[str]
    """Name of the layout; the same as the entry point's."""
    rank: ClassVar[int]
    """Which loaders are asked first: the lower the earlier. More specific layouts have lower ranks."""
    looks_for: ClassVar[str]
    """What ``recognises`` looks for, as half a sentence for the person whose folder was not recognised."""

    def recognises(self, tree: Tree) -> bool:
        """Whether the folder looks like this layout.

        Raises
        ------
        DatasetError
            When the file that would tell is there and cannot be read; another layout's files are never an error.
        """
        ...

    def manifest(self, tree: Tree) -> Manifest:
        """Clips and splits, from the folder's metadata alone.

        Raises
        ------
        DatasetError
            When the folder cannot be read as this layout; with every problem, not the first one.
        """
        ...
