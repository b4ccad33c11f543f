"""Tag tables: rows find their clips, and what does not fit is named."""

import numpy as np
import pytest

from ascfeat.tags import tag_table
from ascfeat.tags.table import from_csv, from_npy
from ascschemas.problems import AudioError, TagsError

CLIPS = [f"audio/{i:02}.wav" for i in range(10)]


def rows(table, clips=CLIPS):
    return np.stack([table.row(c, np.zeros((1, 1), "f"), 8000) for c in clips])


def test_a_csv_a_matrix_and_its_order_are_one_table(csv, values) -> None:
    """Bare names in another order are the same tags as whole ids in the dataset's."""
    table = from_csv(csv(), CLIPS)
    np.testing.assert_array_equal(rows(table), values)
    assert table.names == ("Speech", "Music", "2.5")
    assert table.digest == tag_table(values, table.names, CLIPS).digest
    assert table.digest == tag_table(values[::-1].astype(float), table.names, CLIPS[::-1]).digest


@pytest.mark.parametrize("change", [
    lambda v, n, c: (v + np.float32(1e-3), n, c),
    lambda v, n, c: (v, ("Speech", "Music", "Other"), c),
    lambda v, n, c: (v[:9], n, c[:9]),
    lambda v, n, c: (v, n, [*c[:9], "other.wav"]),
    lambda v, n, c: (v[:, [1, 0, 2]], n, c),
])  # fmt: skip
def test_another_value_name_or_clip_is_another_digest(values, change) -> None:
    names = ("Speech", "Music", "2.5")
    assert tag_table(*change(values, names, CLIPS)).digest != tag_table(values, names, CLIPS).digest


@pytest.mark.parametrize(("header", "separator"), [
    ("clip,a,b", ","), ("\ufeffFile Name;a;b", ";"), ("filename\ta\tb", "\t"),
])  # fmt: skip
def test_separators_and_words_that_spreadsheets_write(csv, header: str, separator: str) -> None:
    path = csv(header, "", separator.join(["01.wav", "1", " 2e-1"]), separator.join(["audio/00.wav", "-3", "4"]))
    table = from_csv(path, CLIPS)
    np.testing.assert_array_equal(rows(table, CLIPS[:2]), np.float32([[-3, 4], [1, 0.2]]))
    with pytest.raises(AudioError) as caught:
        table.row("audio/02.wav", np.zeros((1, 1), "f"), 8000)
    assert caught.value.reason == "no-tags"


@pytest.mark.parametrize(("lines", "words"), [
    (["clip,a", "00.wav,1", "audio/00.wav,2"], r"line 3 .*one row a clip .*a second row of audio/00\.wav"),
    (["clip,a", "00.wav,loud"], r"line 2 .*a number for a .*'loud'"),
    (["clip,a,b", "00.wav,1,"], r"line 2 .*a number for b .*''"),
    (["clip,a", "0.wav,1"], r"line 2 .*a clip of the dataset .*'0\.wav', which none is"),
    (["clip,a", "00.wav,1,2"], r"line 2 .*2 cells .*3 cells"),
    (["clip,a", "00.wav"], r"line 2 .*2 cells .*1 cells"),
    (["00.wav,1", "01.wav,2"], r"no header"),
    (["clip,a,a", "00.wav,1,2"], r"a twice"),
    (["clip,a,", "00.wav,1,2"], r"an empty name"),
    (["clip", "00.wav"], r"no tags"),
    (["clip,a"], r"no rows"),
    ([""], r"is empty"),
    (["clip,a", '"00.wav,1'], r"cannot be read as CSV"),
])  # fmt: skip
def test_what_does_not_fit_is_named(csv, lines: list[str], words: str) -> None:
    with pytest.raises(TagsError, match=rf"(?s){words}"):
        from_csv(csv(*lines), CLIPS)


def test_every_wrong_row_counts_and_the_first_are_listed(csv) -> None:
    with pytest.raises(TagsError, match="17 rows cannot be used") as caught:
        from_csv(csv("clip,a", *(f"none{i}.wav,1" for i in range(17))), CLIPS)
    assert len(caught.value.differences) == 10


def test_a_name_that_two_clips_end_with_is_nobodys(csv) -> None:
    clips = ["a/1.wav", "b/1.wav", "b/11.wav", "1.wav"]
    assert rows(from_csv(csv("clip,x", "a/1.wav,1", "1.wav,2", "11.wav,3"), clips), clips[:1]) == [[1]]
    with pytest.raises(TagsError, match=r"'1\.wav', which 2 clips end with"):
        from_csv(csv("clip,x", "1.wav,1"), clips[:3])


def test_an_npy_file_has_the_order_of_the_dataset(tmp_path, values) -> None:
    np.save(tmp_path / "t.npy", values.astype(np.float64))
    table = from_npy(tmp_path / "t.npy", CLIPS)
    assert table.names == ("0", "1", "2")
    np.testing.assert_array_equal(rows(table), values)


@pytest.mark.parametrize(("saved", "words"), [
    (np.zeros((9, 3)), r"expected \(10, tags\) .*found float64 \(9, 3\)"),
    (np.zeros(10), r"found float64 \(10,\)"),
    (np.zeros((10, 0)), "no tags"),
    (np.full((10, 2), "x"), r"numbers \(10, 2\)"),
])  # fmt: skip
def test_an_npy_file_of_another_shape_is_refused_with_both(tmp_path, saved: np.ndarray, words: str) -> None:
    np.save(tmp_path / "t.npy", saved)
    with pytest.raises(TagsError, match=words):
        from_npy(tmp_path / "t.npy", CLIPS)


@pytest.mark.parametrize("data", [b"", b"not numpy at all", b"\x93NUMPY\x01\x00"])
def test_no_npy_file_at_all(tmp_path, data: bytes) -> None:
    (tmp_path / "t.npy").write_bytes(data)
    with pytest.raises(TagsError, match=r"cannot be read as \.npy"):
        from_npy(tmp_path / "t.npy", CLIPS)


def test_pickles_are_not_opened(tmp_path) -> None:
    np.save(tmp_path / "t.npy", np.array([[print]] * 10), allow_pickle=True)
    with pytest.raises(TagsError, match="pickle"):
        from_npy(tmp_path / "t.npy", CLIPS)


def test_a_matrix_must_fit_its_names_and_clips(values) -> None:
    with pytest.raises(TagsError, match=r"numbers \(10, 2\) .*found float32 \(10, 3\)"):
        tag_table(values, ("a", "b"), CLIPS)
    with pytest.raises(TagsError, match="two rows"):
        tag_table(values, ("a", "b", "c"), [*CLIPS[:9], CLIPS[0]])
