"""A fold column to splits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from ascfeat.datasets.listing import Listed, posix
from ascschemas.dataset import Split

SIDE_WORDS: Final = {"train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test"}
"""Fold values that name a side; values such as ``val`` or ``unused`` are on neither."""


def column_splits(listed: Sequence[Listed], origin: str = "official") -> tuple[Split, ...]:
    """Splits of a fold column: fold numbers make ``fold<k>`` with test = fold k, words make ``fold1`` of their sides.

    Clips without a value are in no split. One fold alone makes none: nothing would be left to train on.

    Parameters
    ----------
    listed : sequence of Listed
        The clips, with their fold.
    origin : str
        Who made the folds.
    """
    entries = [(posix(entry.path), _value(entry.fold)) for entry in listed if entry.fold]
    if {SIDE_WORDS.get(value) for _, value in entries} >= {"train", "test"}:
        return (Split(name="fold1", train=_on(entries, "train"), test=_on(entries, "test"), origin=origin),)
    folds = [(path, _name(value)) for path, value in entries]
    names = sorted({name for _, name in folds}, key=_natural)
    if len(names) < 2:
        return ()
    return tuple(
        Split(
            name=name,
            train=tuple(path for path, fold in folds if fold != name),
            test=tuple(path for path, fold in folds if fold == name),
            origin=origin,
        )
        for name in names
    )


def _on(entries: Iterable[tuple[str, str]], side: str) -> tuple[str, ...]:
    return tuple(path for path, value in entries if SIDE_WORDS.get(value) == side)


def _value(text: str) -> str:
    """A fold's value as it was meant: ``1.0`` is what spreadsheets make of 1."""
    return re.sub(r"^(\d+)\.0+$", r"\1", text.strip().lower())


def _name(value: str) -> str:
    """``1`` and ``fold1`` are one fold; a value that had to change keeps digits of its SHA-256, to be no other's."""
    word = re.sub(r"\s+", "_", value if value.startswith("fold") else f"fold{value}")
    safe = re.sub(r"[^a-z0-9_.+-]+", "_", word)[:60]
    return safe if safe == word else f"{safe}-{hashlib.sha256(value.encode()).hexdigest()[:6]}"


def _natural(value: str) -> tuple[tuple[int, str], ...]:
    """Sort key by which ``fold2`` comes before ``fold10``."""
    return tuple((int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", value))
