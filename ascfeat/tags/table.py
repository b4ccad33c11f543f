"""Tag tables: a matrix, a CSV or an .npy file, its rows matched to the clips of a dataset."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ascfeat.datasets.tables import DELIMITERS, FILE_WORDS
from ascfeat.tags.source import Values, refuse_names
from ascschemas.base import canonical_json
from ascschemas.problems import AudioError, Difference, TagsError

SHOWN: Final = 10
"""Problems of a file that are listed; the rest is counted."""


@dataclass(frozen=True)
class TagTable:
    """Tags that are known already, one row a clip; make one with ``tag_table``."""

    names: tuple[str, ...]
    digest: str
    rows: Mapping[str, Values] = field(repr=False)

    def row(self, clip: str, waveform: Values, sample_rate: int) -> Values:
        """The row of a clip.

        Raises
        ------
        AudioError
            With reason ``no-tags`` where there is none.
        """
        if clip not in self.rows:
            raise AudioError("no-tags", f"{clip} has no row in the tags.", todo="Add a row for it.")
        return self.rows[clip]


def tag_table(values: npt.ArrayLike, names: Sequence[str], clips: Sequence[str]) -> TagTable:
    """Tags from a matrix.

    Parameters
    ----------
    values : array, shape ``(clips, C)``
        Any real numbers; kept as float32.
    names : sequence of str
        One a tag.
    clips : sequence of str
        Clip id of each row; the digest does not depend on their order.

    Raises
    ------
    TagsError
        When the shapes do not agree, values are no numbers, or a name or clip stands twice.
    """
    matrix, shape = np.asarray(values), (len(clips), len(names))
    if matrix.dtype.kind not in "fiub" or matrix.shape != shape:
        raise TagsError(
            "These tags are not one number a clip and tag.",
            differences=[Difference(field="values", expected=f"numbers {shape}", found=_kind(matrix))],
            todo="Give a matrix with one row a clip and one column a tag.",
        )
    refuse_names(names, "This matrix")
    if len({*clips}) < len(clips):
        twice = Difference(field="clips", expected="one row a clip", found=f"{len(clips) - len({*clips})} rows more")
        raise TagsError("Some clips have two rows of tags.", differences=[twice], todo="Keep one row of each.")
    order = sorted(range(len(clips)), key=clips.__getitem__)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite; such clips are excluded
        kept = matrix[order].astype("<f4")
    ids = [clips[i] for i in order]
    head = canonical_json({"names": list(names), "clips": ids}).encode()
    digest = hashlib.sha256(head + kept.tobytes()).hexdigest()
    return TagTable(tuple(names), digest, dict(zip(ids, kept, strict=True)))


def from_npy(path: Path, clips: Sequence[str]) -> TagTable:
    """Tags from an ``.npy`` file whose rows are in the order of the dataset's clips; they are named ``0``, ``1``, ….

    Raises
    ------
    TagsError
        When it is no matrix of numbers, or has another number of rows than the dataset has clips.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TagsError(f"{path} cannot be read as .npy: {error}", todo="Write it with numpy.save.") from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or len(values) != len(clips):
        raise TagsError(
            f"{path} does not hold one row a clip of the dataset.",
            differences=[Difference(field="shape", expected=f"({len(clips)}, tags)", found=_kind(np.asarray(values)))],
            todo="Save one row a clip, in the order of the dataset's clips, or give a CSV file that names them.",
        )
    return tag_table(values, [str(i) for i in range(values.shape[1])], clips)


def from_csv(path: Path, clips: Sequence[str]) -> TagTable:
    """Tags from a CSV file: a header, then a clip and its numbers a row; clips without a row stay without tags.

    A clip is named by its id, or by the last parts of its path where no other clip ends with them.

    Raises
    ------
    TagsError
        When there is no header, a cell is no number, a row names no clip of the dataset, several, or one that had a
        row already; the first of these are listed.
    """
    header, *body = _cells(path)
    if header[1][0].lower().replace(" ", "_") not in FILE_WORDS:
        found = Difference(field="first column", expected=" or ".join(FILE_WORDS), found=header[1][0])
        raise TagsError(f"{path} has no header.", differences=[found], todo="Begin with a line: clip,first tag,….")
    names, endings = header[1][1:], _endings(clips)
    rows: dict[str, list[float]] = {}
    problems: list[Difference] = []
    for line, cells in body:
        clip, numbers, wrong = _row(cells, names, endings)
        if clip in rows:
            wrong = ("one row a clip", f"a second row of {clip}")
        if wrong:
            problems.append(Difference(field=f"line {line}", expected=wrong[0], found=wrong[1]))
        else:
            rows[clip] = numbers
    _refuse(path, problems, rows)
    return tag_table(np.array([*rows.values()], dtype=np.float64), names, [*rows])


def _row(
    cells: list[str], names: list[str], endings: Mapping[str, list[str]]
) -> tuple[str, list[float], tuple[str, str] | None]:
    """The clip of a row, its numbers, and what was expected and found where it cannot be used."""
    found = endings.get(cells[0], [])
    if len(found) != 1:
        several = f"{cells[0]!r}, which {len(found)} clips end with" if found else f"{cells[0]!r}, which none is"
        return "", [], ("a clip of the dataset", several)
    if len(cells) != len(names) + 1:
        return "", [], (f"{len(names) + 1} cells", f"{len(cells)} cells")
    try:
        return found[0], [float(cell) for cell in cells[1:]], None
    except ValueError:
        name, cell = next((n, c) for n, c in zip(names, cells[1:], strict=True) if not _is_number(c))
        return "", [], (f"a number for {name}", repr(cell))


def _refuse(path: Path, problems: Sequence[Difference], rows: Mapping[str, list[float]]) -> None:
    if problems:
        raise TagsError(
            f"{path}: {len(problems)} rows cannot be used" + (f", the first {SHOWN} are" if problems[SHOWN:] else "."),
            differences=problems[:SHOWN],
            todo="Correct these rows; clips may be left out, they are then stored without values.",
        )
    if not rows:
        raise TagsError(f"{path} holds a header and no rows.", todo="Give one row a clip.")


def _endings(clips: Sequence[str]) -> Mapping[str, list[str]]:
    """The clips that each whole id, or each last parts of an id's path, may mean."""
    endings: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        parts = clip.split("/")
        for start in range(1, len(parts)):
            endings["/".join(parts[start:])].append(clip)
    return {**endings, **{clip: [clip] for clip in clips}}


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    """Non-empty lines as (line number, stripped cells), at least one."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = max(DELIMITERS, key=text.split("\n", 1)[0].count)
        reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TagsError(f"{path} cannot be read as CSV: {error}", todo="Save it as UTF-8 text.") from error
    filled = [(n, cells) for n, cells in lines if any(cells)]
    if not filled:
        raise TagsError(f"{path} is empty.", todo="Give a header and one row a clip.")
    return filled


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _kind(values: npt.NDArray[np.generic]) -> str:
    return f"{values.dtype} {values.shape}"
