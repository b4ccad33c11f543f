"""The layout of the TUT and TAU urban acoustic scenes: meta.csv, evaluation_setup, audio/<scene>-<city>-….wav."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ascfeat.datasets.folds import made_folds
from ascfeat.datasets.listing import Listed, ListedSide, assemble, clips_of, posix, splits_of
from ascfeat.datasets.tables import Row, Table, read_table
from ascfeat.datasets.tree import Tree
from ascschemas.dataset import Clip, Manifest
from ascschemas.problems import DatasetError

META: Final = "meta.csv"
SETUP: Final = "evaluation_setup"
COLUMNS: Final = ("filename", "scene_label", "identifier", "source_label")
"""Columns of ``meta.csv``; the first ones are those of the lists in ``evaluation_setup``."""
LIST_NAME: Final = re.compile(r"(?:(?P<split>[A-Za-z0-9].*)_)?(?P<role>train|test|evaluate)\.(?:csv|txt)")
WITHHELD: Final = "evaluation"
"""Name of the split of a leaderboard or evaluation set, whose one list is called ``test``."""


@dataclass(frozen=True)
class TauName:
    """What a file name says: ``<scene>-<city>-<location>-<segment>-<device>``, or a sixth field before the device."""

    scene: str
    city: str
    location: str
    segment: str
    device: str


def tau_name(path: str) -> TauName | None:
    """The parts of a file name in the TAU form, or None.

    Examples
    --------
    >>> tau_name("audio/airport-lisbon-1000-40000-a.wav")
    TauName(scene='airport', city='lisbon', location='lisbon-1000', segment='airport-lisbon-1000-40000', device='a')
    >>> tau_name("audio/17.wav") is None
    True
    """
    file = path.rpartition("/")[2]
    stem = file.rpartition(".")[0] or file
    fields = stem.split("-")
    if len(fields) not in (5, 6) or not all(fields):
        return None
    return TauName(fields[0], fields[1], f"{fields[1]}-{fields[2]}", stem.rpartition("-")[0], fields[-1])


def has_layout(tree: Tree) -> bool:
    """Whether a folder has the layout: its meta.csv, its lists, or audio files that are mostly named this way."""
    if _setup_lists(tree):
        return True
    return _is_meta(read_table(tree, META, COLUMNS)) if tree.exists(META) else _named(tree)


def read_layout(tree: Tree, kind: str, *, removed: frozenset[str] = frozenset()) -> Manifest:
    """The manifest of a folder in this layout.

    Clips are those of ``meta.csv``; without it those of the lists; without them the files under ``audio/``. What a
    list does not say is taken from the file name. ``fold1_evaluate`` is the test side; without it ``fold1_test`` is.

    Parameters
    ----------
    tree : Tree
        The dataset's files.
    kind : str
        Name of the loader.
    removed : frozenset of str
        Clips that a later version of the set removed, which lists may still name.

    Raises
    ------
    DatasetError
        When there is nothing of the layout, or a list cannot be meant.
    """
    if not has_layout(tree):
        raise DatasetError(
            f"{tree.root} is not laid out as {kind}: no {META} with scene_label, no lists in {SETUP}/, and no "
            "recordings in audio/ that are named <scene>-<city>-<location>-<segment>-<device>.",
            todo="Unpack the dataset's archives there, or put the zip archives themselves there.",
        )
    meta = read_table(tree, META, COLUMNS) if tree.exists(META) else None
    lists = {key: read_table(tree, path, COLUMNS) for key, path in _setup_lists(tree).items()}
    listed, source = _listed(tree, meta, tuple(lists.values()))
    clips, problems = clips_of(listed)
    missing = removed - {clip.id for clip in clips}
    splits, strangers, repeated = splits_of(tuple(_sides(lists, missing)), clips)
    tables = [t for t in (meta, *lists.values()) if t is not None]
    notes = (*source, *_assumed(listed), *repeated, *_lists_notes(lists, clips, missing))
    made = () if splits else made_folds(clips)
    return assemble(
        tree,
        kind,
        clips=clips,
        splits=splits or made,
        notes=notes,
        problems=(*(p for t in tables for p in t.problems), *problems, *strangers),
    )


def meta_rows(tree: Tree, lengths: Container[int]) -> tuple[Listed, ...]:
    """What ``meta.csv`` lists, completed from the file names; empty where it has another length than those given."""
    rows = read_table(tree, META, COLUMNS).rows if tree.exists(META) else ()
    return tuple(map(_completed, rows)) if len(rows) in lengths else ()


def lists_are_text(tree: Tree) -> bool:
    """Whether the lists are ``.txt``, as in 2018, and not ``.csv``."""
    return any(path.endswith(".txt") for path in _setup_lists(tree).values())


def _setup_lists(tree: Tree) -> dict[tuple[str, str], str]:
    """Paths of the lists by (split, role)."""
    found = {}
    for name in tree.folder(SETUP):
        if match := LIST_NAME.fullmatch(name):
            found[(match["split"] or "", match["role"])] = f"{SETUP}/{name}"
    return found


def _is_meta(meta: Table) -> bool:
    """Whether a list has scene labels, or no labels and names that hold them."""
    words = set(meta.columns)
    unlabelled = "filename" in words and not words & {"label", "class", "category", "scene"}
    return "scene_label" in words or (unlabelled and any(tau_name(row.get("filename")) for row in meta.rows[:1]))


def _named(tree: Tree) -> bool:
    audio = [path for path in tree.files() if path.startswith("audio/")]
    return sum(tau_name(path) is not None for path in audio) > len(audio) / 2


def _listed(tree: Tree, meta: Table | None, lists: Sequence[Table]) -> tuple[tuple[Listed, ...], tuple[str, ...]]:
    """What is listed, and a note where it is not ``meta.csv`` that lists it."""
    if meta is not None:
        return tuple(map(_completed, meta.rows)), ()
    if lists:
        note = f"There is no {META}; the clips are those that {SETUP} lists."
        return tuple(_completed(row) for row in _merged(lists)), (note,)
    audio = [path for path in tree.files() if path.startswith("audio/")]
    note = f"There is no {META} and no {SETUP}; the clips are the files in audio/, described by their names."
    return tuple(_completed(Row(path, {"filename": path})) for path in audio), (note,)


def _merged(lists: Sequence[Table]) -> Iterator[Row]:
    """One row for each file of several lists, from the list that says most of it."""
    best: dict[str, Row] = {}
    for row in (row for table in lists for row in table.rows):
        path = posix(row.get("filename"))
        if path not in best or sum(map(bool, row.cells.values())) > sum(map(bool, best[path].cells.values())):
            best[path] = row
    return iter(best.values())


def _completed(row: Row) -> Listed:
    path = row.get("filename", "file", "path")
    name = tau_name(path) or TauName("", "", "", "", "")
    location = row.get("identifier") or name.location
    return Listed(
        path=path,
        where=row.where,
        label=row.get("scene_label") or name.scene,
        device=row.get("source_label") or name.device,
        city=name.city or location.partition("-")[0],
        location=location,
        segment=name.segment,
    )


def _sides(lists: dict[tuple[str, str], Table], missing: frozenset[str]) -> Iterator[ListedSide]:
    for (split, role), table in lists.items():
        if role == "test" and (split, "evaluate") in lists:
            continue
        entries = ((row.get("filename", "file", "path"), row.where) for row in table.rows)
        kept = tuple((path, where) for path, where in entries if posix(path) not in missing)
        yield ListedSide(split or WITHHELD, "train" if role == "train" else "test", kept)


def _assumed(listed: Sequence[Listed]) -> Iterator[str]:
    bare = [entry.path for entry in listed if not entry.label]
    if bare:
        yield f"{len(bare)} of {len(listed)} clips have no label, first {bare[0]}."


def _lists_notes(lists: dict[tuple[str, str], Table], clips: Sequence[Clip], missing: frozenset[str]) -> Iterator[str]:
    labels = {clip.id: clip.label for clip in clips}
    for (split, role), table in lists.items():
        rows = [(posix(row.get("filename")), row.get("scene_label")) for row in table.rows]
        other = [path for path, label in rows if label and label != labels.get(path, label)]
        if other:
            yield f"{table.path} gives {len(other)} clips another label than {META}, which counts; first {other[0]}."
        gone = [path for path, _ in rows if path in missing]
        if gone:
            yield f"{table.path} lists {len(gone)} clips that this version of the set no longer has."
        if role == "test" and (split, "evaluate") in lists:
            yield from _disagreement(table, lists[split, "evaluate"])


def _disagreement(test: Table, evaluate: Table) -> Iterable[str]:
    first, second = ({posix(row.get("filename")) for row in table.rows} for table in (test, evaluate))
    if first != second:
        yield f"{test.path} and {evaluate.path} differ in {len(first ^ second)} clips; the latter counts."
