"""``ascfeat verify``: whether a store still is what was sealed, and whether the recordings still give it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asccli.output import console, count, progress_reporter, say, table

if TYPE_CHECKING:
    from ascfeat.store import Place, Problem, Store
    from ascfeat.verify import Recomputation
    from ascschemas.certificate import Comparison

Share = float | int


def share(text: str) -> Share:
    """``1%`` as a share between 0 and 1, or a whole number of clips.

    Examples
    --------
    >>> share("1%"), share("20")
    (0.01, 20)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    number = float(found[1]) if found else 0.0
    if found and found[2] and 0 < number <= 100:
        return number / 100
    if found and not found[2] and number >= 1 and number.is_integer():
        return int(number)
    raise click.BadParameter(f"{text!r} is neither a share such as 1% nor a number of clips such as 20.")


@click.command()
@click.argument("store")
@click.option("--recompute", type=share, metavar="SHARE", help="Clips to compute again: 1%, or a number such as 20.")
@click.option("--dataset", type=click.Path(path_type=Path), help="Folder of the recordings; needed by --recompute.")
@click.option("--threads", type=click.IntRange(min=1), help="Clips under way at once; as many as CPUs where absent.")
def verify(store: str, recompute: Share | None, dataset: Path | None, threads: int | None) -> int:
    """Read all of STORE and say what is not as it was sealed; nothing is written.

    A problem is a line: missing (no such file), damaged (its checksum does not hold) or different (it reads well and
    is not what was written). With --recompute some clips are computed again from their recordings, in float64, on any
    machine, and compared. The exit status is 1 when there is a problem.
    """
    from ascfeat.store import open_place, open_to_verify, root_problems
    from ascfeat.store import verify as read_through

    if (recompute is None) != (dataset is None):
        raise click.UsageError("--recompute and --dataset go together: clips are computed again from recordings.")
    threads = threads or os.cpu_count() or 1
    place = open_place(store)
    if _beyond_opening(place) and _print(root_problems(place)):
        say("Restore it from a copy, or remove it and extract again.")
        return 1
    opened = open_to_verify(place)
    header = opened.header
    say(f"{store}: {header.clips} clips, {header.recipe.name} by {header.backend}")
    with progress_reporter(header.clips) as report:
        wrong = _print(read_through(opened, threads=threads, progress=report))
    if wrong:
        say(f"{count(wrong, 'problem')}. Heal the store with `ascfeat repair {store} --dataset DIR`.")
    else:
        say("Whole: every checksum, digest, statistic and count is what was sealed.")
    if recompute is not None and dataset is not None:
        wrong += _recompute(opened, dataset, recompute, threads)
    return 1 if wrong else 0


def _beyond_opening(place: Place) -> bool:
    """Whether there is a store, and neither its description nor the copy of it is whole."""
    from ascfeat.store import sound_root

    return any(place.exists(key) for key in ("zarr.json", "ledger/root.json")) and sound_root(place) is None


def _recompute(store: Store, dataset: Path, wanted: Share, threads: int) -> int:
    """Compute clips again, print the differences, and return the number of problems."""
    from ascfeat.datasets import open_dataset
    from ascfeat.verify import count_of, recomputed

    tree, manifest = open_dataset(dataset, store.header.dataset_kind)
    assert store.seal is not None
    with progress_reporter(count_of(wanted, store.seal.usable)) as report:
        found = recomputed(store, tree, manifest, wanted, threads=threads, progress=report)
    wrong = _print(found.problems)
    _draw(store, found)
    if not wrong:
        say("The recordings give these values again.")
    return wrong


def _draw(store: Store, found: Recomputation) -> None:
    """The differences now, and under each those of the certificate."""
    certificate = store.seal.certificate if store.seal else None
    sealed = {c.against: c for c in certificate.comparisons} if certificate else {}
    rows: list[tuple[object, ...]] = []
    for comparison in found.comparisons:
        rows.append((comparison.against, f"now, {found.clips} clips", *_numbers(comparison)))
        if certificate and comparison.against in sealed:
            when = f"at the seal, {len(certificate.clips)} clips"
            rows.append(("", when, *_numbers(sealed[comparison.against])))
    if rows:
        columns = ["against", "", "max", "p99", "mean", "relative", "tolerance", "correlation"]
        say(f"\nDifferences in {store.header.layout.quantity}")
        console().print(table("", columns, rows))


def _numbers(c: Comparison) -> Sequence[str]:
    """Differences as text; a column of numbers only would be set to the right, and these are of many lengths."""
    tolerance = "-" if c.tolerance is None else f"{c.tolerance:g}"
    correlation = "-" if c.correlation is None else f"{c.correlation:.9f}"
    return (f"{c.max:g}", f"{c.p99:g}", f"{c.mean:g}", f"{c.relative:g}", tolerance, correlation)


def _print(problems: Iterable[Problem]) -> int:
    found = 0
    for problem in problems:
        say(str(problem))
        found += 1
    return found
