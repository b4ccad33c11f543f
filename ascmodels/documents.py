"""YAML text to plain values: the door to yaml."""

from __future__ import annotations

from typing import Any

import yaml

from ascschemas.problems import RecipeError


def plain(text: str, where: str) -> Any:
    """The value that a YAML text stands for.

    Raises
    ------
    RecipeError
        When it is not YAML; ``where`` says which text.

    Examples
    --------
    >>> plain("[1, 2.5]", "here"), plain("true", "here"), plain("adam", "here")
    ([1, 2.5], True, 'adam')
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{where} is not YAML: {error}", todo="Correct it.") from error
