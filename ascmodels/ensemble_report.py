"""Reports of ensembles as words and a picture: report.json, report.md and confusion.png."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ascmodels.checkpoint import CONFIG, put
from ascmodels.report import draw_confusion, interval, percent, published, table
from ascschemas.ensemble import EnsembleReport
from ascschemas.problems import RunError
from ascschemas.report import Score

VOTES = {
    "majority": "majority of the runs' decisions, ties to the larger sum of their probabilities",
    "mean": "largest mean of the runs' probabilities",
}


def write(report: EnsembleReport, folder: Path) -> tuple[Path, ...]:
    """Write a report into a folder of its own.

    Returns
    -------
    tuple of Path
        ``report.json``, ``report.md`` and ``confusion.png``.

    Raises
    ------
    RunError
        When the folder cannot be made, or is a run's, whose own report is kept there.
    """
    require_no_run(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        todo = "Choose another --out."
        raise RunError(f"No report can be kept in {folder}: {error.strerror}.", todo=todo) from error
    files = (folder / "report.json", folder / "report.md", folder / "confusion.png")
    for file, text in zip(files, (report.model_dump_json(indent=1) + "\n", markdown(report)), strict=False):
        with put(file) as aside:
            aside.write_text(text, encoding="utf-8")
    assert report.scores.confusion is not None
    draw_confusion(report.scores.confusion, files[2])
    return files


def require_no_run(folder: Path) -> None:
    """Refuse a run folder, whose own report would be lost.

    Raises
    ------
    RunError
        With its path.
    """
    if (folder / CONFIG).exists():
        todo = "Choose another --out; nothing was touched."
        raise RunError(f"{folder} is a run folder, and holds the run's own report.", todo=todo)


def markdown(report: EnsembleReport) -> str:
    """The whole report as Markdown."""
    return "\n".join(_paragraphs(report)) + "\n"


def told(report: EnsembleReport) -> str:
    """How many of what decided, and how, in a sentence."""
    models, runs = len(report.models), len(report.voters)
    who = f"{models} runs" if models == runs else f"{models} model{'s' * (models > 1)} in {runs // models} folds"
    return f"{who}; {VOTES[report.vote]}." if models > 1 else f"{who}, all clips pooled."


def _paragraphs(report: EnsembleReport) -> Iterator[str]:
    yield f"# {report.published or 'Runs together'}: {report.dataset}, {report.split}\n"
    yield f"**{percent(report.headline_accuracy)} %** - {report.headline}. {told(report)}\n"
    yield from published(report.claims)
    yield "## Together and alone\n"
    rows = [("together", report.scores.overall, report.scores.class_mean)]
    rows += [(m.recipe, m.overall, m.class_mean) for m in report.models]
    yield from table(
        ("", "accuracy, %", "95 % interval", "clips", "mean over classes, %"),
        [(name, *_numbers(score), percent(mean)) for name, score, mean in rows],
    )
    yield from _scores("Per class", report.scores.classes)
    yield from _scores("Per device", report.scores.devices)
    yield from _scores("Per city", report.scores.cities)
    if report.unscored:
        yield f"Not scored, for they hold no values: {', '.join(report.unscored)}.\n"
    yield "![Confusion matrix](confusion.png)\n"
    yield "## Runs\n"
    yield from table(("run", "recipe", "changed", "split", "epoch", "accuracy, %", "features"), _runs(report))


def _runs(report: EnsembleReport) -> list[tuple[str, ...]]:
    return [
        (
            v.run,
            f"{v.provenance.recipe} `{v.provenance.fingerprint[:16]}`",
            ", ".join(f"{k} = {value}" for k, value in v.provenance.changed.items()),
            v.provenance.split,
            str(v.epoch),
            percent(v.overall.accuracy),
            ", ".join(f"{name} `{digest[:16]}`" for name, digest in v.provenance.stores.items()),
        )
        for v in report.voters
    ]


def _scores(title: str, scores: Sequence[Score]) -> Iterator[str]:
    if scores:
        yield f"## {title}\n"
        yield from table(("", "accuracy, %", "95 % interval", "clips"), [(s.name, *_numbers(s)) for s in scores])


def _numbers(score: Score) -> tuple[str, str, str]:
    return percent(score.accuracy), interval(score), f"{score.correct} / {score.total}"
