"""Features summed up over time: one vector a clip, whatever its length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ascmodels.normalise import Bands
from ascschemas.layout import Layout

Moment = Literal["mean", "deviation"]
"""``mean_t x``, or ``sqrt(mean_t (x - mean)^2)``."""


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """What is taken over time of each band and channel; features without a time axis are taken as they are.

    The vector holds, one after the other, each of them for all bands: moments, then quantiles, then the same of the
    differences from frame to frame.
    """

    layout: Layout
    """Axes of one clip."""
    moments: tuple[Moment, ...] = ("mean", "deviation")
    """Moments over time."""
    quantiles: tuple[float, ...] = ()
    """Quantiles over time, 0 to 1, interpolated linearly."""
    deltas: bool = False
    """Whether the same is taken of ``x[t + 1] - x[t]``, too."""

    @property
    def size(self) -> int:
        """Length of the vector."""
        if not self.layout.timed:
            return math.prod(self.layout.shape)
        return (len(self.moments) + len(self.quantiles)) * (1 + self.deltas) * math.prod(self.layout.band_shape)

    @property
    def stored(self) -> bool:
        """Whether the statistics that a store keeps of each clip are enough."""
        return not self.layout.timed or not (self.quantiles or self.deltas)

    def __call__(self, x: Tensor) -> Tensor:
        """Vectors ``(B, size)`` of features ``(B, *layout.shape)``, in their number format."""
        if not self.layout.timed:
            return x.flatten(1)
        series = (x, x.diff(dim=-1)) if self.deltas else (x,)
        return torch.cat([part.flatten(1) for values in series for part in self._parts(values)], dim=1)

    def of_statistics(self, means: Bands, variances: Bands) -> Bands:
        """The same from each clip's mean and variance over time, ``(clips, *layout.band_shape)``: nothing is read."""
        parts = {"mean": means, "deviation": variances**0.5}
        taken = [parts[name] for name in self.moments] if self.layout.timed else [means]
        return np.concatenate([part.reshape(len(part), -1) for part in taken], axis=1)

    def _parts(self, x: Tensor) -> Iterator[Tensor]:
        for name in self.moments:
            yield x.mean(dim=-1) if name == "mean" else x.var(dim=-1, correction=0).sqrt()
        if self.quantiles:
            yield from torch.quantile(x, x.new_tensor(self.quantiles), dim=-1)


@dataclass(frozen=True)
class Poolings:
    """The vectors of several stores, one after the other."""

    parts: tuple[Pooling, ...]
    """How the features of each store are summed up."""

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(p.size for p in self.parts)

    @property
    def stored(self) -> bool:
        """Whether the statistics that the stores keep are enough."""
        return all(p.stored for p in self.parts)

    def __call__(self, features: Sequence[Tensor]) -> Tensor:
        """Vectors ``(B, size)`` of features of each store, ``(B, *layout.shape)``, in their number format."""
        return torch.cat([pooled(x) for pooled, x in zip(self.parts, features, strict=True)], dim=1)

    def of_statistics(self, statistics: Sequence[tuple[Bands, Bands]]) -> Bands:
        """The same from the means and variances of each store: nothing is read."""
        found = [p.of_statistics(*bands) for p, bands in zip(self.parts, statistics, strict=True)]
        return np.concatenate(found, axis=1)
