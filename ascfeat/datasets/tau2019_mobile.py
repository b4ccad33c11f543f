"""TAU Urban Acoustic Scenes 2019 Mobile, development set: ten cities, three devices."""

from __future__ import annotations

from typing import ClassVar

from ascfeat.datasets.tau_set import TauSet


class Tau2019Mobile(TauSet):
    """Loader of TAU Urban Acoustic Scenes 2019 Mobile: 44.1 kHz mono, 1080 parallel recordings of devices b and c."""

    kind: ClassVar[str] = "tau2019_mobile"
    looks_for: ClassVar[str] = (
        "a folder called TAU-urban-acoustic-scenes-2019-mobile-development, or its 16560 clips of devices a, b and c"
    )
