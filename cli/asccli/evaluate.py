"""``ascmodels evaluate``: score a run on its test side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asccli.fit import DEVICE
from asccli.memory import learning_loads
from asccli.output import console, count, say, table

if TYPE_CHECKING:
    from ascmodels.checkpoint import RunFolder
    from ascmodels.joining import Joined
    from ascschemas.report import Report, Score


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--features", type=click.Path(path_type=Path), help="Folder of the feature stores, where they have moved."
)
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def evaluate(run: Path, features: Path | None, device: str, as_json: bool) -> None:
    """Score the run folder RUN per class, device and city, and write report.json, report.md and confusion.png."""
    with learning_loads():
        from ascmodels import report as reports
        from ascmodels.checkpoint import RunFolder
        from ascmodels.evaluate import evaluate as scored

    report = scored(run, stores_of(RunFolder(run), features), device=device)
    files = reports.write(report, run)
    if as_json:
        click.echo(report.model_dump_json(indent=1))
        return
    _show(report)
    say(f"\nWritten: {', '.join(str(f) for f in files)}")


def stores_of(folder: RunFolder, features: Path | str | None) -> Joined:
    """The stores of a run, where they were or in another folder of features."""
    from ascfeat.store import open_store, store_path
    from ascmodels.joining import join

    found = []
    for store in folder.data.stores:
        moved = features and store_path(features, store.header.dataset, store.header.recipe.name)
        found.append(open_store(moved or store.path))
    return join(*found)


def _show(report: Report) -> None:
    from ascmodels.report import corrected, percent

    best, last = report.selected, report.last
    say(f"{report.provenance.recipe} on {report.provenance.dataset}, {report.provenance.split}")
    if report.provenance.changed:
        say(f"Changed from the recipe: {', '.join(f'{k} = {v}' for k, v in report.provenance.changed.items())}.")
    for name, words in report.provenance.corrections.items():
        say(f"{name}: {corrected(words)}")
    say(f"{percent(report.headline_accuracy)} %: {report.headline}")
    say(f"{report.selection} Reported: epoch {best.epoch}.")
    each = "class" if report.metric == "accuracy" else "tag"
    _groups("overall", [best.overall], [last.overall], last.epoch, report.metric)
    _groups(each, best.classes, last.classes, last.epoch, report.metric)
    _groups("device", best.devices, last.devices, last.epoch, report.metric)
    _groups("city", best.cities, last.cities, last.epoch, report.metric)
    if report.unscored:
        say(f"\nNot scored, for they hold no values: {count(len(report.unscored), 'clip')} (report.md names them).")
    rows = [(f"{c.claim.scope} {c.claim.group}", c.claim.value, percent(c.ours), c.remark) for c in report.claims]
    if rows:
        console().print(table("\npublished beside ours, %", ["of", "published", "ours", "remark"], rows))


def _groups(kind: str, selected: Sequence[Score], last: Sequence[Score], epoch: int, metric: str) -> None:
    from ascmodels.report import counted, interval, percent

    if not selected:
        return
    rows = [
        (s.name, percent(s.accuracy), interval(s), counted(s).replace(" ", ""), percent(e.accuracy))
        for s, e in zip(selected, last, strict=True)
    ]
    out_of = "clips" if metric == "accuracy" else "labels"
    console().print()
    console().print(table("", [kind, f"{metric}, %", "95 % interval", out_of, f"epoch {epoch}, %"], rows))
