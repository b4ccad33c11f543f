"""From a run and audio files to class probabilities; the run folder alone is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ascfeat.extract import features_from, features_of
from ascmodels import recipes
from ascmodels.checkpoint import DATA, RunFolder
from ascmodels.devices import choose
from ascmodels.trainers.base import Scorer
from ascmodels.weights import WEIGHTS, sha256
from ascschemas.base import fingerprint
from ascschemas.problems import AudioError, RunError

Waveform = npt.NDArray[np.float32]


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


def predict(path: Path, files: Sequence[Path], *, device: str = "auto", recorder: str = "") -> Iterator[Prediction]:
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
    recorder : str
        The device that recorded the files, where the run was trained on spectra that are corrected by device; without
        it they are not corrected.

    Yields
    ------
    Prediction
        One per file, in order; a recording that cannot be used has a problem and stops nothing.

    Raises
    ------
    RunError
        When the run has no checkpoint yet.
    """
    folder, scorer = _selected(path, device)
    headers = [store.header for store in folder.data.stores]
    one_corrects = any(header.recipe.correction for header in headers)
    asked = ["" if one_corrects and not header.recipe.correction else recorder for header in headers]
    made = [features_of(files, header, recorder=name) for header, name in zip(headers, asked, strict=True)]
    for found in zip(*made, strict=True):
        file, features = found[0][0], [values for _, values in found]
        problem = next((f for f in features if isinstance(f, AudioError)), None)
        if problem:
            yield Prediction(file, {}, problem)
        else:
            row = scorer([torch.from_numpy(f).unsqueeze(0) for f in features])[0].tolist()  # (1, *layout.shape) -> (K,)
            yield Prediction(file, dict(zip(folder.data.classes, row, strict=True)))


@dataclass(frozen=True)
class RunTagger:
    """A run's class probabilities as tags, for ``ascfeat extract --recipe tags --tags RUN``."""

    names: tuple[str, ...]
    """Its classes."""
    digest: str
    """SHA-256 over the selected weights, the training recipe and the feature recipe."""
    features: tuple[Callable[[Waveform, int], Waveform], ...]
    """Of each store that the run was trained from, a waveform's features."""
    scorer: Scorer

    def __call__(self, waveform: Waveform, sample_rate: int) -> Waveform:
        """Probabilities ``(K,)`` of a waveform ``(channel, samples)``."""
        features = [torch.from_numpy(made(waveform, sample_rate)).unsqueeze(0) for made in self.features]
        return self.scorer(features)[0].numpy()


def run_tagger(path: Path, device: str) -> RunTagger | None:
    """The selected epoch of a run as a tagger; None where a path is no run folder.

    Raises
    ------
    RunError
        When the run has no checkpoint yet, or a file of it is damaged.
    """
    if not (path / DATA).is_file():
        return None
    folder, scorer = _selected(path, device)
    digest = fingerprint(
        {
            "weights": sha256(folder.checkpoint(folder.progress().selected) / WEIGHTS),
            "recipe": folder.recipe.fingerprint,
            "features": [store.header.recipe_fingerprint for store in folder.data.stores],
        }
    )
    features = tuple(features_from(store.header) for store in folder.data.stores)
    return RunTagger(folder.data.classes, digest, features, scorer)


def _selected(path: Path, device: str) -> tuple[RunFolder, Scorer]:
    """A run, and what its selected epoch has learnt."""
    folder, target = RunFolder(path), choose(device)
    epoch = folder.progress().selected
    if not epoch:
        raise RunError(f"{path} has no checkpoint yet.", todo="Let training finish its first epoch.")
    return folder, recipes.trainer(folder.recipe).scorer(folder, epoch, target)
