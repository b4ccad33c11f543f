"""The contract of a representation: run these against your own, as our tests run them against ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ascfeat.representations import Representation, Transform, representation
from ascfeat.tags import TagSource, checked_row
from ascschemas.base import Parameters, canonical_json
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Layout

Values = npt.NDArray[np.float32]


def waveforms(audio: AudioFormat, clips: int = 3, seed: int = 0) -> Values:
    """Noise of the given format, ``(clip, channel, samples)``, each clip louder than the one before."""
    noise = np.random.default_rng(seed).standard_normal((clips, audio.channels, audio.frames))
    return (0.01 * 2.0 ** np.arange(clips)[:, None, None] * noise).astype(np.float32)


def check_representation(
    parameters: dict[str, Any], audio: AudioFormat, *, device: str = "cpu", tags: TagSource | None = None
) -> None:
    """Hold a representation to every promise the toolkit builds on.

    Parameters
    ----------
    parameters : dict
        ``kind`` and the parameters to try, as in a recipe's second slot.
    audio : AudioFormat
        Format of the waveforms to try them on.
    device : str
        Where to compute.
    tags : TagSource, optional
        Where the rows of a representation of kind ``tags`` come from.

    Raises
    ------
    AssertionError
        When a promise is broken; the message says which.
    """
    kind = representation(Parameters.model_validate(parameters))
    _parameters_round_trip(kind)
    for backend in kind.backends:
        transform = _of_tags(tags, audio) if tags else kind.build(audio, device=device, backend=backend)
        x = waveforms(audio)
        values = transform(x)
        _shape_is_planned(kind.layout(audio), backend, values)
        _values_ignore_their_batch(x, values, backend, transform)
        _louder_is_another_value(x, values, backend, transform)


def _of_tags(source: TagSource, audio: AudioFormat) -> Transform:
    return lambda x: np.stack([checked_row(source, f"{i}.wav", one, audio) for i, one in enumerate(x)])


def _parameters_round_trip(kind: Representation) -> None:
    dumped = kind.model_dump(mode="json")
    again = type(kind).model_validate(dumped)
    assert canonical_json(again.model_dump(mode="json")) == canonical_json(dumped), "parameters do not survive JSON"
    assert dumped.get("kind"), "parameters do not name their kind"


def _shape_is_planned(layout: Layout, backend: str, values: Values) -> None:
    assert values.dtype == np.float32, f"{backend} returns {values.dtype}, not float32"
    assert values.shape == (3, *layout.shape), f"{backend} returns {values.shape[1:]}, layout() says {layout.shape}"
    assert np.isfinite(values).all(), f"{backend} returns values that are not finite"
    assert all(len(a.coordinates()) == a.size for a in layout.axes), "an axis lacks coordinates"


def _values_ignore_their_batch(x: Values, whole: Values, backend: str, transform: Transform) -> None:
    assert np.array_equal(whole[::-1], transform(x[::-1].copy())), f"{backend}: values depend on the order of clips"
    assert np.array_equal(whole[1:2], transform(x[1:2])), f"{backend}: values depend on the batch they are in"


def _louder_is_another_value(x: Values, whole: Values, backend: str, transform: Transform) -> None:
    """A representation keeps the level: scaling every clip by its own maximum loses what tells scenes apart."""
    softer = transform(x[:1] / np.float32(2))
    assert not np.array_equal(whole[:1], softer), f"{backend}: the level of a recording is lost"
