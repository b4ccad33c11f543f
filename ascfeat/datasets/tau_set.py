"""A published set in the TAU layout: recognised by its folder's name, or by its devices and number of clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ascfeat.datasets.listing import Listed
from ascfeat.datasets.official import OfficialSet, versions
from ascfeat.datasets.protocol import OFFICIAL
from ascfeat.datasets.tau import has_layout, lists_are_text, meta_rows, read_layout
from ascfeat.datasets.tree import Tree
from ascschemas.dataset import Manifest


class TauSet:
    """Loader of one published set; the subclass names it and ``official.toml`` holds its facts.

    No count is a condition: a folder with fewer or more clips is read all the same, and the doctor lists how it
    differs from the published set.
    """

    kind: ClassVar[str]
    """Name of the set, as in ``official.toml``."""
    rank: ClassVar[int] = OFFICIAL
    """Asked before the loaders of general layouts."""
    looks_for: ClassVar[str]
    """What the folder or its lists must be."""
    text_lists: ClassVar[bool] = False
    """Whether its lists are ``.txt`` without a header, as in 2018."""

    def recognises(self, tree: Tree) -> bool:
        """Whether the folder or its archives have the official name, or the lists the official devices and length."""
        titles = {title.lower() for title in tree.titles}
        named = any(entry.folder.lower() in titles for entry in versions(self.kind))
        return (named and has_layout(tree)) or self._counts(tree)

    def manifest(self, tree: Tree) -> Manifest:
        """Clips and the official split."""
        removed = frozenset[str]().union(*(entry.removed for entry in versions(self.kind)))
        return read_layout(tree, self.kind, removed=removed)

    def _counts(self, tree: Tree) -> bool:
        known = {version.clips: version for version in versions(self.kind)}
        rows = meta_rows(tree, known)
        return bool(rows) and _fits(rows, known[len(rows)]) and lists_are_text(tree) == self.text_lists


def _fits(rows: Sequence[Listed], version: OfficialSet) -> bool:
    """Whether devices and, where they are known, classes are the published ones."""
    labels = {row.label for row in rows}
    same_classes = all(set(known) == labels for known in version.classes.values())
    return {row.device for row in rows} == set(version.devices) and same_classes
