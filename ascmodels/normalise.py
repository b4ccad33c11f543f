"""Normalisation per band: statistics of the training side only, applied in the batch, saved with the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ascmodels.inputs import Input
from ascmodels.joining import Member
from ascmodels.source import Clips

LEAST_DEVIATION = 1e-7
"""Smallest deviation that is divided by: an empty band is constant, and must become 0 and not NaN."""

Bands = npt.NDArray[np.float64]


def band_statistics(member: Member, clips: Clips) -> tuple[Bands, Bands]:
    """Mean and standard deviation of each band over some clips and all their frames.

    Exact, from the moments over time that the store keeps per clip: ``mean = mean_i m_i``,
    ``var = mean_i (v_i + m_i^2) - mean^2``, ``std = max(sqrt(var), 1e-7)``. Where clips are cut into patches, i runs
    over their channels and components, too, which one network sees alike.

    Parameters
    ----------
    member : Member
        A sealed store.
    clips : array of int
        The training side, excluded clips left out, as positions in the first store.

    Returns
    -------
    mean, std : arrays, shape ``member.input.band_shape``, float64
        In the unit of the features.
    """
    shape = member.input.band_shape if member.input.patches else (1, *member.input.band_shape)
    means, variances = (m[member.at[clips]].reshape(-1, *shape[1:]) for m in member.source.statistics())
    mean = means.mean(axis=0)
    spread = variances.mean(axis=0) + means.var(axis=0)  # var_i m_i: no cancellation of large squares
    std = np.maximum(np.sqrt(spread), LEAST_DEVIATION)
    return mean.reshape(member.input.band_shape), std.reshape(member.input.band_shape)


class Normaliser(nn.Module):
    """``(x - mean) / std`` per band, then the rows that a network wants; its buffers are saved with the weights.

    Parameters
    ----------
    given : Input
        What is normalised.
    mean, std : arrays, shape ``given.band_shape``
        Statistics of the training side.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, given: Input, mean: Bands, std: Bands) -> None:
        super().__init__()
        self._rows = given.resized
        for name, values in (("mean", mean), ("std", std)):
            band = torch.from_numpy(values).float()
            self.register_buffer(name, band.unsqueeze(-1) if given.layout.timed else band)  # (C, F, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised features, ``(B, *given.seen.shape)``; rows are resized as ``ascfeat.patches.resized`` does."""
        x = (x - self.mean) / self.std
        if self._rows is None:
            return x
        return interpolate(x, size=(self._rows, x.shape[-1]), mode="bilinear", align_corners=False)


class Model(nn.Module):
    """A network behind its normalisation: features as stored in, logits out.

    Training applies ``normalised``, then augmentation, then ``network``; scoring calls the whole.
    """

    def __init__(self, normalisers: Sequence[Normaliser], network: nn.Module) -> None:
        super().__init__()
        self.normalisers = nn.ModuleList(normalisers)
        self.network = network

    def normalised(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the network sees of the features of each store."""
        return tuple(n(x) for n, x in zip(self.normalisers, features, strict=True))

    def forward(self, *features: Tensor) -> Tensor:
        """Logits ``(B, K)`` of features as they are stored, or cut."""
        logits: Tensor = self.network(*self.normalised(features))
        return logits


def identity(given: Input) -> tuple[Bands, Bands]:
    """Statistics that change nothing, for recipes without normalisation."""
    return np.zeros(given.band_shape), np.ones(given.band_shape)
