"""Representations, one kind a file: waveforms to features, and the protocol that they keep."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self

from pydantic import ValidationError

from ascfeat.dsp.backends import Transform
from ascschemas.base import Parameters
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Layout
from ascschemas.plugins import load
from ascschemas.refusals import refusal

__all__ = ["Representation", "Transform", "representation"]


class Representation(Protocol):
    """What a class registered under ``ascfeat.representations`` provides: a frozen, closed pydantic model."""

    backends: ClassVar[tuple[str, ...]]
    """Names of the backends that can compute it, fastest first; ``auto`` takes the first that runs on the device."""

    model_fields: ClassVar[dict[str, Any]]
    """Parameters by name; pydantic's own."""

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
        """The callable that computes the features.

        A kind whose spectra can be corrected has a property ``corrected_n_fft``, the FFT length whose bins coefficients
        multiply, and takes them as ``gain``, a factor a bin or None.
        """
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
        raise refusal(
            error,
            what=f"The parameters of representation {parameters.kind!r} cannot be meant.",
            todo="Correct them in the recipe; `ascfeat recipes show` prints a whole one of any kind.",
            known=[f"representation.{name}" for name in cls.model_fields],
            prefix="representation.",
        ) from error
