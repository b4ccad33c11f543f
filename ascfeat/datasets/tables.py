"""Lists of recordings as text: tab, comma or semicolon, with or without a header, whatever line ends."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ascfeat.datasets.tree import Tree
from ascschemas.problems import DatasetError, Difference

FILE_WORDS: Final = ("filename", "file_name", "filepath", "file_path", "file", "path", "fname", "clip")
"""Column names that mean a recording's path; a first row that holds one of them is a header."""

DELIMITERS: Final = "\t;,"
"""Accepted separators; between equally frequent ones the first wins."""


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
    return tuple(
        Difference(field=f"{path} line {n}", expected=f"{len(names)} cells", found=f"{len(cells)} cells")
        for n, cells in body
        if len(cells) > len(names) and any(cells[len(names) :])
    )


def _lines(tree: Tree, path: str) -> list[tuple[int, list[str]]]:
    """Non-empty lines as (line number, stripped cells)."""
    text = tree.text(path)
    # strict: an open quotation mark must not swallow the lines after it
    reader = csv.reader(text.split("\n"), delimiter=_delimiter(text), skipinitialspace=True, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise DatasetError(
            f"{path} in {tree.root} is not a list: line {reader.line_num}: {error}.", todo="Save it as UTF-8 text."
        ) from error
    return [(n, cells) for n, cells in rows if any(cells)]


def _delimiter(text: str) -> str:
    first = next((line for line in text.split("\n") if line.strip()), "")
    return max(DELIMITERS, key=first.count)
