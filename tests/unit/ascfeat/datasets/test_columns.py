"""A fold column becomes splits: numbers, spreadsheet numbers, names, and words for sides."""

import pytest

from ascfeat.datasets.columns import column_splits
from ascfeat.datasets.listing import Listed


def listed(*folds):
    return [Listed(f"{n}.wav", "", fold=fold) for n, fold in enumerate(folds)]


def test_numbers_make_one_split_each_with_that_fold_as_test():
    splits = column_splits(listed("1", "2", "10", "2", ""))
    assert [(s.name, s.test) for s in splits] == [
        ("fold1", ("0.wav",)),
        ("fold2", ("1.wav", "3.wav")),
        ("fold10", ("2.wav",)),
    ]
    assert splits[0].train == ("1.wav", "2.wav", "3.wav")


@pytest.mark.parametrize(("fold", "name"), [("1.0", "fold1"), ("fold3", "fold3"), ("Fold 3", "fold_3"), ("a", "folda")])
def test_values_are_named_as_they_are_meant(fold, name):
    assert name in {s.name for s in column_splits(listed(fold, "9"))}


def test_words_make_one_split_of_their_sides():
    (split,) = column_splits(listed("Train", "test", "val", "train"), origin="us")
    assert (split.name, split.train, split.test, split.origin) == ("fold1", ("0.wav", "3.wav"), ("1.wav",), "us")


def test_one_fold_alone_makes_no_split():
    assert column_splits(listed("1", "1")) == ()
    assert column_splits(listed("", "")) == ()
