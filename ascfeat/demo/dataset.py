"""The demo dataset on disk: which segments there are, their lists in the TAU Mobile layout, published whole."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ascfeat.audio import write_wav
from ascfeat.datasets.tau import COLUMNS, META, SETUP
from ascfeat.demo.sounds import SCENES, Wave, microphone, place, recorded, segment
from ascschemas.problems import DatasetError, RecipeError

CITIES: Final = ("barcelona", "helsinki", "lisbon", "london", "prague")
DEVICES: Final = ("a", "b", "c")
MARK: Final = "demo.json"
"""File by which a folder made here is known, and the settings that made it."""
CONTENT: Final = frozenset({MARK, META, SETUP, "audio", "README.md"})
README: Final = """# A demo of acoustic scenes

Procedural sounds made by `ascfeat demo-data`, in the layout of TAU Urban Acoustic Scenes Mobile. Device `a` records
every segment; `b` and `c` re-record some of them through frequency responses of their own. Nothing here was recorded
anywhere. `demo.json` holds the settings that made it; the same settings make the same files.
"""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the files of a demo dataset."""

    per_scene: int
    seconds: float
    seed: int
    scenes: int
    sample_rate: int
    parallel: float
    version: int = 1


@dataclass(frozen=True)
class Made:
    """What stands in the folder now."""

    root: Path
    clips: int
    classes: tuple[str, ...]
    new: bool
    """False where the folder already held exactly this."""


@dataclass(frozen=True)
class Moment:
    """One segment: where it is, on which side, and who records it."""

    scene: str
    number: int
    location: int
    test: bool
    parallel: bool

    @property
    def identifier(self) -> str:
        """City and location."""
        return f"{CITIES[self.location % len(CITIES)]}-{self.location}"

    def file(self, device: str) -> str:
        """Path of one device's recording."""
        return f"audio/{self.scene}-{self.identifier}-{self.number}-{device}.wav"

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices that record it."""
        return DEVICES if self.parallel else DEVICES[:1]


def make(
    out: Path,
    *,
    per_scene: int = 30,
    seconds: float = 4.0,
    seed: int = 0,
    scenes: int = 4,
    sample_rate: int = 44_100,
    parallel: float = 0.4,
    progress: Callable[[int, int], None] | None = None,
) -> Made:
    """Make a scene dataset in the TAU Mobile layout, or leave it where it already is.

    Parameters
    ----------
    out : Path
        The folder to make; where it holds a demo of other settings, it is replaced.
    per_scene : int
        Segments of each scene, at least 3.
    seconds : float
        Length of each.
    seed : int
        Everything random comes from it.
    scenes : int
        How many scene classes, 2 to 10.
    sample_rate : int
        Samples per second.
    parallel : float
        Share of the segments that devices b and c record too.
    progress : callable, optional
        Called with the segments done and all segments.

    Raises
    ------
    RecipeError
        When a setting cannot be meant.
    DatasetError
        When the folder holds something that was not made here.
    """
    settings = Settings(per_scene, float(seconds), seed, scenes, sample_rate, float(parallel))
    _meant(settings)
    moments = _moments(settings)
    new = _must_make(out, settings, moments)
    if new:
        _publish(out, settings, moments, progress or (lambda _done, _total: None))
    clips = sum(len(moment.devices) for moment in moments)
    return Made(out, clips, tuple(sorted({moment.scene for moment in moments})), new)


def _meant(settings: Settings) -> None:
    ranges = {
        "per_scene": (3, 100_000),
        "seconds": (0.25, 600),
        "seed": (0, 2**63),
        "scenes": (2, len(SCENES)),
        "sample_rate": (8_000, 192_000),
        "parallel": (0, 1),
    }
    values = asdict(settings)
    wrong = [f"{k} is {values[k]}, not in {lo} to {hi}" for k, (lo, hi) in ranges.items() if not lo <= values[k] <= hi]
    if wrong:
        raise RecipeError(f"A demo dataset cannot be made so: {'; '.join(wrong)}.", todo="Choose values in range.")


def _moments(settings: Settings) -> tuple[Moment, ...]:
    """Every segment: a scene has several locations, and every third of them is on the test side."""
    places = max(3, settings.per_scene // 4)
    found = []
    for index, scene in enumerate(list(SCENES)[: settings.scenes]):
        rng = np.random.default_rng([settings.seed, index])
        shared = set(rng.permutation(settings.per_scene)[: round(settings.parallel * settings.per_scene)].tolist())
        for i in range(settings.per_scene):
            at = i % places
            number, location = index * settings.per_scene + i, index * places + at
            found.append(Moment(scene, number, location, at % 3 == 2, i in shared))
    return tuple(found)


def _must_make(out: Path, settings: Settings, moments: Sequence[Moment]) -> bool:
    """Whether there is something to do; refuses to replace a folder that holds anything not made here."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return True
    mark = (out / MARK).read_text(encoding="utf-8") if (out / MARK).is_file() else ""
    if mark == _mark(settings) and all((out / m.file(d)).is_file() for m in moments for d in m.devices):
        return False
    strangers = sorted({p.name for p in out.iterdir()} - CONTENT) if out.is_dir() else ["a file"]
    if strangers or not mark:
        raise DatasetError(
            f"{out} is not empty and not a demo dataset: it holds {', '.join(strangers[:5]) or f'no {MARK}'}.",
            todo="Name a folder that does not exist yet, or empty this one.",
        )
    return True


def _publish(out: Path, settings: Settings, moments: Sequence[Moment], progress: Callable[[int, int], None]) -> None:
    """Write aside and rename, so that a folder of that name is always whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        new, old = aside / "new", aside / "old"
        _write(new, settings, moments, progress)
        if out.exists():
            out.rename(old)
        new.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(root: Path, settings: Settings, moments: Sequence[Moment], progress: Callable[[int, int], None]) -> None:
    (root / "audio").mkdir(parents=True)
    (root / SETUP).mkdir()
    (root / MARK).write_text(_mark(settings), encoding="utf-8")
    (root / "README.md").write_text(README, encoding="utf-8")
    _write_lists(root, moments)
    responses = {d: microphone(np.random.default_rng([settings.seed, 1000, ord(d)])) for d in DEVICES[1:]}
    for done, moment in enumerate(moments, start=1):
        _write_moment(root, settings, moment, responses)
        progress(done, len(moments))


def _write_moment(root: Path, settings: Settings, moment: Moment, responses: dict[str, Wave]) -> None:
    rng = np.random.default_rng([settings.seed, 2000, moment.number])
    here = place(np.random.default_rng([settings.seed, 3000, moment.location]))
    samples = round(settings.seconds * settings.sample_rate)
    wave = segment(rng, moment.scene, here, samples=samples, rate=settings.sample_rate)
    for device in moment.devices:
        heard = wave
        if device in responses:
            heard = recorded(rng, wave, responses[device], rate=settings.sample_rate, limited=device == "c")
        quiet = heard * min(1.0, 0.98 / float(np.abs(heard).max()))
        write_wav(root / moment.file(device), quiet.astype(np.float32)[None], settings.sample_rate)


def _write_lists(root: Path, moments: Sequence[Moment]) -> None:
    rows = [(m.file(d), m.scene, m.identifier, d, m.test) for m in moments for d in m.devices]
    train, test = ([row for row in rows if row[4] is side] for side in (False, True))
    _write_list(root / META, COLUMNS, (row[:4] for row in rows))
    _write_list(root / SETUP / "fold1_train.csv", COLUMNS[:2], (row[:2] for row in train))
    _write_list(root / SETUP / "fold1_test.csv", COLUMNS[:1], (row[:1] for row in test))
    _write_list(root / SETUP / "fold1_evaluate.csv", COLUMNS[:2], (row[:2] for row in test))


def _write_list(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    lines = ("\t".join(map(str, row)) for row in (columns, *rows))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _mark(settings: Settings) -> str:
    return json.dumps({"made_by": "ascfeat demo-data", **asdict(settings)}, indent=2) + "\n"
