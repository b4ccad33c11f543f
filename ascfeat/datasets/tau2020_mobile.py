"""TAU Urban Acoustic Scenes 2020 Mobile, development set, v1 and v2: three real and six simulated devices."""

from __future__ import annotations

from typing import ClassVar

from ascfeat.datasets.tau_set import TauSet


class Tau2020Mobile(TauSet):
    """Loader of TAU Urban Acoustic Scenes 2020 Mobile; lists that still name the five clips v2 removed are read too."""

    kind: ClassVar[str] = "tau2020_mobile"
    looks_for: ClassVar[str] = (
        "a folder called TAU-urban-acoustic-scenes-2020-mobile-development, or its 23035 (v1: 23040) clips"
    )
