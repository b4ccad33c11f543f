"""Every registered trainer keeps the promise that ascmodels.testing.trainers makes to plug-in authors."""

from ascmodels.testing.trainers import TrainerContract
from ascschemas import plugins

for _kind in plugins.names("ascmodels.trainers"):
    globals()[f"Test_{_kind}"] = type(f"Test_{_kind}", (TrainerContract,), {"kind": _kind})


def test_there_is_something_to_test():
    assert "supervised" in plugins.names("ascmodels.trainers")
