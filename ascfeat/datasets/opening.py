"""From a folder to its manifest: finds the loader that recognises it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from ascfeat.datasets.protocol import GROUP, Dataset
from ascfeat.datasets.tree import Tree
from ascschemas import plugins
from ascschemas.dataset import Manifest
from ascschemas.problems import DatasetError, Difference

log = logging.getLogger(__name__)

WAY_OUT = (
    "Name the layout with --dataset-kind, or list the recordings in a dataset.csv with columns filename and label."
)


def open_dataset(root: Path, kind: str | None = None) -> tuple[Tree, Manifest]:
    """The files of a dataset folder and what its metadata says.

    Parameters
    ----------
    root : Path
        The dataset folder.
    kind : str, optional
        Name of the loader; without it the folder's layout is recognised.

    Returns
    -------
    tree : Tree
        Read access to the files.
    manifest : Manifest
        Clips and splits.

    Raises
    ------
    UnknownName
        When no loader is called ``kind``.
    DatasetError
        When there is no such folder, no loader or several recognise it, or its metadata cannot be meant.
    """
    tree = Tree(root)
    loader = loader_of(kind) if kind else recognise(tree)
    return tree, loader.manifest(tree)


def loader_of(kind: str) -> Dataset:
    """The loader of that name, built-in or of another package."""
    loader: Dataset = plugins.load(GROUP, kind)()
    return loader


def loaders() -> tuple[Dataset, ...]:
    """Every loader that can be imported, in the order in which they are asked."""
    found = [loader for name in plugins.names(GROUP) if (loader := _importable(name)) is not None]
    return tuple(sorted(found, key=lambda loader: (loader.rank, loader.kind)))


def recognise(tree: Tree) -> Dataset:
    """The loader of the lowest rank that recognises the folder.

    Raises
    ------
    DatasetError
        When none does, with what each looked for, or when two of one rank do.
    """
    asked = loaders()
    matches = [loader for loader in asked if loader.recognises(tree)]
    best = [loader for loader in matches if loader.rank == matches[0].rank]
    if not best:
        raise _unknown(tree, asked)
    if len(best) > 1:
        raise DatasetError(
            f"{tree.root} is recognised as {' and as '.join(loader.kind for loader in best)}.",
            todo=f"Say which with --dataset-kind, for example --dataset-kind {best[0].kind}.",
        )
    return best[0]


def _importable(name: str) -> Dataset | None:
    try:
        return loader_of(name)
    except ImportError as error:  # somebody else's plug-in; it must not keep the others from working
        log.warning("The dataset loader %r cannot be imported and is left out: %s", name, error)
        return None


def _unknown(tree: Tree, asked: Sequence[Dataset]) -> DatasetError:
    inside = tree.folder()
    below = list(islice((name for name in inside if _is_dataset(tree.root / name, asked)), 1))
    hint = f"Perhaps you mean {tree.root / below[0]}. Otherwise: {WAY_OUT}" if below else WAY_OUT
    return DatasetError(
        f"{tree.root} has no dataset layout that ascfeat knows; it holds {_some(inside)}.",
        differences=[Difference(field=a.kind, expected=a.looks_for, found="none") for a in asked],
        todo=hint,
    )


def _is_dataset(folder: Path, asked: Sequence[Dataset]) -> bool:
    try:
        tree = Tree(folder)
        return any(loader.recognises(tree) for loader in asked)
    except (DatasetError, OSError):
        return False


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(n.encode("utf-8", "backslashreplace").decode() for n in names[:6])
    return f"{shown}{f' and {len(names) - 6} more' if len(names) > 6 else ''}" or "nothing"
