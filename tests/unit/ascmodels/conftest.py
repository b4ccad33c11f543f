"""What the tests of ascmodels share: a small store, and a training recipe that it is enough for."""

from pathlib import Path

import pytest

from ascfeat.store import Store
from ascmodels.testing.stores import make_store, small_recipe
from ascschemas.training import TrainingRecipe


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three classes, two devices, two cities, six locations a class, two segments a location: 72 clips."""
    return make_store(tmp_path / "features" / "scenes" / "made_up.zarr")


@pytest.fixture
def recipe() -> TrainingRecipe:
    """A small five-conv network, a few epochs."""
    return small_recipe()
