"""Which epoch is the result, and when training stands still: rules over the records of epochs."""

from __future__ import annotations

from ascschemas.optimisation import Monitor, Plateau
from ascschemas.run import EpochRecord, Progress
from ascschemas.training import Selection, TrainingRecipe


def monitored(row: EpochRecord, what: Monitor) -> float | None:
    """The value that selection, schedule or early stopping watches; None where nothing is watched."""
    return row.watched_accuracy if what == "accuracy" else row.watched_loss


def schedule_monitor(recipe: TrainingRecipe) -> Monitor:
    """What the schedule watches: its own, or what the selection does."""
    own = recipe.schedule.monitor if isinstance(recipe.schedule, Plateau) else None
    return own or recipe.selection.monitor


def after(progress: Progress, row: EpochRecord, recipe: TrainingRecipe) -> Progress:
    """The progress with one more epoch; the first of equally good epochs stays selected."""
    rows = (*progress.rows, row)
    if recipe.selection.side == "last":
        return Progress(rows=rows, selected=len(rows))
    return Progress(rows=rows, selected=best(rows, recipe))


def best(rows: tuple[EpochRecord, ...], recipe: TrainingRecipe) -> int:
    """The first epoch of the best monitored value, counted from 1; the last one where nothing is watched."""
    values = [monitored(row, recipe.selection.monitor) for row in rows]
    known = [v for v in values if v is not None]
    if not known:
        return len(rows)
    return 1 + values.index(max(known) if recipe.selection.monitor == "accuracy" else min(known))


def stale(progress: Progress, recipe: TrainingRecipe) -> bool:
    """Whether training ends before its last epoch.

    ``early_stopping`` epochs in a row have not been better than the best; or the schedule says so, having stood still
    once more at its lowest rate.
    """
    patience = recipe.early_stopping
    stopped = patience is not None and progress.epoch > 0 and progress.epoch - best(progress.rows, recipe) >= patience
    return stopped or _stands_still_at_the_lowest_rate(progress.rows, recipe)


def _stands_still_at_the_lowest_rate(rows: tuple[EpochRecord, ...], recipe: TrainingRecipe) -> bool:
    plan = recipe.schedule
    if not (isinstance(plan, Plateau) and plan.stop_at_min_lr):
        return False
    what, reached, since = schedule_monitor(recipe), float("inf"), 0
    for row in rows:
        value = monitored(row, what)
        if value is None or row.lr is None:
            continue
        cost = -value if what == "accuracy" else value
        better = cost < reached - plan.min_delta
        reached = cost if better else reached
        since = 0 if better or row.lr > plan.min_lr * (1 + 1e-9) else since + 1  # rates come of repeated products
    return since > plan.patience


def in_words(selection: Selection, metric: str = "accuracy") -> str:
    """How the reported epoch was chosen, as a sentence for reports; ``metric`` is what clips are scored by."""
    better = f"highest {metric}" if selection.monitor == "accuracy" else "lowest loss"
    return {
        "validation": f"The epoch with the {better} on a validation side: whole locations held off the training side.",
        "test": f"The epoch with the {better} on the TEST side itself: optimistic, for the test labels chose it.",
        "last": "The last epoch; nothing was chosen.",
    }[selection.side]
