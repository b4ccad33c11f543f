"""Normalisation per band: statistics of the training side only, applied in the batch, saved with the weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ascmodels.source import FeatureSource
from ascschemas.layout import Layout

LEAST_DEVIATION = 1e-7
"""Smallest deviation that is divided by: an empty band is constant, and must become 0 and not NaN."""

Bands = npt.NDArray[np.float64]


def band_statistics(source: FeatureSource, clips: npt.NDArray[np.int64]) -> tuple[Bands, Bands]:
    """Mean and standard deviation of each band over some clips and all their frames.

    Exact, from the moments over time that the store keeps per clip: ``mean = mean_i m_i``,
    ``var = mean_i (v_i + m_i^2) - mean^2``, ``std = max(sqrt(var), 1e-7)``.

    Parameters
    ----------
    source : FeatureSource
        A sealed store.
    clips : array of int
        The training side, excluded clips left out.

    Returns
    -------
    mean, std : arrays, shape ``layout.band_shape``, float64
        In the unit of the features.
    """
    means, variances = source.statistics()
    mean = means[clips].mean(axis=0)
    spread = variances[clips].mean(axis=0) + means[clips].var(axis=0)  # var_i m_i: no cancellation of large squares
    return mean, np.maximum(np.sqrt(spread), LEAST_DEVIATION)


class Normaliser(nn.Module):
    """``(x - mean) / std`` per band; its buffers are saved with the weights.

    Parameters
    ----------
    mean, std : arrays, shape ``(C, F)``, or whatever stands before time
        Statistics of the training side.
    timed : bool
        Whether features have a time axis after these.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Bands, std: Bands, *, timed: bool = True) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            band = torch.from_numpy(values).float()
            self.register_buffer(name, band.unsqueeze(-1) if timed else band)  # (C, F, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised features, ``(B, C, F, T)``."""
        return (x - self.mean) / self.std


class Model(nn.Module):
    """A network behind its normalisation: features as stored in, logits out.

    Training applies ``normaliser``, then augmentation, then ``network``; scoring calls the whole.
    """

    def __init__(self, normaliser: Normaliser, network: nn.Module) -> None:
        super().__init__()
        self.normaliser = normaliser
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` of features as they are stored."""
        logits: Tensor = self.network(self.normaliser(x))
        return logits


def identity(layout: Layout) -> tuple[Bands, Bands]:
    """Statistics that change nothing, for recipes without normalisation."""
    return np.zeros(layout.band_shape), np.ones(layout.band_shape)
