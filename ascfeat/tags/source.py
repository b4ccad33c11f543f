"""What tags come from, as extraction sees it: names, a digest, and one row a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ascschemas.dataset import AudioFormat
from ascschemas.problems import AudioError, Difference, RecipeError, TagsError
from ascschemas.recipe import FeatureRecipe

Values = npt.NDArray[np.float32]

KIND: Final = "tags"
"""Name of the representation whose values come from a tag source."""


class Tagger(Protocol):
    """Anybody's callable: a waveform to tags. It may have ``names``, a ``version`` and a ``digest``."""

    def __call__(self, waveform: Values, sample_rate: int, /) -> npt.ArrayLike:
        """Tags ``(C,)`` of a waveform ``(channel, samples)``, full scale at 1."""


@runtime_checkable
class TagSource(Protocol):
    """Where the rows of a tag store come from."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name a tag, in the order of the values."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides the values; another digest is another store."""

    def row(self, clip: str, waveform: Values, sample_rate: int) -> npt.ArrayLike:
        """Tags of a clip, ``(C,)``; it is called from several threads.

        Raises
        ------
        AudioError
            When this clip has none; it is excluded with that reason.
        """


def checked_row(source: TagSource, clip: str, waveform: Values, audio: AudioFormat) -> Values:
    """Tags of a clip, ``(C,)``, float32 and finite, for its waveform of a format.

    Raises
    ------
    AudioError
        With reason ``no-tags`` or ``non-finite``: the clip is excluded.
    TagsError
        When the row is as long as another number of tags.
    """
    row = source.row(clip, waveform, audio.sample_rate)
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
            values = np.asarray(row).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise TagsError(
            f"The tags of {clip} are not numbers: {type(row).__name__} {str(row)[:60]!r}.",
            todo="Correct the tagger: it must give one number a tag.",
        ) from error
    if values.shape != (len(source.names),):
        raise TagsError(
            f"The tags of {clip} are of another shape than the others.",
            differences=[Difference(field="shape", expected=f"({len(source.names)},)", found=str(values.shape))],
            todo="Correct the tagger: it must give one number a tag.",
        )
    if not np.isfinite(values).all():
        first = int(np.argmin(np.isfinite(values)))
        why = f"{clip} has tags that are not finite: {source.names[first]} is {values[first]}."
        raise AudioError("non-finite", why, todo="Correct its row, or leave the recording out.")
    return values


def require_source(recipe: FeatureRecipe, tags: TagSource | None) -> TagSource | None:
    """What a store's rows come from; None for representations that are computed from waveforms.

    Raises
    ------
    TagsError
        When a store of tags is given none, or others than its own.
    """
    if recipe.representation.kind != KIND:
        return None
    expected, found = recipe.representation.values().get("source"), tags.digest if tags else None
    if tags is None or expected != found:
        raise TagsError(
            f"The values of recipe {recipe.name} are tags; they cannot be made from recordings alone.",
            differences=[Difference(field="source", expected=str(expected), found=found or "no tags")],
            todo="Give the tags that the store was made from, with --tags, or use a store of computed features.",
        )
    return tags


def refuse_names(names: Sequence[str], where: str) -> None:
    """Raise where tags have no names, empty ones, or two the same.

    Raises
    ------
    TagsError
        With the names that occur twice.
    """
    twice = sorted({n for n in names if list(names).count(n) > 1}) if len({*names}) < len(names) else []
    if not names or "" in names or twice:
        what = f"{', '.join(twice)} twice" if twice else "an empty name" if names else "no tags"
        raise TagsError(
            f"{where} does not name its tags.",
            differences=[Difference(field="names", expected="a name of its own for each tag", found=what)],
            todo="Give every column a name.",
        )


def recipe_error(name: str) -> RecipeError:
    """The error for a recipe of tags that was given none."""
    return RecipeError(
        f"Recipe {name} holds tags, and was not told where they come from.",
        todo="Add --tags SOURCE: a CSV or .npy file, the folder of a run, or package.module:callable.",
    )
