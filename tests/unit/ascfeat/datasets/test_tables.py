"""Lists of recordings in every form that people write them."""

import pytest

from ascfeat.datasets.tables import read_table
from ascfeat.datasets.tree import Tree
from ascschemas.problems import DatasetError

NAMES = ("filename", "label")


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_line_ends_and_marks_do_not_matter(lay, separator, end, mark):
    text = mark + end.join(separator.join(row) for row in (NAMES, ("a b.wav", "bus"), ("", ""), ("é.wav", "tram")))
    table = read_table(Tree(lay({"l.csv": text})), "l.csv")
    assert table.columns == NAMES
    assert [dict(row.cells) for row in table.rows] == [
        {"filename": "a b.wav", "label": "bus"},
        {"filename": "é.wav", "label": "tram"},
    ]
    assert [row.where for row in table.rows] == ["l.csv line 2", "l.csv line 4"]


def test_without_header_the_given_columns_count(lay):
    table = read_table(Tree(lay({"l.txt": "audio/a.wav\tbus\naudio/b.wav\ttram\n"})), "l.txt", NAMES)
    assert [row.get("label") for row in table.rows] == ["bus", "tram"]


def test_header_is_read_in_any_case(lay):
    table = read_table(Tree(lay({"l.csv": "File Name,Scene Label\na.wav,bus\n"})), "l.csv")
    assert table.columns == ("file_name", "scene_label")
    assert table.rows[0].get("missing", "scene_label") == "bus"


def test_cells_too_many_are_a_problem_and_too_few_are_empty(lay):
    table = read_table(Tree(lay({"l.csv": "filename,label\na,b.wav,bus\nc.wav\nd.wav,bus,\n"})), "l.csv")
    assert [(p.field, p.expected, p.found) for p in table.problems] == [("l.csv line 2", "2 cells", "3 cells")]
    assert table.rows[1].get("label") == ""


def test_quoted_cells_may_hold_separators(lay):
    table = read_table(Tree(lay({"l.csv": 'filename,label\n"a, b.wav",bus\n'})), "l.csv")
    assert table.rows[0].get("filename") == "a, b.wav"


def test_open_quotation_mark_does_not_swallow_the_rest(lay):
    with pytest.raises(DatasetError, match=r"l\.csv in .* is not a list: line"):
        read_table(Tree(lay({"l.csv": 'filename,label\n"a.wav,bus\nb.wav,tram\n'})), "l.csv")


def test_empty_list_has_no_rows(lay):
    assert read_table(Tree(lay({"l.csv": "\n"})), "l.csv").rows == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("filename,label\n" + "a" * 70_000 + ",bus\n", "line 1: it has 70004 characters"),
        ("filename,label\n" + "," * 70_000, "it has 70000 characters"),
        ('filename,label\n"' + "a\n" * 200 + '",bus\n', "a quotation mark that opens there is not closed"),
        ('filename,label\n"' + "a\n" * 200, "a quotation mark that opens there is not closed"),
    ],
)
def test_lines_that_no_list_has_are_refused(lay, text, why):
    with pytest.raises(DatasetError, match=why):
        read_table(Tree(lay({"l.csv": text})), "l.csv")


def test_more_lines_than_any_list_has_are_refused_before_they_are_read(lay, monkeypatch):
    monkeypatch.setattr("ascfeat.datasets.tables.LINES", 10)
    tree = Tree(lay({"l.csv": "filename,label\n" + "a,b\n" * 8, "m.csv": "filename,label\n" + "a,b\n" * 9}))
    assert len(read_table(tree, "l.csv").rows) == 8
    with pytest.raises(DatasetError, match="there are more than 10 lines"):
        read_table(tree, "m.csv")


def test_ragged_lines_are_not_told_without_end(lay, monkeypatch):
    monkeypatch.setattr("ascfeat.datasets.tables.RAGGED", 3)
    table = read_table(Tree(lay({"l.csv": "filename,label\n" + "a,b,c\n" * 8})), "l.csv")
    assert len(table.problems) == 3
