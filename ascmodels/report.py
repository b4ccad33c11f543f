"""Reports as words and pictures: report.json, report.md, confusion.png and curves.png; the door to matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ascschemas.report import Confusion, Report, Score
from ascschemas.run import Progress
from ascschemas.training import TrainingRecipe

INK, SIGNAL, PALE = "#222222", "#b3421c", "#8a8a8a"


def write(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write a report into a run folder.

    Returns
    -------
    tuple of Path
        ``report.json``, ``report.md`` and ``confusion.png``.
    """
    files = (folder / "report.json", folder / "report.md", folder / "confusion.png")
    files[0].write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    files[1].write_text(markdown(report), encoding="utf-8")
    draw_confusion(report.selected.confusion, files[2])
    return files


def markdown(report: Report) -> str:
    """The whole report as Markdown."""
    return "\n".join(_paragraphs(report)) + "\n"


def percent(value: float | None) -> str:
    """A proportion in per cent with one decimal; a dash for none.

    Examples
    --------
    >>> percent(0.62), percent(None)
    ('62.0', '-')
    """
    return "-" if value is None else f"{100 * value:.1f}"


def interval(score: Score) -> str:
    """A Wilson 95 % interval in per cent."""
    return f"{percent(score.low)} to {percent(score.high)}"


def draw_confusion(confusion: Confusion, file: Path) -> None:
    """Draw a confusion matrix: rows are true classes, shades are shares of the row, numbers are clips."""
    counts = np.array(confusion.counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    n = len(confusion.classes)
    figure, axes = _canvas(3.2 + 0.55 * n, 2.6 + 0.5 * n)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(counts):
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", color="white" if shares[i, j] > 0.6 else INK)
    axes.set_xticks(range(n), confusion.classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), confusion.classes)
    axes.set_xlabel("classified as")
    axes.set_ylabel("true class")
    axes.set_title(f"{np.trace(counts)} of {counts.sum()} clips right")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    figure.savefig(file, dpi=120)


def draw_curves(progress: Progress, recipe: TrainingRecipe, file: Path) -> None:
    """Draw loss and accuracy over epochs, the selected epoch marked."""
    epochs = [row.epoch for row in progress.rows]
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    watched = f"{recipe.selection.side if recipe.selection.side != 'last' else 'validation'} side"
    _curve(left, epochs, [r.loss for r in progress.rows], [r.watched_loss for r in progress.rows], watched)
    _curve(right, epochs, [r.accuracy for r in progress.rows], [r.watched_accuracy for r in progress.rows], watched)
    left.set_ylabel("loss")
    right.set_ylabel("accuracy")
    right.set_ylim(0, 1)
    for axes in (left, right):
        axes.axvline(
            progress.selected, color=PALE, linewidth=1, linestyle=":", label=f"selected: epoch {progress.selected}"
        )
    figure.legend(*right.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    figure.savefig(file, dpi=120)


def _paragraphs(report: Report) -> Iterator[str]:
    made, best = report.provenance, report.selected
    yield f"# {made.recipe} on {made.dataset}, {made.split}\n"
    yield f"**{percent(report.headline_accuracy)} %** - {report.headline}.\n"
    yield f"{report.selection} Reported: epoch {best.epoch}. The last epoch, {report.last.epoch}, is beside it.\n"
    if made.changed:
        changed = ", ".join(f"`{k}` = {v}" for k, v in made.changed.items())
        yield f"Changed from the recipe: {changed}.\n"
    yield from _claims(report)
    yield from _scores("Overall", [best.overall], [report.last.overall])
    yield f"Mean over classes {percent(best.class_mean)} %, last epoch {percent(report.last.class_mean)} %.\n"
    yield from _scores("Per class", best.classes, report.last.classes)
    yield from _scores("Per device", best.devices, report.last.devices)
    yield from _scores("Per city", best.cities, report.last.cities)
    if report.unscored:
        yield f"Not scored, for they hold no values: {', '.join(report.unscored)}.\n"
    yield "![Confusion matrix](confusion.png)\n"
    yield f"{made.family} with {made.parameters:,} trainable parameters. Training recipe `{made.fingerprint[:16]}`,"
    yield from (f"features {name} `{digest[:16]}`." for name, digest in made.stores.items())
    for name, words in made.corrections.items():
        yield f"{name}: {corrected(words)}."


def corrected(words: Mapping[str, str]) -> str:
    """A correction of devices, in words."""
    by = ", ".join(f"{key} {value[:16] if key == 'digest' else value}" for key, value in words.items())
    return f"spectra corrected by device ({by})"


def _claims(report: Report) -> Iterator[str]:
    if not report.claims:
        return
    yield "## Published beside ours\n"
    rows = [
        (f"{c.claim.scope} {c.claim.group}".strip().replace("_", " "), f"{c.claim.value:g}", percent(c.ours), c.remark)
        for c in report.claims
    ]
    yield from _table(("accuracy, %", "published", "ours", "remark"), rows)


def _scores(title: str, selected: Sequence[Score], last: Sequence[Score]) -> Iterator[str]:
    if not selected:
        return
    yield f"## {title}\n"
    rows = [
        (s.name, percent(s.accuracy), interval(s), f"{s.correct} / {s.total}", percent(e.accuracy))
        for s, e in zip(selected, last, strict=True)
    ]
    yield from _table(("", "accuracy, %", "95 % interval", "clips", "last epoch, %"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _curve(axes: Axes, epochs: list[int], trained: list[float], watched: list[float | None], name: str) -> None:
    mark = "o" if len(epochs) < 30 else ""
    axes.plot(epochs, trained, color=PALE, marker=mark, markersize=3, label="training, augmented")
    if any(v is not None for v in watched):
        axes.plot(
            epochs, [np.nan if v is None else v for v in watched], color=SIGNAL, marker=mark, markersize=3, label=name
        )
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()
