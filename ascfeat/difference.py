"""What differs between two stores: header, clips, labels, splits, exclusions and, where digests do, values."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ascfeat.changes import properties
from ascfeat.store import Store
from ascfeat.store.table import PROPERTIES
from ascfeat.work import ordered
from ascschemas.problems import Difference, differences
from ascschemas.store import ClipRecord, StoreHeader

FOLDED = {"manifest", "table", "recipe_fingerprint", "clips", "classes", "splits"}
"""Header fields that other parts of the answer explain, clip by clip or parameter by parameter."""
WORST = 5
"""Clips named whose values are furthest apart."""


class Apart(NamedTuple):
    """How far the values of one clip are apart."""

    max: float
    """Of the absolute differences; NaN where only one store has a finite value."""
    mean: float
    clip: str


@dataclass(frozen=True)
class Comparison:
    """Two stores, held against each other."""

    header: tuple[Difference, ...]
    """Fields of recipe, layout, encoding, audio format, backend and software; ``expected`` is the first store's."""
    only_first: tuple[str, ...]
    """Clips that the second store lacks."""
    only_second: tuple[str, ...]
    """Clips that the first store lacks."""
    facts: tuple[Difference, ...]
    """Labels, devices, places and sides of splits of clips of both."""
    excluded: tuple[Difference, ...]
    """Clips that one store holds values of and the other excludes, or both exclude for other reasons."""
    recordings: tuple[str, ...]
    """Clips of both that were made from recordings of other content."""
    equal: int
    """Clips whose values are equal, most by their digests alone."""
    apart: int
    """Clips whose values are not."""
    worst: tuple[Apart, ...]
    """Those furthest apart, worst first."""
    max: float
    """The largest difference of all."""
    mean: float
    """The mean difference over the clips that differ."""
    unlike: str
    """Why values cannot be compared; empty where they can."""

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        told = (self.header, self.only_first, self.only_second, self.facts, self.excluded, self.recordings)
        return not any(told) and not self.apart and not self.unlike


def compare(
    first: Store, second: Store, *, threads: int = 1, progress: Callable[[int], None] = lambda done: None
) -> Comparison:
    """Hold two stores against each other; values are read only of clips whose digests differ.

    Parameters
    ----------
    threads : int
        Clips read at once.
    progress : callable
        Given the number of clips whose values were read.
    """
    at = {clip: i for i, clip in enumerate(second.ids)}
    both = [(clip, i, at[clip]) for i, clip in enumerate(first.ids) if clip in at]
    known = [_records(store) for store in (first, second)]
    records = [(clip, known[0][i], known[1][j]) for clip, i, j in both]
    unlike = _unlike(first, second)
    doubtful = [
        (c, i, j) for (c, i, j), (_, a, b) in zip(both, records, strict=True) if not _alike(a, b, first, second)
    ]
    readable = [] if unlike else [(c, i, j) for c, i, j in doubtful if known[0][i].values and known[1][j].values]
    found = [a for a in _values(first, second, readable, threads, progress) if a.max != 0]
    held = sum(a.values is not None and b.values is not None for _, a, b in records)
    finite = [a.mean for a in found if np.isfinite(a.mean)]
    return Comparison(
        header=_headers(first, second),
        only_first=tuple(c for c in first.ids if c not in at),
        only_second=tuple(c for c in second.ids if c not in {*first.ids}) if len(at) > len(both) else (),
        facts=(*_facts(first, second, both), *_order(both)),
        excluded=tuple(_excluded(records)),
        recordings=tuple(c for c, a, b in records if a.source != b.source),
        equal=0 if unlike else held - len(found),
        apart=len(found),
        worst=tuple(heapq.nlargest(WORST, found, key=lambda a: np.inf if np.isnan(a.max) else a.max)),
        max=max((a.max for a in found), key=lambda m: np.inf if np.isnan(m) else m, default=0.0),
        mean=float(np.mean(finite)) if finite else 0.0,
        unlike=unlike,
    )


def _headers(first: Store, second: Store) -> tuple[Difference, ...]:
    """Fields that differ; the first store's value stands as expected."""
    a, b = ({**_plain(s.header), "seal": _state(s)} for s in (first, second))
    return differences(a, b)


def _plain(header: StoreHeader) -> dict[str, Any]:
    """A header as JSON, of its correction what tells it from another."""
    held = header.model_dump(mode="json", exclude=FOLDED)
    if header.recipe.correction is not None:
        held["recipe"]["correction"] = header.recipe.correction.words()
    return held


def _state(store: Store) -> str:
    return "sealed" if store.seal else "not finished"


def _facts(first: Store, second: Store, both: Sequence[tuple[str, int, int]]) -> Iterator[Difference]:
    for name in PROPERTIES:
        a, b = (properties(store)[name] for store in (first, second))
        yield from _moved(name, [(c, a[i], b[j]) for c, i, j in both if a[i] != b[j]])
    yield from differences({"splits": list(first.header.splits)}, {"splits": list(second.header.splits)})
    for split in first.header.splits:
        if split in second.header.splits:
            a, b = (tuple(s.sides(split).tolist()) for s in (first, second))
            yield from _moved(f"side in {split}", [(c, a[i], b[j]) for c, i, j in both if a[i] != b[j]])


def _moved(name: str, apart: Sequence[tuple[str, str, str]]) -> Iterator[Difference]:
    """One line for all clips that differ in something: how many, and the first with both values."""
    for clip, a, b in apart[:1]:
        many = f"{len(apart)} clips, first {clip}" if len(apart) > 1 else clip
        yield Difference(field=f"{name} of {many}", expected=a or "none", found=b or "none")


def _order(both: Sequence[tuple[str, int, int]]) -> Iterator[Difference]:
    positions = [j for _, _, j in both]
    if positions != sorted(positions):
        yield Difference(field="order of the clips", expected="the first store's", found="another")


def _excluded(records: Sequence[tuple[str, ClipRecord, ClipRecord]]) -> Iterator[Difference]:
    for clip, a, b in records:
        if a.excluded != b.excluded:
            yield Difference(field=clip, expected=a.excluded or "values", found=b.excluded or "values")


def _records(store: Store) -> list[ClipRecord]:
    """What the ledger says of each clip; of a unit that is not done, nothing."""
    return [r or ClipRecord(excluded="not done") for r in store.records()]


def _alike(a: ClipRecord, b: ClipRecord, first: Store, second: Store) -> bool:
    """Whether digests say that values are equal, or that there are none to compare."""
    return a.values == b.values and (a.values is None or _numbers(first) == _numbers(second))


def _numbers(store: Store) -> tuple[object, ...]:
    how = store.header.encoding
    return how.dtype, how.scale, how.offset, how.missing


def _unlike(first: Store, second: Store) -> str:
    a, b = first.layout, second.layout
    if a.shape == b.shape:
        return ""
    shapes = (" x ".join(map(str, layout.shape)) for layout in (a, b))
    return "a clip is {} in the first and {} in the second".format(*shapes)


def _values(
    first: Store,
    second: Store,
    clips: Sequence[tuple[str, int, int]],
    threads: int,
    progress: Callable[[int], None],
) -> Iterator[Apart]:
    def one(clip: tuple[str, int, int]) -> Apart:
        name, i, j = clip
        off = np.abs(first.read([i])[0].astype(np.float64) - second.read([j])[0])
        return Apart(float(off.max()), float(off.mean()), name)

    for done, found in enumerate(ordered(one, clips, threads=threads), start=1):
        progress(done)
        yield found
