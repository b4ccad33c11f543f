"""Every registered family keeps the promise that ascmodels.testing.families makes to plug-in authors."""

import pytest

from ascmodels.testing.families import contracts
from ascschemas import plugins

for _kind in plugins.names("ascmodels.families"):
    _contracts = contracts(_kind)
    if len(_contracts) > 1:  # it has small presets because its default is large
        pytest.mark.slow(_contracts[f"Test_{_kind}"])
    globals().update(_contracts)


def test_there_is_something_to_test():
    assert "five_conv" in plugins.names("ascmodels.families")
