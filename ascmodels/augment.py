"""Mixup: convex mixtures of clips and of their labels, drawn from a passed generator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ascschemas.training import Augmentation, Mixup


def mixup(features: Tensor, labels: Tensor, spec: Mixup, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mix each clip of a batch with another of the same batch.

    ``x = lambda x_i + (1 - lambda) x_j``, ``y = lambda y_i + (1 - lambda) y_j``, ``lambda ~ Beta(alpha, alpha)``;
    j is a random permutation of i.

    Parameters
    ----------
    features : Tensor, shape ``(B, ...)``
        Normalised network input.
    labels : Tensor, shape ``(B, K)``
        One-hot labels.
    spec : Mixup
        alpha, and whether one lambda serves a sample or the batch.
    draw : Generator
        Where lambda, then the permutation, are drawn from.

    Returns
    -------
    features, labels : Tensors of the same shapes
        The mixtures.

    References
    ----------
    Zhang et al., *mixup: Beyond Empirical Risk Minimization*, 2018; nguyen2020 uses one lambda per sample.
    """
    n = len(features)
    lam = np.broadcast_to(draw.beta(spec.alpha, spec.alpha, size=n if spec.share == "sample" else 1), n)
    other = torch.from_numpy(draw.permutation(n)).to(features.device)
    weight = torch.from_numpy(lam.astype(np.float32)).to(features.device)  # (B,)
    return _mix(features, other, weight), _mix(labels, other, weight)


def augment(features: Tensor, labels: Tensor, spec: Augmentation, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """What a training recipe does to a normalised training batch."""
    return (features, labels) if spec.mixup is None else mixup(features, labels, spec.mixup, draw)


def _mix(values: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    share = weight.view(-1, *[1] * (values.dim() - 1))  # (B, 1, ...)
    return share * values + (1 - share) * values[other]
