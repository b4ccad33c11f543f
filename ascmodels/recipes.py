"""Training recipes completed and changed: plug-in parameters checked, defaults written out, ``--set`` applied."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ascmodels.documents import plain
from ascmodels.families.base import Family
from ascmodels.trainers.base import Trainer
from ascschemas import plugins
from ascschemas.base import Frozen, Parameters
from ascschemas.problems import Difference, RecipeError, UnknownName, nearest
from ascschemas.refusals import refusal
from ascschemas.training import TrainingRecipe

SLOTS = {"family": "ascmodels.families", "trainer": "ascmodels.trainers"}
"""Fields filled by plug-ins, and their entry-point tables."""
BASES: dict[str, type[Frozen]] = {"family": Family, "trainer": Trainer}
"""What a plug-in of each must be a class of."""
SAID = ("name", "title", "sources", "claims")
"""Fields that describe a recipe and cannot be set from the command line."""
COMMAND_LINE = "command line"
"""Source of a value that was set there."""


def resolve(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe with every default written out, its plug-in parameters checked, and a source for every value.

    What is said of ``schedule`` holds for every value in it that has no source of its own.

    Raises
    ------
    RecipeError
        When a plug-in refuses its parameters.
    UnknownName
        When no plug-in answers to a ``kind``.
    """
    full = recipe.model_copy(update={slot: _completed(slot, getattr(recipe, slot)) for slot in SLOTS})
    sources = {path: source_of(path, recipe.sources) or "default" for path in full.hyper_parameters}
    _require_tags(full)
    family(full).agree(full)
    return full.model_copy(update={"sources": sources})


def family(recipe: TrainingRecipe) -> Family:
    """The model family of a recipe, its parameters checked."""
    made = _plugin("family", recipe.family)
    assert isinstance(made, Family)
    return made


def trainer(recipe: TrainingRecipe) -> Trainer:
    """The trainer of a recipe, its parameters checked."""
    made = _plugin("trainer", recipe.trainer)
    assert isinstance(made, Trainer)
    return made


def validated(values: Mapping[str, Any], where: str) -> TrainingRecipe:
    """A training recipe from plain values.

    Raises
    ------
    RecipeError
        With every problem, by dotted path; unknown keys come with the nearest known one.
    """
    try:
        made = TrainingRecipe.model_validate(values)
    except ValidationError as error:
        raise refusal(
            error,
            what=f"{where} is not a training recipe.",
            todo="Correct these values; `ascmodels papers show NAME` prints a whole recipe.",
            known=[*_paths(TrainingRecipe)],
            unions=("objective", "optimiser", "schedule"),
            optional=[*_paths(TrainingRecipe, only=_may_be_none)],
        ) from None
    _refuse_truths(values, made.model_dump(mode="json"), f"{where} is not a training recipe.")
    return made


def override(recipe: TrainingRecipe, settings: Sequence[str]) -> TrainingRecipe:
    """Apply ``--set key=value`` to a recipe and complete it.

    A new ``kind`` keeps the values that both kinds know and takes defaults for the rest. What was set has the source
    ``command line``.

    Parameters
    ----------
    recipe : TrainingRecipe
        The recipe to change.
    settings : sequence of str
        ``key=value`` with dotted keys; values are read as YAML, and ``none`` is no value.

    Raises
    ------
    RecipeError, UnknownName
        When a key is unknown (the nearest are suggested), or a value is refused.
    """
    full = resolve(recipe)
    values = full.model_dump(mode="json")
    pairs = sorted((_pair(s) for s in settings), key=lambda pair: not pair[0].endswith("kind"))  # kinds first
    for key, value in pairs:
        _change(values, key, value)
    keys = {key for key, _ in pairs}
    kept = {
        k: v for k, v in full.sources.items() if v != "default" and not any(_one_holds_the_other(k, s) for s in keys)
    }
    values["sources"] = kept | dict.fromkeys(keys, COMMAND_LINE)
    return resolve(
        validated(values, f"{recipe.name} with {', '.join(dict.fromkeys(k for k, _ in pairs)) or 'nothing'} set")
    )


def _require_tags(recipe: TrainingRecipe) -> None:
    """Refuse clips with several tags where the trainer knows classes only."""
    if recipe.tags and not trainer(recipe).takes_tags:
        raise RecipeError(
            f"The trainer {recipe.trainer.kind} cannot train clips with several tags.",
            differences=[Difference(field="objective.kind", expected="one of classes", found=recipe.objective.kind)],
            todo="Set trainer.kind=supervised, or another objective.",
        )


def source_of(path: str, sources: Mapping[str, str]) -> str:
    """Who says so: of the value, or of the nearest part of the recipe that holds it; empty where nobody is named."""
    while path not in sources and "." in path:
        path = path.rpartition(".")[0]
    return sources.get(path, "")


def _one_holds_the_other(a: str, b: str) -> bool:
    return f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.")


def _change(values: dict[str, Any], key: str, value: Any) -> None:
    known = sorted({*_paths(TrainingRecipe), *_plugin_paths(values)} - {*SAID, *SLOTS})
    if key.partition(".")[0] in SAID:
        raise UnknownName(
            f"{key} describes a recipe and changes nothing that is computed: it is not set from the command line.",
            todo="Write a YAML file of your own that says it, and give its path in place of the recipe's name.",
        )
    if key not in known:
        raise UnknownName(
            f"There is nothing called {key!r} to set: {nearest(key, known)}",
            todo=f"Name one that there is; `ascmodels papers show {values['name']}` lists those of the recipe.",
        )
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        if not isinstance(place.get(parent), dict):
            place[parent] = {}
        place = place[parent]
    place[last] = value
    if last == "kind":
        _forget_strangers(place, _fields(parents[-1], value))


def _forget_strangers(place: dict[str, Any], fields: set[str]) -> None:
    for stranger in set(place) - fields - {"kind"}:
        del place[stranger]


def _fields(slot: str, kind: Any) -> set[str]:
    """Parameters of a kind of family, trainer, objective, optimiser or schedule."""
    if slot in SLOTS:
        return set(_class(slot, str(kind)).model_fields)
    models = _models(TrainingRecipe.model_fields[slot].annotation)
    return {name for m in models if m.model_fields["kind"].default == kind for name in m.model_fields}


def _plugin_paths(values: Mapping[str, Any]) -> Iterator[str]:
    for slot in SLOTS:
        yield from (f"{slot}.{name}" for name in _fields(slot, values[slot]["kind"]))


def _pair(setting: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals:
        raise RecipeError(f"{setting!r} sets nothing.", todo="Write --set key=value, such as --set epochs=5.")
    value = plain(text, key)
    return key.strip(), None if value == "none" else value


def _completed(slot: str, parameters: Parameters) -> Parameters:
    made = _plugin(slot, parameters)
    return Parameters.model_validate({"kind": parameters.kind, **made.model_dump(mode="json")})


def _plugin(slot: str, parameters: Parameters) -> Frozen:
    model = _class(slot, parameters.kind)
    try:
        made = model.model_validate(parameters.values())
    except ValidationError as error:
        raise refusal(
            error,
            what=f"The {slot} {parameters.kind} does not accept these parameters.",
            todo="Correct these values, or leave them out for the defaults.",
            known=[f"{slot}.{name}" for name in model.model_fields],
            prefix=f"{slot}.",
            optional=[*_paths(model, f"{slot}.", only=_may_be_none)],
        ) from None
    what = f"The {slot} {parameters.kind} does not accept these parameters."
    _refuse_truths({slot: parameters.values()}, {slot: made.model_dump(mode="json")}, what)
    return made


def _class(slot: str, kind: str) -> type[Frozen]:
    """The class that is registered under a name, if it is one of what it should be and can be made."""
    found, base = plugins.load(SLOTS[slot], kind), BASES[slot]
    made = isinstance(found, type) and issubclass(found, base)
    if made and not inspect.isabstract(found):
        return cast(type[Frozen], found)
    lacks = f"{found.__qualname__} without {', '.join(sorted(found.__abstractmethods__))}" if made else repr(found)
    raise RecipeError(
        f"What is registered as the {slot} {kind!r} is none.",
        differences=[Difference(field=kind, expected=f"a class of {base.__module__}.{base.__name__}", found=lacks)],
        todo="Tell the author of the package that registers it.",
    )


def _refuse_truths(said: Any, kept: Any, what: str) -> None:
    """Refuse ``true`` and ``false`` where a number was made of them."""
    found = [
        Difference(field=path, expected="a number", found=str(value).lower()) for path, value in _truths(said, kept)
    ]
    if found:
        raise RecipeError(what, differences=found, todo="Write the number that is meant.")


def _truths(said: Any, kept: Any, path: str = "") -> Iterator[tuple[str, bool]]:
    """Paths of booleans that were read as numbers."""
    if isinstance(said, bool):
        if not isinstance(kept, bool):
            yield path, said
    elif isinstance(said, Mapping) and isinstance(kept, Mapping):
        for key in said.keys() & kept.keys():
            yield from _truths(said[key], kept[key], f"{path}.{key}".lstrip("."))
    elif isinstance(said, list | tuple) and isinstance(kept, list | tuple):
        for i, (one, made) in enumerate(zip(said, kept, strict=False)):
            yield from _truths(one, made, f"{path}.{i}")


def _may_be_none(field: FieldInfo) -> bool:
    return types.NoneType in get_args(field.annotation)


def _paths(
    model: type[BaseModel], prefix: str = "", *, only: Callable[[FieldInfo], bool] = lambda _: True
) -> Iterator[str]:
    """Every dotted path that some recipe may have, or only those of some fields."""
    for name, field in model.model_fields.items():
        if only(field):
            yield f"{prefix}{name}"
        for inner in _models(field.annotation):
            yield from _paths(inner, f"{prefix}{name}.", only=only)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The schemas that a field may hold: itself, or the members of its union."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for a in get_args(annotation) for m in _models(a)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
