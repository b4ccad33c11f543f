"""The trainer ``nearest_mean``: a clip is of the class whose mean spectrum is nearest."""

import math
import time

import torch
from torch import nn

from ascmodels.inputs import Input
from ascmodels.normalise import Normaliser, identity
from ascmodels.selection import after
from ascmodels.trainers.base import Trainer, publish
from ascmodels.weights import load_weights, save_weights
from ascschemas.problems import RunError
from ascschemas.run import EpochRecord, Finished
from ascschemas.units import Positive


class NearestMean(Trainer):
    """One mean spectrum a class; nothing is descended."""

    sharpness: Positive = 1.0
    """How much surer of a class its nearness makes."""

    def fit(self, task):
        if task.team.size > 1:
            raise RunError("nearest_mean is trained by one process.", todo="Start it without torchrun.")
        progress = task.folder.progress()
        if progress.epoch == 0:  # a run that goes on may have its only epoch already
            start = time.perf_counter()
            means = Means(task.inputs, len(task.data.classes), self.sharpness, task.statistics).to(task.device)
            means.learn(task.feed.in_order(task.sides.train, task.recipe.batch_size))
            loss, accuracy = self._score(task, means, task.sides.train)
            watched_loss, watched_accuracy = self._score(task, means, task.sides.watched(task.recipe))
            seconds = time.perf_counter() - start
            row = EpochRecord(
                epoch=1,
                loss=loss,
                accuracy=accuracy,
                watched_loss=watched_loss,
                watched_accuracy=watched_accuracy,
                lr=0,
                seconds=seconds,
                clips_per_second=len(task.sides.train) / seconds,
            )
            progress = after(progress, row, task.recipe)
            publish(task, progress, lambda folder: save_weights(folder, means))
            task.watch.epoch(row, selected=True)
        return task.folder.finish(Finished(last=1, selected=1, stopped="epochs"))

    def scorer(self, folder, epoch, device):
        inputs = [Input.of(store.header) for store in folder.data.stores]
        means = Means(inputs, len(folder.data.classes), self.sharpness)
        load_weights(folder.checkpoint(epoch), means)
        means.to(device)
        return lambda features: means([x.to(device) for x in features]).exp().cpu()

    def _score(self, task, means, clips):
        """Mean loss and accuracy; None where there are no clips."""
        loss = right = 0.0
        for batch in task.feed.in_order(clips, task.recipe.batch_size):
            log_p = means(batch.features)
            loss += float(nn.functional.nll_loss(log_p, batch.targets, reduction="sum"))
            right += int((log_p.argmax(1) == batch.targets).sum())
        return (loss / len(clips), right / len(clips)) if len(clips) else (None, None)


class Means(nn.Module):
    """Features as stored -> log probabilities ``(B, K)``, by the distance from each class's mean spectrum."""

    def __init__(self, inputs, n_classes, sharpness, statistics=None):
        super().__init__()
        found = statistics or [identity(given) for given in inputs]
        self.normalisers = nn.ModuleList(Normaliser(given, *bands) for given, bands in zip(inputs, found, strict=True))
        self.timed, self.sharpness = [given.layout.timed for given in inputs], sharpness
        self.register_buffer("means", torch.zeros(n_classes, sum(math.prod(given.band_shape) for given in inputs)))

    def learn(self, batches):
        """One pass over the training clips: sums and counts per class."""
        counts = self.means.new_zeros(len(self.means), 1)
        for batch in batches:
            self.means.index_add_(0, batch.targets, self.spectra(batch.features))
            counts += torch.bincount(batch.targets, minlength=len(counts)).unsqueeze(1)
        self.means /= counts

    def spectra(self, features):
        """Of each store, normalised, averaged over time: ``(B, C, F, T) -> (B, C * F)``."""
        seen = [normal(x) for normal, x in zip(self.normalisers, features, strict=True)]
        rows = [x.mean(-1) if timed else x for x, timed in zip(seen, self.timed, strict=True)]
        return torch.cat([x.flatten(1) for x in rows], dim=1)

    def forward(self, features):
        return torch.log_softmax(-self.sharpness * torch.cdist(self.spectra(features), self.means), dim=1)
