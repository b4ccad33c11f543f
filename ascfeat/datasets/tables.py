"""Lists of recordings as text: tab, comma or semicolon, with or without a header, whatever line ends."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ascfeat.datasets.tree import Tree
from ascschemas.problems import DatasetError, Difference

FILE_WORDS: Final = ("filename", "file_name", "filepath", "file_path", "file", "path", "fname", "clip")
"""Column names that mean a recording's path; a first row that holds one of them is a header."""

DELIMITERS: Final = "\t;,"
"""Accepted separators; between equally frequent ones the first wins."""

LINES: Final = 4_000_000
"""Most lines of a list: twice AudioSet."""
LINE_LENGTH: Final = 1 << 16
"""Most characters of one line."""
RAGGED: Final = 10_000
"""Most lines with too many cells that are told."""
RECORD_LINES: Final = 100
"""Most lines that one entry takes with line ends inside quotation marks."""


@dataclass(frozen=True)
class Row:
    """One line of a list: its cells by column name, and where it stands."""

    where: str
    cells: Mapping[str, str]

    def get(self, *names: str) -> str:
        """The first cell of those columns that is there and not empty."""
        return next((self.cells[n] for n in names if self.cells.get(n)), "")


@dataclass(frozen=True)
class Table:
    """A list: its columns in lower case, its rows, and the lines that do not fit the columns."""

    path: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[Difference, ...]


def read_table(tree: Tree, path: str, columns: Sequence[str] = ()) -> Table:
    """Read a list.

    Parameters
    ----------
    tree : Tree
        The dataset's files.
    path : str
        The list's path.
    columns : sequence of str
        The columns of a list without a header, in order.

    Raises
    ------
    DatasetError
        When the file cannot be read as text.
    """
    lines = _lines(tree, path)
    first = tuple(cell.lower().replace(" ", "_") for cell in lines[0][1]) if lines else ()
    has_header = any(word in first for word in FILE_WORDS)
    names = first if has_header else tuple(columns)
    body = lines[1:] if has_header else lines
    rows = tuple(Row(f"{path} line {n}", dict(zip(names, cells, strict=False))) for n, cells in body)
    return Table(path, names, rows, _ragged(path, names, body))


def _ragged(path: str, names: Sequence[str], body: Sequence[tuple[int, list[str]]]) -> tuple[Difference, ...]:
    """Lines with more cells than columns: a separator inside a name would shift every cell after it."""
    ragged = ((n, len(cells)) for n, cells in body if len(cells) > len(names) and any(cells[len(names) :]))
    return tuple(
        Difference(field=f"{path} line {n}", expected=f"{len(names)} cells", found=f"{count} cells")
        for n, count in itertools.islice(ragged, RAGGED)
    )


def _lines(tree: Tree, path: str) -> list[tuple[int, list[str]]]:
    """Non-empty lines as (line number, stripped cells)."""
    text = tree.text(path)
    lines = _Lines(text)
    # strict: an open quotation mark must not swallow the lines after it
    reader = csv.reader(lines, delimiter=_delimiter(text), skipinitialspace=True, strict=True)
    rows = []
    try:
        for row in reader:
            lines.start = reader.line_num
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise DatasetError(
            f"{path} in {tree.root} is not a list: line {reader.line_num}: {error}.", todo="Save it as UTF-8 text."
        ) from error
    return rows


class _Lines:
    """The lines of a text, one after the other; stops with ``csv.Error`` where no list goes on so."""

    def __init__(self, text: str) -> None:
        self.text, self.start = text, 0

    def __iter__(self) -> Iterator[str]:
        """Line by line; ``start`` is the number of lines that whole entries have used up."""
        if self.text.count("\n") >= LINES:
            raise csv.Error(f"there are more than {LINES} lines")
        for number, line in enumerate(self.text.split("\n")):
            if len(line) > LINE_LENGTH:
                raise csv.Error(f"it has {len(line)} characters, and no entry has more than {LINE_LENGTH}")
            if number >= self.start + RECORD_LINES:
                raise csv.Error("a quotation mark that opens there is not closed")
            yield line


def _delimiter(text: str) -> str:
    first = re.search(r"^.*\S.*$", text, re.MULTILINE)
    return max(DELIMITERS, key=(first.group() if first else "").count)
