"""``ascmodels ensemble``: let several runs decide together, and pool the folds of a cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from asccli.evaluate import stores_of
from asccli.fit import DEVICE
from asccli.output import console, count, say, table

if TYPE_CHECKING:
    from ascschemas.ensemble import EnsembleReport


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for report.json, report.md and confusion.png.")
@click.option(
    "--vote",
    type=click.Choice(["majority", "mean"]),
    default="majority",
    show_default=True,
    help="Majority of the runs' decisions, ties to the larger sum of probabilities; or their mean probabilities.",
)
@click.option(
    "--features", type=click.Path(path_type=Path), help="Folder of the feature stores, where they have moved."
)
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def ensemble(
    runs: tuple[Path, ...], out: Path | None, vote: str, features: Path | None, device: str, as_json: bool
) -> None:
    """Score the run folders RUNS together on their test side.

    They are of one split, and of stores of one dataset; or of all folds of a cross-validation, such as location5_1 to
    location5_5, the same models in each: then each fold's runs vote, and all clips are scored together.
    """
    from ascmodels import ensemble_report as reports
    from ascmodels.checkpoint import RunFolder
    from ascmodels.ensemble import ensemble as together

    if out is not None:
        reports.require_no_run(out)
    found = [(run, stores_of(RunFolder(run), features)) for run in runs]
    report = together(found, vote=vote, device=device)  # type: ignore[arg-type]  # click has checked it
    files = reports.write(report, out) if out is not None else ()
    if as_json:
        click.echo(report.model_dump_json(indent=1))
        return
    _show(report)
    if files:
        say(f"\nWritten: {', '.join(str(f) for f in files)}")


def _show(report: EnsembleReport) -> None:
    from ascmodels.ensemble_report import told
    from ascmodels.report import interval, percent

    say(f"{report.published or 'Runs together'}: {report.dataset}, {report.split}")
    say(f"{percent(report.headline_accuracy)} %: {report.headline}")
    say(told(report))
    rows = [("together", report.scores.overall, report.scores.class_mean)]
    rows += [(m.recipe, m.overall, m.class_mean) for m in report.models]
    lines = [(n, percent(s.accuracy), interval(s), f"{s.correct}/{s.total}", percent(mean)) for n, s, mean in rows]
    console().print()
    console().print(table("", ["", "accuracy, %", "95 % interval", "clips", "class mean, %"], lines))
    for kind, scores in (("class", report.scores.classes), ("device", report.scores.devices)):
        if scores:
            numbers = [(s.name, percent(s.accuracy), interval(s), f"{s.correct}/{s.total}") for s in scores]
            console().print()
            console().print(table("", [kind, "accuracy, %", "95 % interval", "clips"], numbers))
    if report.unscored:
        say(f"\nNot scored, for they hold no values: {count(len(report.unscored), 'clip')} (report.json names them).")
    beside = [(f"{c.claim.scope} {c.claim.group}", c.claim.value, percent(c.ours), c.remark) for c in report.claims]
    if beside:
        console().print(table("\npublished beside ours, %", ["of", "published", "ours", "remark"], beside))
