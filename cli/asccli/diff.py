"""``ascfeat diff``: what differs between two stores, on one screen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click
from rich.text import Text

from asccli.output import console, progress_reporter

if TYPE_CHECKING:
    from ascfeat.difference import Comparison
    from ascfeat.store import Store
    from ascschemas.problems import Difference

SHOWN = 12
"""Lines of one kind before the rest is only counted."""


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--threads", type=click.IntRange(min=1), help="Clips read at once; as many as CPUs where absent.")
def diff(first: str, second: str, threads: int | None) -> int:
    """Say what differs between the stores FIRST and SECOND; each is a folder, s3:// or http:// URL.

    Header, software, clips, labels, splits, excluded recordings and values. Clips whose values have the same digest
    are not read; of the others the largest and the mean difference are given, and the worst clips. The exit status is
    0 when the stores are the same and 1 when they are not.
    """
    from ascfeat.difference import compare
    from ascfeat.store import Store

    a, b = Store(first), Store(second)
    with progress_reporter(min(a.header.clips, b.header.clips)) as report:
        found = compare(a, b, threads=threads or os.cpu_count() or 1, progress=report)
    for line in _lines(found, a, b):
        console().print(Text(line), soft_wrap=True)
    return 0 if found.same else 1


def _lines(found: Comparison, a: Store, b: Store) -> Iterator[str]:
    yield f"first   {a.place}"
    yield f"second  {b.place}"
    if found.same:
        yield f"The same: header, {a.header.clips} clips with their labels and splits, and every value."
        return
    yield from _table("header", found.header)
    yield from _clips("only in the first", found.only_first)
    yield from _clips("only in the second", found.only_second)
    yield from _table("the dataset's tables", found.facts)
    yield from _table("excluded", found.excluded)
    yield from _clips("made from other recordings", found.recordings)
    yield from _values(found, a)


def _values(found: Comparison, a: Store) -> Iterator[str]:
    if found.unlike:
        yield f"values cannot be compared: {found.unlike}"
        return
    yield f"values: {found.equal} clips equal, {found.apart} different"
    if found.apart:
        unit = a.layout.quantity
        yield f"  largest difference {found.max:g}, mean of those clips {found.mean:g}, in {unit}"
        for clip in found.worst:
            yield f"  {clip.clip}  max {clip.max:g}  mean {clip.mean:g}"


def _table(title: str, rows: Sequence[Difference]) -> Iterator[str]:
    if not rows:
        return
    yield f"{title}:"
    width = max(len(d.field) for d in rows[:SHOWN])
    for d in rows[:SHOWN]:
        yield f"  {d.field:<{width}}  first {d.expected}  second {d.found}"
    if len(rows) > SHOWN:
        yield f"  … and {len(rows) - SHOWN} more"


def _clips(title: str, clips: Sequence[str]) -> Iterator[str]:
    if clips:
        many = "1 clip" if len(clips) == 1 else f"{len(clips)} clips"
        yield f"{title}: {many}, {', '.join(clips[:3])}{', …' if len(clips) > 3 else ''}"
