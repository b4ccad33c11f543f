"""``ascfeat check``: the dataset doctor's findings as text or JSON, and an exit status that says whether it is fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from ascschemas.findings import CheckReport, Finding, GroupCount

SHOWN = 10
"""Findings of one kind that are listed without --all."""
DEVICES_ABREAST = 5
"""Devices in one table of counts, so that it fits 80 columns."""


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--dataset-kind", metavar="KIND", help="Read the folder as this layout instead of recognising it.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, and nothing else.")
@click.option("--all", "show_all", is_flag=True, help=f"List every finding, not the first {SHOWN} of each kind.")
@click.option("--threads", type=click.IntRange(min=1), help="Recordings decoded at once.  [default: processors]")
@click.pass_context
def check(
    ctx: click.Context, dataset: Path, dataset_kind: str | None, as_json: bool, show_all: bool, threads: int | None
) -> None:
    """Examine every recording and split of DATASET before any compute.

    Exit status 0: fit to extract and train. 1: unusable recordings or leaks. 2: not readable as a dataset.
    """
    from asccli.output import console, progress_reporter
    from ascfeat.datasets import open_dataset
    from ascfeat.doctor import examine

    tree, manifest = open_dataset(dataset, dataset_kind)
    with progress_reporter(len(manifest.clips)) as report_done:
        report = examine(tree, manifest, threads=threads, progress=lambda done, _total: report_done(done))
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    else:
        draw(report, console(), shown=None if show_all else SHOWN)
    ctx.exit(0 if report.fit else 1)


def draw(report: CheckReport, console: Console, *, shown: int | None) -> None:
    """Print a report for people: what it is, how many of what, what is wrong, and the verdict last."""
    from asccli.output import table

    say = _speaker(console)
    say(f"{report.dataset}: {report.clips} clips, read as {report.kind}; {report.audio or 'no recording decodes'}")
    for note in (*report.notes, *_origins(report)):
        say(f"note: {note}")
    rows = [(s.split, s.train, s.test, s.unused) for s in report.splits]
    splits = [("Splits", ("split", "train", "test", "unused"), rows)] if rows else []
    for title, columns, body in (*splits, *count_tables(report)):
        say(f"\n{title}")  # a line of its own: a table folds its title to its width
        console.print(table("", columns, body))
    for line in (*_official(report, shown), *_findings(report, shown), *_verdict(report)):
        say(line)


def count_tables(report: CheckReport) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[object]]]]:
    """Tables of clips by class and device and by city and device: ``train/test`` of the first split, or totals."""
    devices = sorted({group.device for group in report.counts})
    meaning = f"train/test of {report.splits[0].split}" if report.splits else "clips"
    for name, key in (("class", _label), ("city", _city)):
        keys = sorted({key(group) for group in report.counts} - {""})
        for first in range(0, len(devices) if keys else 0, DEVICES_ABREAST):
            some = devices[first : first + DEVICES_ABREAST]
            columns = (name, *(device or "clips" for device in some))
            yield f"By {name}: {meaning}", columns, [(k, *(_cell(report, key, k, d) for d in some)) for k in keys]


def _label(group: GroupCount) -> str:
    return group.label


def _city(group: GroupCount) -> str:
    return group.city


def _cell(report: CheckReport, key: Callable[[GroupCount], str], value: str, device: str) -> object:
    groups = [group for group in report.counts if (key(group), group.device) == (value, device)]
    if not report.splits:
        return sum(group.clips for group in groups)
    train, test = (sum(getattr(group.sides[0], side) for group in groups) for side in ("train", "test"))
    return f"{train}/{test}"


def _origins(report: CheckReport) -> Iterator[str]:
    """Which splits are not the dataset's own, and by which rule they were made."""
    for origin in sorted({*report.origins.values()} - {"official"}):
        names = [name for name, rule in report.origins.items() if rule == origin]
        yield f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} {origin}."


def _official(report: CheckReport, shown: int | None) -> Iterator[str]:
    if report.official and not report.count_differences:
        yield f"\nCounts are those of {report.official}."
    elif report.official:
        yield f"\nCounts that differ from {report.official}:"
        width = max(len(d.field) for d in report.count_differences)
        for d in report.count_differences[:shown]:
            yield f"  {d.field:<{width}}  officially {d.expected}, here {d.found}"
        yield from _more(len(report.count_differences), shown)


def _findings(report: CheckReport, shown: int | None) -> Iterator[str]:
    for kind in dict.fromkeys(f.kind for f in report.findings):
        some = [f for f in report.findings if f.kind == kind]
        yield f"\n{kind} ({some[0].severity}): {len(some)}"
        yield from (f"  {_line(f)}" for f in some[:shown])
        yield from _more(len(some), shown)


def _more(count: int, shown: int | None) -> Iterator[str]:
    if shown is not None and count > shown:
        yield f"  … and {count - shown} more; --all or --json lists them"


def _line(found: Finding) -> str:
    return f"{found.clips[0]}: {found.detail}" if len(found.clips) == 1 else found.detail


def _verdict(report: CheckReport) -> Iterator[str]:
    leaks = sum(f.severity == "leak" for f in report.findings)
    unusable = report.clips - report.usable
    if report.fit:
        yield f"\nFit to extract: all {report.clips} recordings can be used, and no split leaks."
        return
    yield f"\nNot fit: {unusable} of {report.clips} recordings cannot be used, {leaks} leaks between train and test."
    if unusable and report.usable:
        yield "`ascfeat extract` leaves these recordings out and goes on; with --strict it exits with status 1."
    if leaks:
        yield "A leak makes test results too good: put everything of one location on one side."


def _speaker(console: Console) -> Callable[[str], None]:
    """Print one line of plain text: names in it are never read as markup, and long ones are folded by nobody."""
    from rich.text import Text

    return lambda line: console.print(Text(line), soft_wrap=not console.is_terminal)
