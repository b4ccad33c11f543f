"""The work on one clip, and on many at once: threads ahead of the consumer, never far ahead, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ascfeat.audio import Recording, decode, waveform, waveform_format
from ascfeat.datasets.tree import Tree
from ascfeat.digests import own_digests
from ascfeat.representations import Representation, Transform, representation
from ascfeat.tags import TagSource, checked_row, require_source
from ascschemas.problems import AudioError
from ascschemas.recipe import Decode
from ascschemas.store import ClipRecord, StoreHeader

Values = npt.NDArray[np.float32]
OfClip = tuple[ClipRecord, Values | None]
"""What became of a clip, and its features where it has some."""

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
                wait((waiting[len(waiting) // 2],))  # not for the first: waking for each one takes the workers' time
                yield waiting.popleft().result()
                while waiting and waiting[0].done():
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Reuse(Protocol):
    """What is known of clips already, from stores that hold them; ``ascfeat.reuse`` finds it."""

    def values(self, clip_id: str, position: int) -> OfClip | None:
        """What became of a clip of the list, or None where it must be computed."""


@dataclass(frozen=True)
class Target:
    """A store's recipe made ready: from a recording to its features."""

    header: StoreHeader
    transform: Transform
    """For recordings of devices that are corrected by nothing."""
    tags: TagSource | None = None
    """Where rows come from instead, for a store of tags."""
    reuse: Reuse | None = None
    """What is asked for a clip's features before its recording is read."""
    corrected: Mapping[str, Transform] = field(default_factory=dict)
    """By device, for those that are corrected by something."""
    devices: Mapping[str, str] = field(default_factory=dict)
    """Device of each clip, where there is something to correct."""

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
        transform = self.corrected.get(self.devices.get(clip, ""), self.transform)
        values: Values = transform(waveform[None])[0]
        return values


@dataclass(frozen=True)
class OneClip:
    """The work on one clip: read and decode once, then the features of every target that wants it."""

    tree: Tree
    targets: Sequence[Target]

    def __call__(self, position: int, clip: str) -> list[OfClip]:
        """Record and features of a clip of the list, for each target; no features where it is excluded."""
        known = [t.reuse.values(clip, position) if t.reuse else None for t in self.targets]
        lacking = [t for t, k in zip(self.targets, known, strict=True) if k is None]
        computed = iter(_computed(self.tree, clip, lacking) if lacking else ())
        return [next(computed) if k is None else k for k in known]


def target(
    header: StoreHeader,
    device: str,
    tags: TagSource | None = None,
    reuse: Reuse | None = None,
    *,
    devices: Mapping[str, str] | None = None,
) -> Target:
    """A store's recipe, ready to compute on a device, or to take rows from the tags that it was planned with.

    Parameters
    ----------
    devices : mapping, optional
        What recorded each clip, by its id, where the recipe corrects devices; what is not named is not corrected.

    Raises
    ------
    TagsError
        When a store of tags is given none, or others than its own.
    """
    source, backend = require_source(header.recipe, tags), header.backend.split("-")[0]
    plain, corrected = transforms(header, representation(header.recipe.representation), device=device, backend=backend)
    return Target(header, plain, source, reuse, corrected, dict(devices or {}) if corrected else {})


def transforms(
    header: StoreHeader, kind: Representation, *, device: str, backend: str
) -> tuple[Transform, dict[str, Transform]]:
    """What computes a store's features: of recordings that are corrected by nothing, and by recording device."""
    audio, correction = waveform_format(header.audio, header.recipe.decode), header.recipe.correction
    plain = kind.build(audio, device=device, backend=backend)
    if correction is None:
        return plain, {}
    build = partial(cast(Any, kind).build, audio, device=device, backend=backend)
    return plain, {name: build(gain=correction.of_device(name)) for name in correction.devices}


def recorded_by(header: StoreHeader, clips: Sequence[str], devices: Sequence[str]) -> dict[str, str]:
    """What recorded each clip, for a store that corrects devices; nothing for any other."""
    return dict(zip(clips, devices, strict=True)) if header.recipe.correction else {}


def _computed(tree: Tree, clip: str, targets: Sequence[Target]) -> list[OfClip]:
    """Record and features of a clip, from its recording, for each target."""
    try:
        data, content = own_digests().read(tree, clip)
    except AudioError as error:
        return [(_excluded(ClipRecord(), clip, error), None)] * len(targets)
    source = ClipRecord(source_bytes=len(data), source=content)
    try:
        recording = decode(data, clip)
    except AudioError as error:
        return [(_excluded(source, clip, error), None)] * len(targets)
    cache: dict[Decode, Values] = {}
    return [_features(target, recording, clip, source, cache) for target in targets]


def _features(
    made_for: Target, recording: Recording, clip: str, source: ClipRecord, cache: dict[Decode, Values]
) -> OfClip:
    try:
        return source, made_for.features(recording, clip, cache)
    except AudioError as error:
        return _excluded(source, clip, error), None


def _excluded(source: ClipRecord, clip: str, error: AudioError) -> ClipRecord:
    return source.model_copy(update={"excluded": error.reason, "detail": error.detail(clip)})
