"""The examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

PACKAGES = ("ascschemas", "ascfeat", "ascmodels", "asccli")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    packages = [importlib.import_module(name) for name in PACKAGES]
    inside = [found.name for p in packages for found in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
    return [*PACKAGES, *inside]


@pytest.mark.parametrize("name", modules())
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0
