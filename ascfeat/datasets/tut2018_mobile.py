"""TUT Urban Acoustic Scenes 2018 Mobile, development set: six cities, three devices."""

from __future__ import annotations

from typing import ClassVar

from ascfeat.datasets.tau_set import TauSet


class Tut2018Mobile(TauSet):
    """Loader of TUT Urban Acoustic Scenes 2018 Mobile: headerless ``.txt`` lists, 44.1 kHz mono."""

    kind: ClassVar[str] = "tut2018_mobile"
    looks_for: ClassVar[str] = (
        "a folder called TUT-urban-acoustic-scenes-2018-mobile-development, or its 10080 clips of devices a, b and c"
    )
    text_lists: ClassVar[bool] = True
