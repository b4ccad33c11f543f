"""YAML text to plain values: the door to yaml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from ascschemas.problems import RecipeError

LARGEST: Final = 1 << 18
"""Most characters of a text; the longest recipe that ships has 10,000."""
VALUES: Final = 20_000
"""Most values and keys, those that stand for others by an alias counted again."""


def plain(text: str, where: str) -> Any:
    """The value that a YAML text stands for.

    Aliases are followed, for papers write data that many numbers share once; but not where a few lines would stand
    for millions of values. A key stands once.

    Raises
    ------
    RecipeError
        When it is not YAML, or more of it than any recipe; ``where`` says which text.

    Examples
    --------
    >>> plain("[1, 2.5]", "here"), plain("true", "here"), plain("adam", "here")
    ([1, 2.5], True, 'adam')
    """
    if len(text) > LARGEST:
        raise RecipeError(f"{where} has more than {LARGEST} characters.", todo="Give the path of a training recipe.")
    try:
        return _value(text)
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        raise RecipeError(f"{where} is not YAML: {error}", todo="Correct it.") from error


def _value(text: str) -> Any:
    loader = _Once(text)
    try:
        node = loader.get_single_node()
        if node is not None and _count(node, {}) > VALUES:
            raise ConstructorError(None, None, f"more than {VALUES} values are in it", node.start_mark)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


class _Once(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML takes the last without a word."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and key.value in seen:
                raise ConstructorError(None, None, f"the key {key.value!r} stands there twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _count(node: Node, known: dict[int, int]) -> int:
    """Values beneath a node, itself included; each alias counts what it stands for, and one of itself is endless."""
    if id(node) not in known:
        known[id(node)] = VALUES + 1  # while it is being counted
        known[id(node)] = 1 + sum(_count(inner, known) for inner in _inner(node))
    return known[id(node)]


def _inner(node: Node) -> Iterator[Node]:
    for one in node.value if isinstance(node, CollectionNode) else ():
        yield from one if isinstance(one, tuple) else (one,)
