"""From a run and audio files to class probabilities; the run folder alone is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ascfeat.extract import features_from, features_of, heard
from ascmodels import recipes
from ascmodels.checkpoint import DATA, RunFolder
from ascmodels.devices import choose
from ascmodels.inputs import Input, examples
from ascmodels.trainers.base import Scorer
from ascmodels.weights import MACHINE, WEIGHTS, sha256
from ascschemas.base import fingerprint
from ascschemas.dataset import AudioFormat
from ascschemas.problems import AudioError, Difference, RunError
from ascschemas.store import StoreHeader

Waveform = npt.NDArray[np.float32]
UNLIKE = frozenset({"wrong-rate", "wrong-channels", "wrong-length"})
"""Reasons of recordings that can be used once they are converted."""
Features = Callable[[Waveform, int], Waveform]
"""A waveform ``(channel, samples)`` and its rate to the features of one store."""


@dataclass(frozen=True)
class Prediction:
    """What a run says of one recording."""

    file: Path
    """The recording."""
    probabilities: dict[str, float]
    """Probability of each class, in alphabetical order; empty where the recording cannot be used. Where patches vote,
    it is their share of the votes, as in ``ascmodels.voting.voted``."""
    problem: AudioError | None = None
    """Why it cannot be used."""
    voters: int = 1
    """Patches of the recording that voted; 1 where none did."""

    @property
    def label(self) -> str:
        """The most probable class; empty where there is none."""
        return max(self.probabilities, key=self.probabilities.__getitem__, default="")


def predict(
    path: Path, files: Sequence[Path], *, device: str = "auto", recorder: str = "", tags: str | Path | None = None
) -> Iterator[Prediction]:
    """Classify audio files with the selected epoch of a run.

    Features are made as those of the run's store were. Probabilities are ``softmax(z / T)`` with the temperature that
    the network was trained with; of tags ``sigmoid(z)``; where a recording's patches vote, shares of their votes.

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
    tags : str or Path, optional
        Where the tags of the files come from, for a run that was trained on tags: the tagger that made those, or a
        table of these files.

    Yields
    ------
    Prediction
        One per file, in order; a recording that cannot be used has a problem and stops nothing.

    Raises
    ------
    RunError
        When the run has no checkpoint yet; when tags are given and it was trained on none.
    TagsError
        When it was trained on tags and is given none, or other ones.
    """
    folder, scorer = _selected(path, device)
    _require_taker(folder, tags)
    headers = [store.header for store in folder.data.stores]
    one_corrects = any(header.recipe.correction for header in headers)
    asked = ["" if one_corrects and not header.recipe.correction else recorder for header in headers]
    voters = examples(tuple(map(Input.of, headers))) if folder.recipe.vote == "majority" else 1
    made = [features_of(files, header, recorder=name, tags=tags) for header, name in zip(headers, asked, strict=True)]
    for found in zip(*made, strict=True):
        file, features = found[0][0], [values for _, values in found]
        problem = next((f for f in features if isinstance(f, AudioError)), None)
        if problem:
            yield Prediction(file, {}, _as_trained(problem, headers[0].audio))
        else:
            row = scorer([torch.from_numpy(f).unsqueeze(0) for f in features])[0].tolist()  # (1, *layout.shape) -> (K,)
            yield Prediction(file, dict(zip(folder.data.classes, row, strict=True)), voters=voters)


@dataclass(frozen=True)
class RunTagger:
    """What a run says of waveforms as tags, for ``ascfeat extract --recipe tags --tags RUN``."""

    names: tuple[str, ...]
    """Its classes."""
    digest: str
    """SHA-256 over the selected weights, the training recipe and the feature recipe."""
    headers: tuple[StoreHeader, ...]
    """Of the stores that the run was trained from."""
    scorer: Scorer
    whole: bool = False
    """Whether it hears recordings at their own length, because its network takes any."""
    made: dict[AudioFormat, tuple[Features, ...]] = field(default_factory=dict, repr=False, compare=False)
    """What computes features of waveforms, by their format."""

    def __call__(self, waveform: Waveform, sample_rate: int) -> Waveform:
        """Probabilities ``(K,)`` of a waveform ``(channel, samples)``; softmax or, of tags, sigmoids."""
        channels, frames = waveform.shape
        audio = AudioFormat(sample_rate=sample_rate, channels=channels, frames=max(1, frames))
        if audio not in self.made:
            self.made[audio] = tuple(features_from(heard(h, audio, whole=self.whole)) for h in self.headers)
        features = [torch.from_numpy(made(waveform, sample_rate)).unsqueeze(0) for made in self.made[audio]]
        return self.scorer(features)[0].numpy()


@dataclass(frozen=True)
class MeanTagger:
    """The mean of what several runs say, such as those of the folds of a cross-validation."""

    taggers: tuple[RunTagger, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The classes of each of them."""
        return self.taggers[0].names

    @property
    def digest(self) -> str:
        """SHA-256 over theirs."""
        return fingerprint({"mean": sorted(tagger.digest for tagger in self.taggers)})

    def __call__(self, waveform: Waveform, sample_rate: int) -> Waveform:
        """Mean of their probabilities ``(K,)``."""
        said = [tagger(waveform, sample_rate) for tagger in self.taggers]
        mean: Waveform = np.stack(said).mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean


def run_tagger(path: Path, device: str) -> RunTagger | MeanTagger | None:
    """The selected epoch of a run as a tagger, or the mean of the runs that a folder holds; None of other paths.

    Raises
    ------
    RunError
        When a run has no checkpoint yet, or a file of it is damaged; when runs in one folder have other classes.
    """
    if (path / DATA).is_file():
        return _tagger(path, device)
    runs = sorted(inner for inner in path.iterdir() if (inner / DATA).is_file()) if path.is_dir() else []
    taggers = tuple(_tagger(run, device) for run in runs)
    apart = [
        Difference(field=str(run), expected=", ".join(taggers[0].names[:5]), found=", ".join(tagger.names[:5]))
        for run, tagger in zip(runs, taggers, strict=True)
        if tagger.names != taggers[0].names
    ]
    if apart:
        raise RunError(
            f"The runs in {path} have other classes than each other: they have no mean.",
            differences=apart,
            todo="Keep the runs of one tagger's folds in a folder of their own.",
        )
    return MeanTagger(taggers) if taggers else None


def _tagger(path: Path, device: str) -> RunTagger:
    folder, scorer = _selected(path, device)
    whole, learnt = recipes.family(folder.recipe).any_length, folder.checkpoint(folder.progress().selected)
    made_of = {
        "weights": sha256(learnt / WEIGHTS),
        **({"machine": sha256(learnt / MACHINE)} if (learnt / MACHINE).exists() else {}),
        "recipe": folder.recipe.fingerprint,
        "features": [store.header.recipe_fingerprint for store in folder.data.stores],
    }
    digest = fingerprint({**made_of, "whole": True} if whole else made_of)
    return RunTagger(folder.data.classes, digest, tuple(s.header for s in folder.data.stores), scorer, whole)


def _as_trained(problem: AudioError, audio: AudioFormat) -> AudioError:
    """The problem of a recording that is whole, but not like those of the training: it is the file that can change."""
    if problem.reason not in UNLIKE:
        return problem
    channels = f"{audio.channels} channel{'s' if audio.channels > 1 else ''}"
    return AudioError(
        problem.reason,
        problem.what.replace("the other recordings", "the recordings that the run was trained on"),
        differences=problem.differences,
        todo=f"Convert it to {audio.sample_rate} Hz, {channels} and {audio.seconds:g} s.",
    )


def _require_taker(folder: RunFolder, tags: str | Path | None) -> None:
    names = [store.header.recipe.name for store in folder.data.stores]
    if tags is not None and not any(store.header.recipe.representation.kind == "tags" for store in folder.data.stores):
        raise RunError(
            f"{folder.path} was not trained on tags.",
            differences=[Difference(field="--tags", expected="nothing", found=str(tags))],
            todo=f"Leave --tags out: {' and '.join(names)} come from the recordings alone.",
        )


def _selected(path: Path, device: str) -> tuple[RunFolder, Scorer]:
    """A run, and what its selected epoch has learnt."""
    folder, target = RunFolder(path), choose(device)
    return folder, recipes.trainer(folder.recipe).scorer(folder, folder.trained().selected, target)
