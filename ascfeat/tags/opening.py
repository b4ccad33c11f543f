"""From what a person gives to a tag source, and from a recipe of tags to the recipe of its store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ascfeat.audio import waveform_format
from ascfeat.tags.source import KIND, Tagger, TagSource, recipe_error
from ascfeat.tags.table import TagTable, from_csv, from_npy
from ascfeat.tags.tagger import imported, offered, tagging
from ascschemas.base import Parameters
from ascschemas.dataset import AudioFormat
from ascschemas.problems import RecipeError, TagsError, differences
from ascschemas.recipe import FeatureRecipe

Given = str | Path | Tagger | TagSource
"""What tags may be given as: a path, ``package.module:callable``, a callable, or a source (``tag_table`` makes one)."""


def open_tags(given: Given, clips: Sequence[str], audio: AudioFormat, *, device: str = "cpu") -> TagSource:
    """A source of tags for the clips of a dataset.

    Parameters
    ----------
    given : path, str, callable or TagSource
        A ``.csv`` or ``.npy`` file; a file or folder that a package registered under ``ascfeat.taggers`` knows, such as
        a run of ascmodels; ``package.module:callable``; or such an object itself.
    clips : sequence of str
        Ids of the dataset's clips, in order.
    audio : AudioFormat
        Format of the waveforms that a callable will be given.
    device : str
        Where a run computes.

    Raises
    ------
    TagsError
        When there is nothing there, or it does not fit the clips.
    """
    if isinstance(given, TagSource):
        return given
    if not isinstance(given, str | Path):
        return tagging(given, audio)
    path, said = Path(given), str(given)
    if path.exists():
        tables = {".csv": from_csv, ".npy": from_npy}
        if path.is_file() and path.suffix.lower() in tables:
            return tables[path.suffix.lower()](path, clips)
        return tagging(offered(path, device), audio, path.name)
    if ":" in said:
        return tagging(imported(said), audio, said)
    raise TagsError(
        f"There is no file or folder {said} to take tags from.",
        todo="Give a .csv or .npy file, the folder of a run, or package.module:callable.",
    )


def sources_for(
    recipes: Sequence[FeatureRecipe], given: Given | None, clips: Sequence[str], audio: AudioFormat, *, device: str
) -> list[TagSource | None]:
    """The tag source of each recipe; None for those that are computed from waveforms.

    Raises
    ------
    RecipeError
        When a recipe of tags is given none, or tags are given and no recipe takes them.
    TagsError
        When they cannot be opened.
    """
    takers = [r for r in recipes if r.representation.kind == KIND]
    if takers and given is None:
        raise recipe_error(takers[0].name)
    if given is None:
        return [None] * len(recipes)
    if not takers:
        raise RecipeError(
            f"Tags were given, and no recipe takes them: {', '.join(r.name for r in recipes)}.",
            todo="Add --recipe tags, or leave --tags out.",
        )
    opened = {r.name: open_tags(given, clips, waveform_format(audio, r.decode), device=device) for r in takers}
    return [opened.get(r.name) for r in recipes]


def for_other_clips(recipe: FeatureRecipe, source: TagSource) -> FeatureRecipe:
    """A store's recipe as of a table of other recordings, if it names the same tags; unchanged for other sources.

    A tagger must be the very one that the store was made by; a table is of its recordings alone.
    """
    said = recipe.representation.values()
    if not isinstance(source, TagTable) or list(source.names) != list(said.get("names") or ()):
        return recipe
    theirs = Parameters.model_validate({"kind": KIND, **said, "source": source.digest})
    return recipe.model_copy(update={"representation": theirs})


def with_tags(recipe: FeatureRecipe, source: TagSource | None) -> FeatureRecipe:
    """The recipe of a store: names and digest of its tags written out; unchanged where there is no source.

    Raises
    ------
    TagsError
        When the recipe says already which tags it holds, and they are others.
    """
    if source is None:
        return recipe
    filled = {"names": list(source.names), "source": source.digest}
    said = {name: value for name, value in recipe.representation.values().items() if value}
    if apart := differences(said, {name: filled[name] for name in said}):
        raise TagsError(
            f"Recipe {recipe.name} is of other tags than these.",
            differences=apart,
            todo="Give the tags that it names, or remove `names` and `source` from it.",
        )
    return recipe.model_copy(update={"representation": Parameters.model_validate({"kind": KIND, **filled})})
