"""FSDKaggle2019: sounds with several of 80 tags, some labelled by listeners and many by their titles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from ascfeat.datasets.folds import made_folds
from ascfeat.datasets.listing import Listed, assemble, clips_of, posix
from ascfeat.datasets.protocol import LAYOUT
from ascfeat.datasets.tables import Row, Table, read_table
from ascfeat.datasets.tree import Tree
from ascschemas.dataset import Clip, Manifest, Split, tags_of
from ascschemas.problems import DatasetError, Difference

META: Final = "FSDKaggle2019.meta/"
PARTS: Final = {"curated": "train_curated", "noisy": "train_noisy", "test": "test"}
"""What a clip's ``device`` says of its labels, and how the dataset calls that part."""
WRONG: Final = frozenset(
    f"{name}.wav" for name in ("f76181c4", "77b925c2", "6a1f682a", "c7db12aa", "7752cc8a", "1d44b0bd")
)
"""Curated recordings that got another one's label, and one without a signal, as the dataset's own README says."""


@dataclass(frozen=True)
class Part:
    """One of the three parts: its list, and the folder of its recordings."""

    name: str
    table: Table
    folder: str

    def listed(self, row: Row) -> Listed:
        """A recording of this part; its tags are its label, separated by commas."""
        file = row.get("fname")
        path = f"{self.folder}/{file}" if file else ""
        return Listed(path=path, where=row.where, label=",".join(tags_of(row.get("labels"))), device=self.name)


class FsdKaggle2019:
    """Loader of FSDKaggle2019 as Zenodo and as Kaggle lay it out.

    A clip's label is its tags, separated by commas; its device is ``curated``, ``noisy`` or ``test``, which says where
    its labels come from.

    References
    ----------
    Fonseca, Plakal, Font, Ellis, Serra, *Audio tagging with noisy labels and minimal supervision*, DCASE 2019.
    """

    kind: ClassVar[str] = "fsdkaggle2019"
    rank: ClassVar[int] = LAYOUT
    looks_for: ClassVar[str] = f"{META}train_curated_post_competition.csv, or train_curated.csv, with fname and labels"

    def recognises(self, tree: Tree) -> bool:
        """Whether the list of curated clips is there, with the columns fname and labels."""
        listed = _list(tree, "curated")
        return bool(listed) and {"fname", "labels"} <= set(read_table(tree, listed).columns)

    def manifest(self, tree: Tree) -> Manifest:
        """Clips; ``fold1`` to ``fold5`` of the curated ones, and ``official`` where the test side has labels."""
        parts = tuple(_parts(tree))
        if not any(part.name == "curated" for part in parts):
            raise DatasetError(
                f"{tree.root} is not FSDKaggle2019: it holds no list of curated clips, or no folder of them.",
                todo=f"Unpack {META[:-1]} and FSDKaggle2019.audio_train_curated side by side.",
            )
        clips, problems = clips_of([part.listed(row) for part in parts for row in part.table.rows])
        problems = (*problems, *(row for part in parts for row in (*part.table.problems, *_untagged(part))))
        return assemble(
            tree,
            self.kind,
            clips=clips,
            splits=() if problems else _splits(clips),
            notes=tuple(_notes(tree, parts, clips)),
            problems=problems,
        )


def _list(tree: Tree, part: str) -> str:
    """The list of a part; empty where there is none."""
    name = PARTS[part]
    asked = (f"{META}{name}_post_competition.csv", f"{name}_post_competition.csv", f"{name}.csv")
    return next((path for path in asked if tree.exists(path)), "")


def _folder(tree: Tree, part: str) -> str:
    """The folder of a part's recordings; empty where there is none."""
    return next((f for f in (f"FSDKaggle2019.audio_{PARTS[part]}", PARTS[part]) if tree.folder(f)), "")


def _parts(tree: Tree) -> Iterator[Part]:
    for part in PARTS:
        listed, folder = _list(tree, part), _folder(tree, part)
        table = read_table(tree, listed) if listed and folder else None
        if table and {"fname", "labels"} <= set(table.columns):
            yield Part(part, table, folder)


def _untagged(part: Part) -> Iterator[Difference]:
    for row in part.table.rows:
        if not tags_of(row.get("labels")):
            yield Difference(field=row.where, expected="at least one tag", found="none")


def _splits(clips: Sequence[Clip]) -> tuple[Split, ...]:
    """The official sides, and fifths of the curated clips, beside which all noisy clips train (akiyama2019)."""
    right = [c for c in clips if not (c.device == "curated" and posix(c.id).rpartition("/")[2] in WRONG)]
    of = {part: tuple(c.id for c in right if c.device == part) for part in PARTS}
    official = (Split(name="official", train=of["curated"] + of["noisy"], test=of["test"]),) if of["test"] else ()
    # each clip counts for its first tag: 80 of them are balanced, hundreds of combinations cannot be
    curated = [c.model_copy(update={"label": tags_of(c.label)[0]}) for c in right if c.device == "curated"]
    folds = (fold.model_copy(update={"train": fold.train + of["noisy"]}) for fold in made_folds(curated))
    return (*folds, *official)


def _notes(tree: Tree, parts: Sequence[Part], clips: Sequence[Clip]) -> Iterator[str]:
    there = {part.name for part in parts}
    for part in PARTS.keys() - there:
        why = "its list has no labels, or there is no folder of it" if _list(tree, part) else "there is no list of it"
        yield f"The {part} part is left out: {why}."
    wrong = sum(c.device == "curated" and c.id.rpartition("/")[2] in WRONG for c in clips)
    if wrong:
        yield f"{wrong} curated clips whose labels or sound are known to be wrong are on no side of any split."
