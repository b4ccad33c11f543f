"""Training batches changed at random: cut, made louder, hidden in part, mixed; drawn from a passed generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ascschemas.layout import Layout
from ascschemas.problems import Difference, RecipeError
from ascschemas.training import Augmentation, Crop, Gain, Mask, Mixup

Features = tuple[Tensor, ...]
"""What a network sees of the clips of a batch, of each store, ``(B, ...)``."""


def mixup(features: Features, labels: Tensor, spec: Mixup, draw: np.random.Generator) -> tuple[Features, Tensor]:
    """Mix each clip of a batch with another of the same batch, the same one in all stores.

    ``x = lambda x_i + (1 - lambda) x_j``, ``y = lambda y_i + (1 - lambda) y_j``, ``lambda ~ Beta(alpha, alpha)``;
    j is a random permutation of i.

    Parameters
    ----------
    features : tuple of Tensor, each of shape ``(B, ...)``
        Normalised network input.
    labels : Tensor, shape ``(B, K)``
        One-hot labels.
    spec : Mixup
        alpha, and whether one lambda serves a sample or the batch.
    draw : Generator
        Where lambda, then the permutation, are drawn from.

    Returns
    -------
    features, labels : Tensors of the same shapes, as they were given
        The mixtures.

    References
    ----------
    Zhang et al., *mixup: Beyond Empirical Risk Minimization*, 2018; nguyen2020 uses one lambda per sample.
    """
    n, draws = len(labels), len(labels) if spec.share == "sample" else 1
    lam = np.where(_chosen(draws, spec.probability, draw), draw.beta(spec.alpha, spec.alpha, size=draws), 1.0)
    lam = np.broadcast_to(lam, n)
    other = torch.from_numpy(draw.permutation(n)).to(labels.device)
    weight = torch.from_numpy(lam.astype(np.float32)).to(labels.device)  # (B,)
    return tuple(_mix(x, other, weight) for x in features), _mix(labels, other, weight)


def masked(features: Tensor, spec: Mask, axis: int, draw: np.random.Generator) -> Tensor:
    """Hide stretches of each clip, others in every clip, the same ones in all its channels.

    ``x[..., s : s + w, ...] = 0``, ``w ~ U{least, …, min(width, n)}``, ``s ~ U{0, …, n - w}`` along an axis of
    length n.

    Parameters
    ----------
    features : Tensor, shape ``(B, ...)``
        Normalised network input.
    spec : Mask
        How many, and how wide at most.
    axis : int
        The axis, -2 for frequency and -1 for time of ``(B, C, F, T)``.
    draw : Generator
        Where widths, then beginnings, are drawn from.

    Returns
    -------
    Tensor of the same shape
        Another one.

    References
    ----------
    Park et al., *SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition*, 2019, section 2.
    """
    extent, clips = features.shape[axis], len(features)
    some = _chosen(clips, spec.probability, draw)[:, None]
    widths = some * draw.integers(spec.least, min(spec.width, extent), size=(clips, spec.count), endpoint=True)
    starts = draw.integers(0, extent - widths, endpoint=True)
    at = np.arange(extent)
    hidden = ((starts[..., None] <= at) & (at < (starts + widths)[..., None])).any(axis=1)  # (B, extent)
    shape = [clips, *[1] * (features.dim() - 1)]
    shape[axis] = extent
    return features.masked_fill(torch.from_numpy(hidden).to(features.device).view(shape), 0)


def cropped(features: Tensor, spec: Crop, draw: np.random.Generator) -> Tensor:
    """A stretch of each clip along the last axis, another in every clip: ``x[..., s : s + length]``.

    Parameters
    ----------
    features : Tensor, shape ``(B, ..., T)``
        Normalised network input; T is at least ``spec.length``.
    spec : Crop
        How long.
    draw : Generator
        Where the beginnings are drawn from, evenly from 0 to ``T - length``.

    Returns
    -------
    Tensor, shape ``(B, ..., length)``
        Another one.
    """
    starts = draw.integers(0, features.shape[-1] - spec.length, size=len(features), endpoint=True)
    return torch.stack([row[..., s : s + spec.length] for row, s in zip(features, starts.tolist(), strict=True)])


def louder(features: Tensor, spec: Gain, draw: np.random.Generator) -> Tensor:
    """Each clip times a number of its own: ``x g``, ``g ~ U(1 - share, 1 + share)``, or 1 where none is drawn."""
    n = len(features)
    gains = np.where(_chosen(n, spec.probability, draw), draw.uniform(1 - spec.share, 1 + spec.share, size=n), 1.0)
    return features * torch.from_numpy(gains.astype(np.float32)).to(features.device).view(n, *_ones(features))


def augment(
    features: Features, labels: Tensor, spec: Augmentation, draw: np.random.Generator, epoch: int = 1
) -> tuple[Features, Tensor]:
    """What a training recipe does to a normalised training batch in an epoch, counted from 1.

    Each clip is cut, made louder and masked; then clips are mixed. Features without time (tags) are only mixed. Masks
    hide bands and frames of features over frequency and time, ``(B, C, ..., F, T)``; waveforms have none.
    """
    if spec.crop is not None:
        features = tuple(cropped(x, spec.crop, draw) if x.dim() > 2 else x for x in features)
    if spec.gain is not None:
        features = tuple(louder(x, spec.gain, draw) if x.dim() > 2 else x for x in features)
    for mask, axis in ((spec.frequency_mask, -2), (spec.time_mask, -1)):
        if mask is not None:
            features = tuple(masked(x, mask, axis, draw) if x.dim() > 3 else x for x in features)
    mixed = spec.mixup is not None and epoch >= spec.mixup.from_epoch
    return mixup(features, labels, spec.mixup, draw) if spec.mixup and mixed else (features, labels)


def require_possible(spec: Augmentation, seen: Sequence[Layout]) -> None:
    """Refuse masks that may hide everything, and crops of what is too short or of several stores at once.

    Raises
    ------
    RecipeError
        With the extents of what the network sees.
    """
    _require_croppable(spec, [layout for layout in seen if len(layout.shape) > 1])
    over = [layout for layout in seen if len(layout.shape) > 2]
    rows = []
    for name, mask, axis in (("frequency_mask", spec.frequency_mask, -2), ("time_mask", spec.time_mask, -1)):
        least = min((layout.shape[axis] for layout in over), default=0)
        if mask is not None and mask.width >= least:
            field, found = f"augmentation.{name}.width", str(mask.width)
            rows.append(Difference(field=field, expected=f"less than {least}, all that there is", found=found))
    if rows:
        raise RecipeError(
            "The masks may hide everything.",
            differences=rows,
            todo="Set them narrower, or to none; tags and waveforms have nothing to hide.",
        )


def _require_croppable(spec: Augmentation, timed: Sequence[Layout]) -> None:
    least = min((layout.shape[-1] for layout in timed), default=0)
    if spec.crop is None or (len(timed) == 1 and spec.crop.length <= least):
        return
    if len(timed) == 1:
        row = Difference(field="augmentation.crop.length", expected=f"at most {least}", found=str(spec.crop.length))
    else:
        row = Difference(field="features", expected="one store over time", found=f"{len(timed)} of them")
    raise RecipeError(
        "Clips cannot be cut like this.",
        differences=[row],
        todo="Set augmentation.crop to none, or augmentation.crop.length to less.",
    )


def _chosen(count: int, probability: float, draw: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which of so many are changed; nothing is drawn where all are."""
    return np.ones(count, dtype=np.bool_) if probability == 1 else draw.random(count) < probability


def _ones(values: Tensor) -> list[int]:
    return [1] * (values.dim() - 1)


def _mix(values: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    share = weight.view(-1, *_ones(values))  # (B, 1, ...)
    return share * values + (1 - share) * values[other]
