"""Who is told how training goes, and what they are told; it needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from ascschemas.run import EpochRecord


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Where training is, within an epoch."""

    epoch: int
    """The epoch, counted from 1."""
    epochs: int
    """Epochs of the recipe."""
    batch: int
    """Finished batches of this epoch."""
    batches: int
    """Batches of an epoch."""
    loss: float
    """Mean training loss of this epoch so far."""
    accuracy: float
    """Training accuracy of this epoch so far."""
    clips_per_second: float
    """Training clips a second, this epoch."""
    seconds_left: float
    """Time to the last epoch's end at this speed."""


class Watcher:
    """Somebody who is told how training goes; this one keeps silent."""

    def note(self, text: str) -> None:
        """Something worth a line, once."""

    def batch(self, moment: Moment) -> None:
        """A batch is done."""

    def epoch(self, row: EpochRecord, *, selected: bool) -> None:
        """An epoch is done and its checkpoint published; ``selected``: it is the best so far."""


class Several(Watcher):
    """Some who are told the same."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def note(self, text: str) -> None:
        """To each."""
        for watcher in self._watchers:
            watcher.note(text)

    def batch(self, moment: Moment) -> None:
        """To each."""
        for watcher in self._watchers:
            watcher.batch(moment)

    def epoch(self, row: EpochRecord, *, selected: bool) -> None:
        """To each."""
        for watcher in self._watchers:
            watcher.epoch(row, selected=selected)
