"""Which epoch is the result, and when training stands still: rules over the records of epochs."""

from __future__ import annotations

from ascschemas.run import EpochRecord, Progress
from ascschemas.training import Selection, TrainingRecipe


def monitored(row: EpochRecord, recipe: TrainingRecipe) -> float | None:
    """The value that selection, schedule and early stopping watch; None where nothing is watched."""
    return row.watched_accuracy if recipe.selection.monitor == "accuracy" else row.watched_loss


def after(progress: Progress, row: EpochRecord, recipe: TrainingRecipe) -> Progress:
    """The progress with one more epoch; the first of equally good epochs stays selected."""
    rows = (*progress.rows, row)
    if recipe.selection.side == "last":
        return Progress(rows=rows, selected=len(rows))
    return Progress(rows=rows, selected=best(rows, recipe))


def best(rows: tuple[EpochRecord, ...], recipe: TrainingRecipe) -> int:
    """The first epoch of the best monitored value, counted from 1; the last one where nothing is watched."""
    values = [monitored(row, recipe) for row in rows]
    known = [v for v in values if v is not None]
    if not known:
        return len(rows)
    return 1 + values.index(max(known) if recipe.selection.monitor == "accuracy" else min(known))


def stale(progress: Progress, recipe: TrainingRecipe) -> bool:
    """Whether early stopping ends the run: ``patience`` epochs in a row have not been better than the best."""
    patience = recipe.early_stopping
    return patience is not None and progress.epoch > 0 and progress.epoch - best(progress.rows, recipe) >= patience


def in_words(selection: Selection) -> str:
    """How the reported epoch was chosen, as a sentence for reports."""
    better = "highest accuracy" if selection.monitor == "accuracy" else "lowest loss"
    return {
        "validation": f"The epoch with the {better} on a validation side: whole locations held off the training side.",
        "test": f"The epoch with the {better} on the TEST side itself: optimistic, for the test labels chose it.",
        "last": "The last epoch; nothing was chosen.",
    }[selection.side]
