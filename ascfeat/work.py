"""The work on one clip, and on many at once: threads ahead of the consumer, never far ahead, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ascfeat.audio import Recording, decode, digest, read, waveform, waveform_format
from ascfeat.datasets.tree import Tree
from ascfeat.representations import Transform, representation
from ascfeat.tags import TagSource, checked_row, require_source
from ascschemas.dataset import Manifest
from ascschemas.problems import AudioError
from ascschemas.recipe import Decode
from ascschemas.store import ClipRecord, StoreHeader

Values = npt.NDArray[np.float32]

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD_PER_THREAD = 4
"""Items under way for each thread: enough to keep it busy, few enough to bound the memory."""


def ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for each item, in the items' order, computed on several threads.

    At most ``AHEAD_PER_THREAD * threads`` results wait at any time. An exception in ``function`` is raised here, in
    its place; what had not begun then is dropped.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= AHEAD_PER_THREAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Target:
    """A store's recipe made ready: from a recording to its features."""

    header: StoreHeader
    transform: Transform
    tags: TagSource | None = None
    """Where rows come from instead, for a store of tags."""

    def features(self, recording: Recording, clip: str, cache: dict[Decode, Values] | None = None) -> Values:
        """Features of one recording; waveforms already made for another recipe are taken from ``cache``.

        Raises
        ------
        AudioError
            When the recording is not what the recipe takes, or its features are not finite.
        """
        spec = self.header.recipe.decode
        cache = {} if cache is None else cache
        if spec not in cache:
            cache[spec] = waveform(recording, clip, self.header.audio, spec)
        values = self._of_clip(clip, cache[spec])
        if not np.isfinite(values).all():
            raise AudioError(
                "non-finite",
                f"{clip} gives features that are not finite: its samples reach {np.abs(recording.samples).max():g}.",
                todo="Restore the file, or scale it to full scale 1.",
            )
        return values

    def _of_clip(self, clip: str, waveform: Values) -> Values:
        if self.tags is not None:
            return checked_row(self.tags, clip, waveform, waveform_format(self.header.audio, self.header.recipe.decode))
        values: Values = self.transform(waveform[None])[0]
        return values


@dataclass(frozen=True)
class OneClip:
    """The work on one clip: read and decode once, then the features of every target that wants it."""

    tree: Tree
    manifest: Manifest
    targets: Sequence[Target]

    def __call__(self, position: int) -> list[tuple[ClipRecord, Values | None]]:
        """Record and features of the clip at a position, for each target; no features where it is excluded."""
        clip = self.manifest.clips[position].id
        try:
            data = read(self.tree, clip)
        except AudioError as error:
            return [(_excluded(ClipRecord(), clip, error), None)] * len(self.targets)
        source = ClipRecord(source_bytes=len(data), source=digest(data))
        try:
            recording = decode(data, clip)
        except AudioError as error:
            return [(_excluded(source, clip, error), None)] * len(self.targets)
        cache: dict[Decode, Values] = {}
        return [_features(target, recording, clip, source, cache) for target in self.targets]


def target(header: StoreHeader, device: str, tags: TagSource | None = None) -> Target:
    """A store's recipe, ready to compute on a device, or to take rows from the tags that it was planned with.

    Raises
    ------
    TagsError
        When a store of tags is given none, or others than its own.
    """
    audio = waveform_format(header.audio, header.recipe.decode)
    kind = representation(header.recipe.representation)
    source = require_source(header.recipe, tags)
    return Target(header, kind.build(audio, device=device, backend=header.backend.split("-")[0]), source)


def _features(
    made_for: Target, recording: Recording, clip: str, source: ClipRecord, cache: dict[Decode, Values]
) -> tuple[ClipRecord, Values | None]:
    try:
        return source, made_for.features(recording, clip, cache)
    except AudioError as error:
        return _excluded(source, clip, error), None


def _excluded(source: ClipRecord, clip: str, error: AudioError) -> ClipRecord:
    values = "; ".join(f"{d.field}: expected {d.expected}, found {d.found}" for d in error.differences)
    detail = values or error.what.removeprefix(f"{clip} ")
    return source.model_copy(update={"excluded": error.reason, "detail": detail})
