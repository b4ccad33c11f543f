"""Tags as features: one number a tag, made elsewhere and matched to clips (jung2020)."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from ascfeat.dsp.backends import NONE, Values
from ascfeat.representations import Transform
from ascfeat.tags.source import recipe_error
from ascschemas.base import Frozen
from ascschemas.dataset import AudioFormat
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError
from ascschemas.units import Digest


def _refuse(waveforms: Values) -> Values:
    raise RecipeError(
        "Tags are not computed from waveforms.",
        todo="Give their source: --tags, or `tags=` of ascfeat.extract.extract.",
    )


class Tags(Frozen):
    """A row ``(C,)`` of any real numbers a clip; a recipe need not say which, extraction writes them into it."""

    backends: ClassVar[tuple[str, ...]] = (NONE,)

    kind: Literal["tags"] = "tags"
    """Name of the representation."""
    names: tuple[str, ...] = ()
    """One name a tag, in order; filled in by extraction."""
    source: Digest | None = None
    """SHA-256 of what the tags were taken from; filled in by extraction."""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if len({*self.names}) < len(self.names):
            raise ValueError("two tags have one name")
        return self

    def layout(self, audio: AudioFormat) -> Layout:
        """Axis ``(tag)``, whatever the waveforms.

        Raises
        ------
        RecipeError
            Before extraction has filled in the names.
        """
        if not self.names:
            raise recipe_error(self.kind)
        return Layout(quantity="tag value", axes=(Axis(name="tag", size=len(self.names), values=self.names),))

    def build(self, audio: AudioFormat, *, device: str, backend: str) -> Transform:
        """A callable that refuses every waveform: rows come from a tag source, which knows clips by their ids."""
        return _refuse
