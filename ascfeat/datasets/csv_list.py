"""Any list of recordings: one CSV with filename and label, and what else it knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import ClassVar, Final

from ascfeat.datasets.columns import column_splits
from ascfeat.datasets.folds import made_folds
from ascfeat.datasets.listing import Listed, assemble, clips_of, posix
from ascfeat.datasets.protocol import LIST
from ascfeat.datasets.tables import FILE_WORDS, Row, Table, read_table
from ascfeat.datasets.tau import TauName, tau_name
from ascfeat.datasets.tree import Tree
from ascschemas.dataset import Manifest
from ascschemas.problems import DatasetError

LABEL_WORDS: Final = ("label", "scene_label", "scene", "class", "category", "labels", "tags")
DEVICE_WORDS: Final = ("device", "source_label")
LOCATION_WORDS: Final = ("location", "identifier", "src_file")
FOLD_WORDS: Final = ("fold", "split", "set")
SUFFIXES: Final = (".csv", ".tsv", ".txt")
LIST_BYTES: Final = 64 * 2**20
"""Larger text files are no lists of recordings, and not read to find out."""
FOLD_ENTRIES: Final = 50_000_000
"""Most clips that the folds of a list hold together: 25 folds of two million, or leave one out of seven thousand."""
USUAL: Final = ("dataset.csv", "meta.csv", "metadata.csv", "labels.csv")
"""Names that a list usually has, for messages."""


class CsvList:
    """Loader of one list in the folder: ``filename,label[,device,city,location,segment,fold]``."""

    kind: ClassVar[str] = "csv"
    rank: ClassVar[int] = LIST
    looks_for: ClassVar[str] = f"one list ({', '.join(USUAL)} or any other) with columns filename and label"

    def recognises(self, tree: Tree) -> bool:
        """Whether a list with a file and a label column lies directly in the folder."""
        return bool(_lists(tree))

    def manifest(self, tree: Tree) -> Manifest:
        """Clips, and the folds of the list or made ones."""
        table = _only(tree, _lists(tree))
        prefix = _prefix(tree, table)
        listed = [_listed(row, prefix) for row in table.rows]
        clips, problems = clips_of(listed)
        _refuse_folds(tree, table, listed)
        splits = () if problems else column_splits(listed, origin=f"made from a column of {table.path}")
        notes = [f"The paths in {table.path} are relative to {prefix}"] if prefix else []
        return assemble(
            tree,
            self.kind,
            clips=clips,
            splits=splits or made_folds(clips),
            notes=notes,
            problems=(*table.problems, *problems),
        )


def _lists(tree: Tree) -> tuple[Table, ...]:
    names = [name for name in tree.folder() if name.lower().endswith(SUFFIXES) and tree.exists(name)]
    small = [name for name in names if tree.size(name) <= LIST_BYTES]
    return tuple(table for name in small if (table := _suitable(tree, name)) is not None)


def _suitable(tree: Tree, name: str) -> Table | None:
    try:
        table = read_table(tree, name)
    except DatasetError:
        if name in USUAL:
            raise
        return None  # text of another kind: a licence, say
    fits = set(table.columns) & set(FILE_WORDS) and set(table.columns) & set(LABEL_WORDS)
    return table if fits else None


def _only(tree: Tree, lists: Sequence[Table]) -> Table:
    if not lists:
        raise DatasetError(
            f"{tree.root} holds no list of recordings: no {', '.join(USUAL)} or other CSV with a header that names "
            "the columns filename and label.",
            todo="Write one, with a line for each recording and paths relative to the folder.",
        )
    if len(lists) > 1:
        raise DatasetError(
            f"{tree.root} holds {len(lists)} lists of recordings: {', '.join(table.path for table in lists)}.",
            todo="Leave the one that is meant in the folder and move the others out of it.",
        )
    return lists[0]


def _refuse_folds(tree: Tree, table: Table, listed: Sequence[Listed]) -> None:
    """Refuse a fold for nearly every clip: each fold lists all clips, so there would be clips times clips of them."""
    folds = len({entry.fold for entry in listed})
    if folds * len(listed) > FOLD_ENTRIES:
        raise DatasetError(
            f"{table.path} in {tree.root} puts its {len(listed)} recordings into {folds} folds.",
            todo=f"Leave the fold column out, or use fewer: at most {FOLD_ENTRIES // len(listed)} for so many clips.",
        )


def _prefix(tree: Tree, table: Table) -> str:
    """``audio/`` where most of the first listed files are there and not where the list says."""
    paths = [posix(row.get(*FILE_WORDS)) for row in table.rows[:50]]
    inside = sum(tree.exists(f"audio/{path}") for path in paths)
    return "audio/" if inside > sum(tree.exists(path) for path in paths) else ""


def _listed(row: Row, prefix: str) -> Listed:
    path, label = row.get(*FILE_WORDS), row.get(*LABEL_WORDS)
    name = described(path, label)
    device = row.get(*DEVICE_WORDS) or name.device
    location = row.get(*LOCATION_WORDS) or name.location
    return Listed(
        path=prefix + path if path else "",
        where=row.where,
        label=label,
        device=device,
        city=row.get("city") or name.city,
        location=location,
        segment=row.get("segment") or name.segment or parallel_name(path, device),
        fold=row.get(*FOLD_WORDS),
    )


def described(path: str, label: str) -> TauName:
    """What a file name in the TAU form says, where its first field is the label: other names may have dashes too."""
    name = tau_name(path)
    return name if name and name.scene == label else TauName("", "", "", "", "")


def parallel_name(path: str, device: str) -> str:
    """A path without its ending and device, which is what parallel recordings share; empty where it has no device.

    Examples
    --------
    >>> parallel_name("bus/001_b.wav", "b"), parallel_name("bus/001.wav", "b")
    ('bus/001', '')
    """
    name = PurePosixPath(posix(path)).with_suffix("").as_posix() if path else ""
    ending = next((f"{mark}{device}" for mark in "-_." if device and name.endswith(f"{mark}{device}")), "")
    return name.removesuffix(ending) if ending else ""
