"""Reports as words and pictures: report.json, report.md, confusion.png and curves.png; the door to matplotlib."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ascmodels.checkpoint import put
from ascschemas.report import BesideClaim, Confusion, Report, Score
from ascschemas.run import Initial, Progress
from ascschemas.training import Augmentation, TrainingRecipe

INK, SIGNAL, PALE = "#222222", "#b3421c", "#8a8a8a"


def write(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write a report into a run folder.

    Returns
    -------
    tuple of Path
        ``report.json``, ``report.md`` and, of classes, ``confusion.png``.
    """
    files = (folder / "report.json", folder / "report.md", folder / "confusion.png")
    for file, text in zip(files, (report.model_dump_json(indent=1) + "\n", markdown(report)), strict=False):
        with put(file) as aside:
            aside.write_text(text, encoding="utf-8")
    if report.selected.confusion is None:
        return files[:2]
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
    """The 95 % interval of a score in per cent."""
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
    with put(file) as aside:
        figure.savefig(aside, dpi=120)


def draw_curves(progress: Progress, recipe: TrainingRecipe, file: Path) -> None:
    """Draw loss and accuracy, or lwlrap, over epochs, the selected epoch marked."""
    epochs = [row.epoch for row in progress.rows]
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    watched = f"{recipe.selection.side if recipe.selection.side != 'last' else 'validation'} side"
    names = ("training" if recipe.augmentation == Augmentation() else "training, augmented", watched)
    _curve(left, epochs, [r.loss for r in progress.rows], [r.watched_loss for r in progress.rows], names)
    _curve(right, epochs, [r.accuracy for r in progress.rows], [r.watched_accuracy for r in progress.rows], names)
    left.set_ylabel("loss")
    right.set_ylabel(recipe.metric)
    right.set_ylim(0, 1)
    for axes in (left, right):
        axes.axvline(
            progress.selected, color=PALE, linewidth=1, linestyle=":", label=f"selected: epoch {progress.selected}"
        )
    figure.legend(*right.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    with put(file) as aside:
        figure.savefig(aside, dpi=120)


def _paragraphs(report: Report) -> Iterator[str]:
    made, best = report.provenance, report.selected
    yield f"# {made.recipe} on {made.dataset}, {made.split}\n"
    yield f"**{percent(report.headline_accuracy)} %** - {report.headline}.\n"
    yield f"{report.selection} Reported: epoch {best.epoch}. The last epoch, {report.last.epoch}, is beside it.\n"
    if made.changed:
        changed = ", ".join(f"`{k}` = {v}" for k, v in made.changed.items())
        yield f"Changed from the recipe: {changed}.\n"
    yield from published(report.claims)
    yield from _scores("Overall", [best.overall], [report.last.overall], report.metric)
    each = "class" if report.metric == "accuracy" else "tag"
    mean, last = percent(best.class_mean), percent(report.last.class_mean)
    yield f"Mean over {each}{'e' * (each == 'class')}s {mean} %, last epoch {last} %.\n"
    yield from _scores(f"Per {each}", best.classes, report.last.classes, report.metric)
    yield from _scores("Per device", best.devices, report.last.devices, report.metric)
    yield from _scores("Per city", best.cities, report.last.cities, report.metric)
    if report.unscored:
        yield f"Not scored, for they hold no values: {', '.join(report.unscored)}.\n"
    if best.confusion is not None:
        yield "![Confusion matrix](confusion.png)\n"
    options = ", ".join(f"{name} {json.dumps(value)}" for name, value in made.trainer.values().items())
    yield f"{made.family} with {made.parameters:,} trainable parameters, trained by {made.trainer.kind} ({options})."
    yield f"Training recipe `{made.fingerprint[:16]}`,"
    yield from (f"features {name} `{digest[:16]}`." for name, digest in made.stores.items())
    for name, words in made.corrections.items():
        yield f"{name}: {corrected(words)}."
    if made.initial:
        yield f"{started(made.initial)}."


def started(initial: Initial) -> str:
    """What a network started from, in words."""
    of = Path(initial.path).name if initial.epoch is None else f"{Path(initial.path).name}, epoch {initial.epoch}"
    drawn = f", {initial.replaced} of its head drawn anew" if initial.replaced else ""
    return f"Started from given weights: {of} (`{initial.sha256[:16]}`), {initial.taken} tensors{drawn}"


def corrected(words: Mapping[str, str]) -> str:
    """A correction of devices, in words."""
    by = ", ".join(f"{key} {value[:16] if key == 'digest' else value}" for key, value in words.items())
    return f"spectra corrected by device ({by})"


def published(claims: Sequence[BesideClaim]) -> Iterator[str]:
    """Published numbers with ours beside them, as Markdown; nothing where there are none."""
    if not claims:
        return
    yield "## Published beside ours\n"
    rows = [
        (f"{c.claim.scope} {c.claim.group}".strip().replace("_", " "), f"{c.claim.value:g}", percent(c.ours), c.remark)
        for c in claims
    ]
    yield from table(("accuracy, %", "published", "ours", "remark"), rows)


def counted(score: Score) -> str:
    """What a score is out of: clips that are right of all, or the number of labels that were ranked."""
    return f"{score.correct} / {score.total}" if isinstance(score.correct, int) else str(score.total)


def _scores(title: str, selected: Sequence[Score], last: Sequence[Score], metric: str) -> Iterator[str]:
    if not selected:
        return
    yield f"## {title}\n"
    rows = [
        (s.name, percent(s.accuracy), interval(s), counted(s), percent(e.accuracy))
        for s, e in zip(selected, last, strict=True)
    ]
    out_of = "clips" if metric == "accuracy" else "labels"
    yield from table(("", f"{metric}, %", "95 % interval", out_of, "last epoch, %"), rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table as Markdown, line by line."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _curve(
    axes: Axes, epochs: list[int], trained: list[float], watched: list[float | None], names: tuple[str, str]
) -> None:
    mark = "o" if len(epochs) < 30 else ""
    axes.plot(epochs, trained, color=PALE, marker=mark, markersize=3, label=names[0])
    if any(v is not None for v in watched):
        scored = [np.nan if v is None else v for v in watched]
        axes.plot(epochs, scored, color=SIGNAL, marker=mark, markersize=3, label=names[1])
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()
