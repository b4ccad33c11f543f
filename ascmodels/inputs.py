"""What a network sees of a clip: all of it, or one of its patches at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ascschemas.layout import Axis, Layout
from ascschemas.recipe import Patches
from ascschemas.store import StoreHeader


@dataclass(frozen=True)
class Input:
    """The clips of one store as a network sees them.

    With patches, every channel and component of a clip is cut into patches of its own, numbered as
    ``ascfeat.patches.cut`` lays them out: over channels slowest, then components, then time.
    """

    layout: Layout
    """Axes of a stored clip."""
    patches: Patches | None = None
    """How it is cut; whole where None."""

    @classmethod
    def of(cls, header: StoreHeader) -> Input:
        """What the recipe of a store says."""
        return cls(header.layout, header.recipe.patches)

    @property
    def count(self) -> int:
        """Examples that a clip gives: its patches, or one."""
        return math.prod(self.layout.shape[:-2]) * len(self._starts) if self.patches else 1

    @property
    def seen(self) -> Layout:
        """Axes of what a network sees: of a patch, one channel, the rows it is resized to, its frames."""
        if self.patches is None:
            return self.layout
        rows, time = self.layout.axes[-2:]
        if self.patches.resize not in (None, rows.size):
            rows = Axis(name=rows.name, size=self.patches.resize)
        step = Axis(name="time", size=self.patches.width, unit=time.unit, step=time.step)
        return Layout(axes=(Axis(name="channel", size=1), rows, step), quantity=self.layout.quantity)

    @property
    def band_shape(self) -> tuple[int, ...]:
        """Extents of the statistics that it is normalised by: all channels' patches share theirs."""
        return (1, self.layout.shape[-2]) if self.patches else self.layout.band_shape

    @property
    def resized(self) -> int | None:
        """Rows that it is resized to after normalisation; None where it is not."""
        return self.seen.shape[-2] if self.seen.shape[-2:-1] != self.layout.shape[-2:-1] else None

    def some(self, rows: Tensor, at: Tensor, parts: Tensor) -> Tensor:
        """Some patches, before they are resized.

        Parameters
        ----------
        rows : Tensor, shape ``(n, *layout.shape)``
            Clips.
        at : Tensor of int64, shape ``(B,)``
            Which of them.
        parts : Tensor of int64, shape ``(B,)``
            Which patch of each, 0 to ``count``.

        Returns
        -------
        Tensor, shape ``(B, 1, rows, width)``
            In the number format of ``rows``.
        """
        assert self.patches is not None
        starts = torch.tensor(self._starts, device=rows.device)
        channel, start = parts // len(starts), starts[parts % len(starts)]
        windows = rows.flatten(1, -3).unfold(-1, self.patches.width, 1)  # (n, channels, rows, first frame, width)
        return windows[at, channel, :, start].unsqueeze(1)

    def every(self, rows: Tensor) -> Tensor:
        """All examples of clips ``(n, *layout.shape)``, one clip's after the other's: ``(n * count, …)``."""
        if self.patches is None:
            return rows
        at = torch.arange(len(rows), device=rows.device).repeat_interleave(self.count)
        return self.some(rows, at, torch.arange(self.count, device=rows.device).repeat(len(rows)))

    @property
    def _starts(self) -> tuple[int, ...]:
        assert self.patches is not None
        return self.patches.starts(self.layout.shape[-1])


def examples(inputs: tuple[Input, ...]) -> int:
    """Examples that a clip gives where several stores are seen together; a whole clip stands beside each patch."""
    return max(i.count for i in inputs)
