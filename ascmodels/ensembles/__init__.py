"""Published ensembles: one YAML file for the models of a paper that vote, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from pydantic import ValidationError

from ascmodels.documents import plain
from ascschemas.ensemble import Ensemble, Vote
from ascschemas.refusals import refusal


def published() -> tuple[Ensemble, ...]:
    """Every ensemble that ships with this package, by name."""
    found = sorted((f for f in files(__name__).iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return tuple(read(f.read_text(encoding="utf-8"), f.name) for f in found)


def of(recipes: Sequence[str], vote: Vote) -> Ensemble | None:
    """The ensemble that decides so and has these training recipes, each once, as members; None where there is none."""
    alike = (e for e in published() if e.vote == vote and sorted(e.members) == sorted(recipes))
    return next(alike, None)


def read(text: str, where: str) -> Ensemble:
    """An ensemble from YAML.

    Raises
    ------
    RecipeError
        With every problem, by dotted path.
    """
    try:
        return Ensemble.model_validate(plain(text, where))
    except ValidationError as error:
        todo = "Correct these values."
        raise refusal(error, what=f"{where} is not an ensemble.", todo=todo, known=[*Ensemble.model_fields]) from None
