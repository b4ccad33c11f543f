"""How training looks: a live line with time left on a terminal, a plain line an epoch when piped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from asccli.output import duration, err_console, say
from ascmodels.watching import Moment, Watcher
from ascschemas.run import EpochRecord


@contextmanager
def learning_watcher(metric: str = "accuracy") -> Iterator[Watcher]:
    """Yield a watcher that draws on standard error and lets every finished epoch stay as a line.

    ``metric`` is what clips are scored by.
    """
    err = err_console()
    if not err.is_terminal:
        yield Lines(metric)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[now]}"))
    with Progress(*columns, console=err, transient=True) as bar:
        yield Live(metric, bar, bar.add_task("", total=1, now=""))


class Lines(Watcher):
    """One plain line an epoch."""

    def __init__(self, metric: str = "accuracy") -> None:
        self.metric = metric

    def note(self, text: str) -> None:
        """Say it."""
        say(text, err=True)

    def epoch(self, row: EpochRecord, *, selected: bool) -> None:
        """Say how the epoch went."""
        say(epoch_line(row, selected=selected, metric=self.metric), err=True)


class Live(Lines):
    """The same lines, above a bar of the batches of the epoch under way."""

    def __init__(self, metric: str, bar: Progress, task: TaskID) -> None:
        super().__init__(metric)
        self._bar, self._task = bar, task

    def batch(self, moment: Moment) -> None:
        """Move the bar."""
        name, now = moment_words(moment, self.metric)
        self._bar.update(self._task, description=name, total=moment.batches, completed=moment.batch, now=now)

    def note(self, text: str) -> None:
        """Say it above the bar."""
        self._bar.console.print(Text(text), soft_wrap=True)

    def epoch(self, row: EpochRecord, *, selected: bool) -> None:
        """Say how the epoch went, above the bar."""
        self.note(epoch_line(row, selected=selected, metric=self.metric))


def epoch_line(row: EpochRecord, *, selected: bool, metric: str = "accuracy") -> str:
    """An epoch in at most 80 columns; a star marks the best so far.

    Examples
    --------
    >>> row = EpochRecord(epoch=3, loss=1.5, accuracy=0.4, lr=0.5, seconds=70, clips_per_second=8)
    >>> epoch_line(row, selected=True)
    'epoch 3  loss 1.500  acc. 0.400  lr 0.5  1 min 10 s *'
    """
    short = "acc." if metric == "accuracy" else metric
    scored = row.watched_loss is not None and row.watched_accuracy is not None
    watched = f"  watched loss {row.watched_loss:.3f}  {short} {row.watched_accuracy:.3f}" if scored else ""
    trained = f"epoch {row.epoch}  loss {row.loss:.3f}  {short} {row.accuracy:.3f}"
    rate = "" if row.lr is None else f"  lr {row.lr:g}"
    return f"{trained}{watched}{rate}  {duration(row.seconds)}{' *' if selected else ''}"


def moment_words(moment: Moment, metric: str = "accuracy") -> tuple[str, str]:
    """Which epoch it is, and how it goes."""
    speed = f"{moment.clips_per_second:.1f} clips/s, {duration(moment.seconds_left)} left"
    now = f"loss {moment.loss:.3f}, {metric} {moment.accuracy:.3f}, {speed}"
    return f"{moment.epoch}/{moment.epochs}", now
