"""Which clips are computed together: stretches of the list that hold whole units of every store that lacks them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ascfeat.store import unit_rows
from ascschemas.store import StoreHeader

Lacking = tuple[StoreHeader, Sequence[int]]
"""A store, and its units that are to be computed, ascending."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive clips, and the units that they make up."""

    first: int
    """Position of the first clip."""
    stop: int
    """Position after the last clip."""
    units: tuple[tuple[int, tuple[int, ...]], ...]
    """Number of a store, and its units to compute; stores that lack none are left out."""

    def __len__(self) -> int:
        return self.stop - self.first


def stretches(stores: Sequence[Lacking]) -> Iterator[Stretch]:
    """Cut what several stores lack into the smallest stretches that no unit crosses, in the order of the clips.

    Where unit sizes divide each other, as powers of two do, a stretch is one unit of the store with the largest units
    and the whole units of the others in it. It takes memory for one stretch, however many there are.

    Parameters
    ----------
    stores : sequence of (StoreHeader, units)
        Of one list of clips.

    Examples
    --------
    Of sixteen clips, one store has units of eight and another of four:

    >>> from types import SimpleNamespace as header
    >>> large, small = (header(clips=16, clips_per_unit=n) for n in (8, 4))
    >>> [(s.first, s.stop, s.units) for s in stretches([(large, [1]), (small, [0, 2, 3])])]
    [(0, 4, ((1, (0,)),)), (8, 16, ((0, (1,)), (1, (2, 3))))]
    """
    intervals = heapq.merge(*(_intervals(number, *store) for number, store in enumerate(stores)))
    first = stop = 0
    units: dict[int, list[int]] = {}
    for start, end, number, unit in intervals:
        if units and start >= stop:
            yield _stretch(first, stop, units)
            units = {}
        if not units:
            first = start
        stop = max(stop, end) if units else end
        units.setdefault(number, []).append(unit)
    if units:
        yield _stretch(first, stop, units)


def nested(headers: Sequence[StoreHeader]) -> list[list[int]]:
    """Numbers of stores, in groups whose unit sizes divide each other.

    Stores of one group are filled together. Sizes that do not divide each other have a common boundary late or never,
    and a stretch of both could be the whole dataset.

    Examples
    --------
    >>> from types import SimpleNamespace as header
    >>> nested([header(clips_per_unit=n) for n in (32, 128, 1, 48)])
    [[1, 0, 2], [3]]
    """
    groups: list[list[int]] = []
    for number in sorted(range(len(headers)), key=lambda i: -headers[i].clips_per_unit):
        size = headers[number].clips_per_unit
        fitting = (g for g in groups if headers[g[-1]].clips_per_unit % size == 0)
        group = next(fitting, None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    return groups


def positions(stretches: Iterable[Stretch]) -> Iterator[int]:
    """Positions of the clips of some stretches, in order."""
    for stretch in stretches:
        yield from range(stretch.first, stretch.stop)


def _intervals(number: int, header: StoreHeader, units: Iterable[int]) -> Iterator[tuple[int, int, int, int]]:
    return ((*unit_rows(header, unit), number, unit) for unit in units)


def _stretch(first: int, stop: int, units: dict[int, list[int]]) -> Stretch:
    return Stretch(first, stop, tuple((number, tuple(own)) for number, own in sorted(units.items())))
