"""What training needs of a feature store: the reading half of ``ascfeat.store.Store``, and nothing of zarr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ascschemas.layout import Layout
from ascschemas.store import Seal, StoreHeader

Values = npt.NDArray[np.float32]
Clips = npt.NDArray[np.int64]
"""Positions of clips in a store."""


class Located(Protocol):
    """A folder or an address, which is text in messages."""

    @property
    def absolute(self) -> str:
        """The same from any folder of this machine."""


class ClipTable(Protocol):
    """What is known of each clip of a store, or of several stores that are joined."""

    @property
    def place(self) -> Located:
        """Where it lies."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Clip ids in store order."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class of each clip; empty where unknown, as below."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Recording device of each clip."""

    @property
    def cities(self) -> tuple[str, ...]:
        """City of each clip."""

    @property
    def locations(self) -> tuple[str, ...]:
        """Location of each clip."""

    @property
    def segments(self) -> tuple[str, ...]:
        """What parallel recordings share."""

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Whether each clip holds values."""

    def sides(self, split: str) -> npt.NDArray[np.str_]:
        """``train``, ``test`` or ``unused`` for each clip."""


class FeatureSource(ClipTable, Protocol):
    """Features of labelled clips; ``ascfeat.store.Store`` is one."""

    @property
    def header(self) -> StoreHeader:
        """What it was made from."""

    @property
    def seal(self) -> Seal | None:
        """Its digest; None while it is unfinished."""

    @property
    def layout(self) -> Layout:
        """Axes of one clip."""

    def read(self, clips: Sequence[int] | npt.NDArray[np.int64], out: Values | None = None) -> Values:
        """Features of some clips, ``(n, *layout.shape)``, in the order asked for."""

    def statistics(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and variance over time of each clip, each ``(clips, *layout.band_shape)``."""
