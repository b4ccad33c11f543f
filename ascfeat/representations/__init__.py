"""Representations, one kind a file: waveforms to features, and the protocol that they keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from ascschemas.base import Parameters
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Layout
from ascschemas.plugins import load
from ascschemas.problems import RecipeError

Transform = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""Waveforms ``(clip, channel, samples)`` to features ``(clip, *layout.shape)``, both float32; safe from threads."""


class Representation(Protocol):
    """What a class registered under ``ascfeat.representations`` provides: a frozen, closed pydantic model."""

    backends: ClassVar[tuple[str, ...]]
    """Names of the backends that can compute it; the first is the default."""

    @classmethod
    def model_validate(cls, obj: Any) -> Self:
        """Parameters from a mapping that includes ``kind``; pydantic's own."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Every parameter, defaults written out; pydantic's own."""
        ...

    def layout(self, audio: AudioFormat) -> Layout:
        """Axes of one clip's features for waveforms of a format, by arithmetic alone.

        Raises
        ------
        RecipeError
            When the parameters make no sense for that format.
        """
        ...

    def build(self, audio: AudioFormat, *, device: str, backend: str) -> Transform:
        """The callable that computes the features."""
        ...


def representation(parameters: Parameters) -> Representation:
    """The representation that a recipe's second slot names, its parameters checked.

    Raises
    ------
    UnknownName
        When no plug-in answers to the kind.
    RecipeError
        When a parameter is unknown, missing or out of range; all of them are listed.
    """
    cls: type[Representation] = load("ascfeat.representations", parameters.kind)
    try:
        return cls.model_validate(parameters.model_dump(mode="json"))
    except ValidationError as error:
        raise RecipeError(
            f"The parameters of representation {parameters.kind!r} cannot be meant:\n{problem_lines(error)}",
            todo="Correct them in the recipe; `ascfeat recipes` lists recipes to start from.",
        ) from error


def problem_lines(error: ValidationError) -> str:
    """Every problem of a validation, one a line: where, what, and the value that was found."""
    return "\n".join(
        f"  {'.'.join(str(part) for part in e['loc']) or 'all'}: {e['msg']} (found {e['input']!r})"
        for e in error.errors()
    )
