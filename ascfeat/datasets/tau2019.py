"""TAU Urban Acoustic Scenes 2019, development set: ten cities, one binaural recorder, 1030 clips unused."""

from __future__ import annotations

from typing import ClassVar

from ascfeat.datasets.tau_set import TauSet


class Tau2019(TauSet):
    """Loader of TAU Urban Acoustic Scenes 2019: 48 kHz stereo; in fold 1 Milan is on the test side only."""

    kind: ClassVar[str] = "tau2019"
    looks_for: ClassVar[str] = (
        "a folder called TAU-urban-acoustic-scenes-2019-development, or its 14400 clips of device a"
    )
