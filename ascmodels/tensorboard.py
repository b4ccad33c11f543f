"""Curves for TensorBoard beside the CSV ones, where it is installed; its door."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from typing_extensions import override

from ascmodels.watching import Watcher
from ascschemas.run import EpochRecord, Progress

FOLDER = "tensorboard"
VALUES = ("loss", "accuracy", "watched_loss", "watched_accuracy", "lr", "clips_per_second")


class TensorBoard(Watcher):
    """Writes each finished epoch into a run folder's ``tensorboard``, for ``tensorboard --logdir RUNS``.

    Parameters
    ----------
    run : Path
        The run folder.
    progress : Progress
        How far the run has come; its epochs are written again, for a killed run may lack the last of them.
    metric : str
        What clips are scored by.
    """

    def __init__(self, run: Path, progress: Progress, metric: str = "accuracy") -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._metric = metric
        make: Any = SummaryWriter  # its types are not declared
        self._writer = make(str(run / FOLDER), purge_step=1)  # what earlier files say is hidden
        for row in progress.rows:
            self._add(row)

    @override
    def epoch(self, row: EpochRecord, *, selected: bool) -> None:
        self._add(row)
        self._writer.flush()

    def _add(self, row: EpochRecord) -> None:
        for name in VALUES:
            value = getattr(row, name)
            if value is not None:
                self._writer.add_scalar(name.replace("accuracy", self._metric), value, row.epoch)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def is_installed() -> bool:
    """Whether TensorBoard is."""
    return find_spec("tensorboard") is not None
