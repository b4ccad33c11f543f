"""Recipe files as plain values: the part of YAML that a recipe needs, and no more of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

from ascschemas.problems import RecipeError

RECIPE_BYTES: Final = 1 << 18
"""Largest recipe file; those of the package are under 2 kB."""
NODES: Final = 20_000
"""Most values and keys of a recipe, all together."""
KEYS: Final = 1000
"""Most keys of one mapping."""
DEEPEST: Final = 20
"""Levels in which values may lie in each other."""
NUMBER_LENGTH: Final = 64
"""Most characters of a number."""


def read_document(path: Path) -> Any:
    """The value that a YAML file stands for.

    Raises
    ------
    RecipeError
        When it cannot be read, is too large, or is not the plain YAML that ``plain`` reads.
    """
    try:
        with path.open("rb") as file:
            data = file.read(RECIPE_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}.", todo="Check the file.") from error
    if len(data) > RECIPE_BYTES:
        raise RecipeError(f"{path} has more than {RECIPE_BYTES} bytes.", todo="Give the path of a recipe.")
    return plain(data.decode("utf-8", errors="replace"), str(path))


def plain(text: str, where: str) -> Any:
    """The value that a YAML text stands for: numbers, words, lists and mappings, each written out where it stands.

    Tags (``!!python/object`` and all others), anchors, aliases, merged and repeated keys are refused: with them a text
    of a few lines can stand for code, for gigabytes, or for something else than it seems to.

    Parameters
    ----------
    text : str
        The text.
    where : str
        What it is, for messages.

    Raises
    ------
    RecipeError
        When it is anything else.
    """
    try:
        return yaml.load(text, _Plain)  # a SafeLoader that refuses more
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        raise RecipeError(f"{where} is not YAML: {error}", todo="Correct the file.") from error


class _Plain(yaml.SafeLoader):
    """Builds nothing but numbers, words, lists and mappings of words."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._level = self._nodes = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._nodes += 1
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ComposerError(None, None, "anchors and aliases are not read; write the value out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise ComposerError(None, None, f"tags such as {event.tag} are not read", event.start_mark)
        if self._level >= DEEPEST or self._nodes > NODES:
            raise ComposerError(None, None, "there is more in it than in any recipe", event.start_mark)
        self._level += 1
        node: Node | None = super().compose_node(parent, index)
        self._level -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value if isinstance(key, ScalarNode) else None for key, _ in node.value]
        if len(keys) > KEYS:
            raise ConstructorError(None, None, f"{len(keys)} keys are more than any recipe has", node.start_mark)
        for (key, _), name in zip(node.value, keys, strict=True):
            if name is None or key.tag == "tag:yaml.org,2002:merge":
                raise ConstructorError(None, None, "keys must be words", key.start_mark)
            if keys.count(name) > 1:
                raise ConstructorError(None, None, f"the key {name!r} stands there twice", key.start_mark)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        text = isinstance(node, ScalarNode) and node.tag != "tag:yaml.org,2002:str"
        if text and len(node.value) > NUMBER_LENGTH:
            raise ConstructorError(None, None, "a number of so many digits", node.start_mark)
        return super().construct_object(node, deep)
