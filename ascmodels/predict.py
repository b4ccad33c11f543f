"""From a run and audio files to class probabilities; the run folder alone is enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ascfeat.extract import features_of
from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.devices import choose
from ascschemas.problems import AudioError, RunError


@dataclass(frozen=True)
class Prediction:
    """What a run says of one recording."""

    file: Path
    """The recording."""
    probabilities: dict[str, float]
    """Probability of each class, in alphabetical order; empty where the recording cannot be used."""
    problem: AudioError | None = None
    """Why it cannot be used."""

    @property
    def label(self) -> str:
        """The most probable class; empty where there is none."""
        return max(self.probabilities, key=self.probabilities.__getitem__, default="")


def predict(path: Path, files: Sequence[Path], *, device: str = "auto") -> Iterator[Prediction]:
    """Classify audio files with the selected epoch of a run.

    Features are made as those of the run's store were. Probabilities are ``softmax(z / T)`` with the temperature that
    the network was trained with.

    Parameters
    ----------
    path : Path
        The run folder.
    files : sequence of Path
        Recordings.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.

    Yields
    ------
    Prediction
        One per file, in order; a recording that cannot be used has a problem and stops nothing.

    Raises
    ------
    RunError
        When the run has no checkpoint yet.
    """
    folder, target = RunFolder(path), choose(device)
    epoch = folder.progress().selected
    if not epoch:
        raise RunError(f"{path} has no checkpoint yet.", todo="Let training finish its first epoch.")
    scorer = recipes.trainer(folder.recipe).scorer(folder, epoch, target)
    for file, features in features_of(files, folder.data.header):
        if isinstance(features, AudioError):
            yield Prediction(file, {}, features)
        else:
            row = scorer(torch.from_numpy(features).unsqueeze(0))[0].tolist()  # (1, C, F, T) -> (K,)
            yield Prediction(file, dict(zip(folder.data.classes, row, strict=True)))
