"""Training batches changed at random: stretches hidden, clips and labels mixed; drawn from a passed generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ascschemas.layout import Layout
from ascschemas.problems import Difference, RecipeError
from ascschemas.training import Augmentation, Mask, Mixup

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
    n = len(labels)
    lam = np.broadcast_to(draw.beta(spec.alpha, spec.alpha, size=n if spec.share == "sample" else 1), n)
    other = torch.from_numpy(draw.permutation(n)).to(labels.device)
    weight = torch.from_numpy(lam.astype(np.float32)).to(labels.device)  # (B,)
    return tuple(_mix(x, other, weight) for x in features), _mix(labels, other, weight)


def masked(features: Tensor, spec: Mask, axis: int, draw: np.random.Generator) -> Tensor:
    """Hide stretches of each clip, others in every clip, the same ones in all its channels.

    ``x[..., s : s + w, ...] = 0``, ``w ~ U{0, …, min(width, n)}``, ``s ~ U{0, …, n - w}`` along an axis of length n.

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
    widths = draw.integers(0, min(spec.width, extent), size=(clips, spec.count), endpoint=True)
    starts = draw.integers(0, extent - widths, endpoint=True)
    at = np.arange(extent)
    hidden = ((starts[..., None] <= at) & (at < (starts + widths)[..., None])).any(axis=1)  # (B, extent)
    shape = [clips, *[1] * (features.dim() - 1)]
    shape[axis] = extent
    return features.masked_fill(torch.from_numpy(hidden).to(features.device).view(shape), 0)


def augment(
    features: Features, labels: Tensor, spec: Augmentation, draw: np.random.Generator
) -> tuple[Features, Tensor]:
    """What a training recipe does to a normalised training batch: masks of each clip, then mixtures of them.

    Masks hide bands and frames of features over frequency and time, ``(B, C, ..., F, T)``; waveforms and tags have
    none.
    """
    for mask, axis in ((spec.frequency_mask, -2), (spec.time_mask, -1)):
        if mask is not None:
            features = tuple(masked(x, mask, axis, draw) if x.dim() > 3 else x for x in features)
    return (features, labels) if spec.mixup is None else mixup(features, labels, spec.mixup, draw)


def require_maskable(spec: Augmentation, seen: Sequence[Layout]) -> None:
    """Refuse masks where there is nothing to hide, or that may hide everything.

    Raises
    ------
    RecipeError
        With the extents of what the network sees.
    """
    over = [layout for layout in seen if len(layout.shape) > 2]
    rows = []
    for name, mask, axis in (("frequency_mask", spec.frequency_mask, -2), ("time_mask", spec.time_mask, -1)):
        least = min((layout.shape[axis] for layout in over), default=0)
        if mask is not None and mask.width > least:
            field, found = f"augmentation.{name}.width", str(mask.width)
            rows.append(Difference(field=field, expected=f"at most {least}, what there is", found=found))
    if rows:
        raise RecipeError(
            "The masks are wider than the features.",
            differences=rows,
            todo="Set them narrower, or to none; tags and waveforms have nothing to hide.",
        )


def _mix(values: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    share = weight.view(-1, *[1] * (values.dim() - 1))  # (B, 1, ...)
    return share * values + (1 - share) * values[other]
