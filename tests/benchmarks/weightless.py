"""A representation and a dataset that weigh next to nothing: what remains is planning, scheduling and bookkeeping.

The representation is a plug-in as anybody's: :func:`register` writes the entry point that makes it known to this
process and to those that it starts. The dataset has a list and no files: its recordings are made from their names when
they are read, eight samples each, so that reading, decoding, digests and statistics take their usual way.
"""

import hashlib
import itertools
import os
import struct
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Literal

from ascfeat.datasets.tree import Tree
from ascfeat.dsp.backends import NONE
from ascfeat.representations import Transform
from ascfeat.representations.spectral import channel_axis
from ascschemas.base import Frozen
from ascschemas.dataset import AudioFormat, Clip, Manifest, Split
from ascschemas.layout import Axis, Layout
from ascschemas.recipe import FeatureRecipe

SAMPLES = 8
RATE = 8_000
HEADER = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 2 * SAMPLES, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16,
                     b"data", 2 * SAMPLES)  # fmt: skip


HOLD = "WEIGHTLESS_HOLD"
"""Names a file in the environment: while it is there, a process computes ``HELD_AFTER`` clips and then waits."""
HELD_AFTER = 16
_computed = itertools.count()


class Weightless(Frozen):
    """The waveform's samples times a factor, which may take as long as is asked for."""

    backends: ClassVar[tuple[str, ...]] = (NONE,)

    kind: Literal["weightless"] = "weightless"
    """Name of the representation."""
    factor: float = 1.0
    """What samples are multiplied by."""
    milliseconds: float = 0.0
    """How long a clip takes."""

    def layout(self, audio: AudioFormat) -> Layout:
        """Axes ``(channel, time)``."""
        frames = Axis(name="time", size=audio.frames, unit="s", step=1 / audio.sample_rate)
        return Layout(quantity="amplitude", axes=(channel_axis("as_decoded", audio), frames))

    def build(self, audio: AudioFormat, *, device: str, backend: str) -> Transform:
        """The callable that multiplies, after a pause."""

        def transform(waveforms):
            number, hold = next(_computed), os.environ.get(HOLD, "")
            while number >= HELD_AFTER and os.path.exists(hold):  # noqa: PTH110  # False, too, where nobody may look
                time.sleep(0.005)
            if self.milliseconds:
                time.sleep(self.milliseconds / 1000)
            return waveforms * waveforms.dtype.type(self.factor)

        return transform


class Unwritten(Tree):
    """A dataset folder without files: recordings are made from their names, as if each lay in an archive."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._members = {}
        self._tops = set()

    def exists(self, path: str) -> bool:
        """Whether it is called like a recording."""
        return path.endswith(".wav")

    def size(self, path: str) -> int:
        """Bytes of a recording."""
        return len(HEADER) + 2 * SAMPLES

    def modified(self, path: str) -> float:
        """Always long ago."""
        return 0.0

    def _member(self, path: str) -> tuple[SimpleNamespace, SimpleNamespace]:
        """What stands in the place of an archive, which is this file, and of its entry."""
        facts = {"CRC": zlib.crc32(path.encode()), "compress_size": self.size(path), "header_offset": 0}
        return SimpleNamespace(filename=__file__), SimpleNamespace(filename=path, file_size=self.size(path), **facts)

    def read(self, path: str) -> bytes:
        """A header and eight samples, the first half of the name's SHA-256."""
        return HEADER + hashlib.sha256(path.encode()).digest()[: 2 * SAMPLES]


def recipe(name: str, *, clips_per_unit: int = 32, **parameters: float) -> FeatureRecipe:
    """A recipe of that kind; units of 32 clips as log-mels of ten seconds have them."""
    made = {"kind": "weightless", "factor": 1.0, "milliseconds": 0.0, **parameters}
    storage = {"clips_per_shard": clips_per_unit, "precision": "float32"}
    return FeatureRecipe.model_validate({"name": name, "representation": made, "storage": storage})


def manifest(clips: int, root: Path) -> Manifest:
    """A list of clips with labels, places and a split, as a large dataset has them."""
    listed = tuple(
        Clip(id=f"audio/{i:08d}.wav", label=f"class-{i % 527:03d}", location=f"video-{i // 10}") for i in range(clips)
    )
    ids = tuple(c.id for c in listed)
    split = Split(name="official", train=ids[: clips * 9 // 10], test=ids[clips * 9 // 10 :])
    return Manifest(dataset=root.name, kind="unwritten", clips=listed, splits=(split,))


def register(folder: Path) -> None:
    """Make the plug-in known to this process and its children: an installed distribution in a folder of its own."""
    info = folder / "weightless-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: weightless\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ascfeat.representations]\nweightless = weightless:Weightless\n")
    paths = [str(folder), str(Path(__file__).parent)]
    sys.path[:0] = [p for p in paths if p not in sys.path]
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
