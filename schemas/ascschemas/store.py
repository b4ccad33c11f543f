"""What a feature store says of itself: its header, the ledger of its units, and the seal that makes it whole."""

from __future__ import annotations

import math
from typing import Final, Literal

from ascschemas.base import Frozen
from ascschemas.certificate import Certificate
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Layout
from ascschemas.recipe import FeatureRecipe
from ascschemas.units import Count, Digest, Name, Size

NUMBER_BYTES: Final = {"float32": 4, "float16": 2, "int16": 2, "int32": 4}
"""Size of a stored number."""
FORMAT_VERSION: Final = 1
"""Version of the store format that this package writes."""


class Encoding(Frozen):
    """How one clip's values are numbers on disk: ``value = number * scale + offset``."""

    dtype: Literal["float32", "float16", "int16", "int32"] = "float32"
    """Number format of a stored number."""
    scale: float = 1.0
    """Value of one step."""
    offset: float = 0.0
    """Value of the number 0."""
    missing: int | None = None
    """The integer that stands for a value that is not there; floats have NaN."""
    compress: bool = False
    """Whether chunks are lz4 after a bit shuffle (``blosc``)."""
    tolerance: float | None = None
    """How far, in dB, a stored value may be from the computed one; None where it must be equal."""

    @property
    def plain(self) -> bool:
        """Whether a stored number is the value itself."""
        return (self.dtype, self.scale, self.offset) == ("float32", 1.0, 0.0)


class StoreHeader(Frozen):
    """Written once, when the store is created: everything that decides its values, and its extents."""

    format_version: Literal[1] = FORMAT_VERSION
    """Version of the store format."""
    dataset: Name
    """Name of the dataset."""
    dataset_kind: str
    """Loader that read the dataset."""
    manifest: Digest
    """Fingerprint of the dataset's clips and splits."""
    table: Digest
    """SHA-256 of what the store's string arrays say of each clip."""
    recipe: FeatureRecipe
    """The recipe, every default written out."""
    recipe_fingerprint: Digest
    """Fingerprint of ``recipe``."""
    audio: AudioFormat
    """Format of the dataset's recordings."""
    layout: Layout
    """Axes of one clip."""
    encoding: Encoding = Encoding()
    """How values are numbers on disk."""
    clips: Size
    """Number of clips, excluded ones included."""
    clips_per_unit: Size
    """Clips in one shard."""
    classes: tuple[str, ...]
    """Labels in alphabetical order."""
    splits: tuple[Name, ...]
    """Names of the splits; the sides of ``fold1`` stand in the array ``split_fold1``."""
    backend: str
    """Backend class that computed the values."""
    software: dict[str, str]
    """Versions of the software that can change a value."""

    @property
    def units(self) -> int:
        """Number of units of work, which is the number of shards."""
        return -(-self.clips // self.clips_per_unit)

    @property
    def number_bytes(self) -> int:
        """Size of one clip's numbers in bytes, before compression and without a checksum."""
        return math.prod(self.layout.shape) * NUMBER_BYTES[self.encoding.dtype]

    def chunk(self, array: str, unit: int = 0) -> str:
        """Key of an array's chunk or shard: a unit takes one along the first axis, and all of the others."""
        rest = {"features": self.layout.axes, "mean": self.layout.bands, "variance": self.layout.bands}
        return "/".join([array, "c", str(unit), *["0"] * len(rest.get(array, ()))])


class ClipRecord(Frozen):
    """What became of one clip."""

    source_bytes: Count = 0
    """Size of the recording's file."""
    source: Digest | None = None
    """SHA-256 of the recording's file; None where it could not be read at all."""
    values: Digest | None = None
    """SHA-256 of the clip's stored numbers as little-endian bytes; None where the clip is excluded."""
    error: float | None = None
    """How far, in dB, its worst stored value is from the computed one; None where all are equal by construction."""
    excluded: str = ""
    """Why the clip holds no values, in a word (``truncated``); empty where it does."""
    detail: str = ""
    """The reason in a sentence, with both values."""


class UnitRecord(Frozen):
    """One line of the ledger, published after the unit's shard is on disk."""

    unit: Count
    """Number of the unit."""
    clips: tuple[ClipRecord, ...]
    """Its clips, in store order."""


class Seal(Frozen):
    """Written last: the store is whole, and this is what it holds."""

    digest: Digest
    """SHA-256 over the header's canonical JSON and the ledger's records in order."""
    usable: Count
    """Clips that hold values."""
    excluded: dict[str, Count]
    """Clips that hold none, counted by reason."""
    error: float | None = None
    """How far, in dB, the worst stored value of all clips is from the computed one; None where all are equal."""
    certificate: Certificate | None = None
    """How far a sample of the values lies from a float64 reference; None where no reference computes them."""
