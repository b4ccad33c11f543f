"""The strings that a store holds of each clip: what the dataset says of it, as one array a property."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ascschemas.base import fingerprint
from ascschemas.dataset import Manifest

PROPERTIES = ("label", "device", "city", "location", "segment")
"""Arrays named like the field of ``Clip`` that they hold."""


def clip_table(manifest: Manifest) -> dict[str, list[str]]:
    """Array name -> one string a clip: ids, properties, and the side of each split."""
    properties = {name: [str(getattr(c, name)) for c in manifest.clips] for name in PROPERTIES}
    sides = {f"split_{s.name}": [str(side) for side in manifest.sides(s)] for s in manifest.splits}
    return {"clip": [c.id for c in manifest.clips], **properties, **sides}


def table_digest(table: Mapping[str, Sequence[str]]) -> str:
    """SHA-256 over the canonical JSON of a clip table: the header's ``table``."""
    return fingerprint(dict(table))
