"""TUT Urban Acoustic Scenes 2018, development set: six cities, one binaural recorder."""

from __future__ import annotations

from typing import ClassVar

from ascfeat.datasets.tau_set import TauSet


class Tut2018(TauSet):
    """Loader of TUT Urban Acoustic Scenes 2018: headerless ``.txt`` lists, 48 kHz stereo."""

    kind: ClassVar[str] = "tut2018"
    looks_for: ClassVar[str] = (
        "a folder called TUT-urban-acoustic-scenes-2018-development, or its 8640 clips of device a with .txt lists"
    )
    text_lists: ClassVar[bool] = True
