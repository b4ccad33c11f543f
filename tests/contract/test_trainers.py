"""Every registered trainer keeps the promise that ascmodels.testing.trainers makes to plug-in authors."""

from ascmodels import recipes
from ascmodels.testing.trainers import TrainerContract
from ascschemas import plugins

NEEDS = {"svm": ["family.kind=pooled"]}
"""What trainers ask of a recipe beside their own name."""


class Contract(TrainerContract):
    __test__ = False

    def recipe(self):
        plain = super().recipe
        return recipes.override(plain(), NEEDS.get(self.kind, []))


for _kind in plugins.names("ascmodels.trainers"):
    globals()[f"Test_{_kind}"] = type(f"Test_{_kind}", (Contract,), {"kind": _kind, "__test__": True})


def test_there_is_something_to_test():
    assert {"supervised", "svm"} <= {*plugins.names("ascmodels.trainers")}
