"""Every registered family keeps the promise that ascmodels.testing.families makes to plug-in authors."""

from ascmodels.testing.families import FamilyContract
from ascschemas import plugins

for _kind in plugins.names("ascmodels.families"):
    globals()[f"Test_{_kind}"] = type(f"Test_{_kind}", (FamilyContract,), {"kind": _kind})


def test_there_is_something_to_test():
    assert "five_conv" in plugins.names("ascmodels.families")
