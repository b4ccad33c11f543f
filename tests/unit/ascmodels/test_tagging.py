"""Tags as rows, refused combinations, and a tagger trained from a made-up store of labels with commas."""

import numpy as np
import pytest

from ascmodels import recipes
from ascmodels.sides import divide, held_off
from ascmodels.tagging import multi_hot
from ascschemas.problems import RecipeError, RunError
from ascschemas.training import TrainingRecipe

SMALL = {
    "name": "tags",
    "features": "powers",
    "normalise": None,
    "family": {"kind": "tagger_resnet34", "widths": [4, 8], "depths": [1, 1], "hidden": 8},
    "objective": {"kind": "binary_cross_entropy"},
    "optimiser": {"kind": "adam"},
    "epochs": 1,
}


def recipe(*settings):
    return recipes.override(TrainingRecipe.model_validate(SMALL), settings)


class Table:
    """What is known of some clips."""

    def __init__(self, labels, train=None):
        n = len(labels)
        self.place, self.labels = "here", tuple(labels)
        self.ids = tuple(f"{i}.wav" for i in range(n))
        self.devices = tuple("noisy" if i % 4 == 3 else "curated" for i in range(n))
        self.cities = self.locations = self.segments = ("",) * n
        self.usable = np.ones(n, dtype=bool)
        self.side = np.array(["train"] * (train or n // 2) + ["test"] * (n - (train or n // 2)))

    def sides(self, split):
        return self.side


def test_rows_of_tags():
    assert multi_hot(["b, a", "c,a,a", "z"], ("a", "b", "c")).tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 0]]


def test_tags_that_are_only_tested_are_refused_and_combinations_are_not():
    divide(
        Table(["a,b", "b", "a", "b,a"], 2), "s", recipe("selection.side=last", "selection.fraction=0", "batch_size=1")
    )
    with pytest.raises(RunError, match="cannot be trained on") as refused:
        divide(Table(["a,b", "b", "a", "b,c"], 2), "s", recipe("batch_size=1"))
    assert refused.value.differences[0].found == "1 classes only tested: c"


def test_a_label_with_commas_is_one_class_to_every_other_objective():
    plain = recipe("objective.kind=cross_entropy", "family.kind=pooled")
    assert plain.classes_of("shop, large") == ("shop, large",)
    assert recipe().classes_of("shop, large") == ("shop", "large")
    with pytest.raises(RunError) as refused:
        divide(Table(["a,b", "b", "a,b", "b,a"], 2), "s", recipes.override(plain, ["batch_size=1"]))
    assert refused.value.differences[0].found == "1 classes only tested: b,a"


def test_every_tag_gives_its_share_to_validation_and_noisy_clips_give_none():
    labels = ["a,b" if i % 2 else "b" for i in range(80)]
    table = Table([*labels, "a", "b"], 80)
    both = recipe("family.second_head=true", "objective.second_head=noisy", "selection.fraction=0.25", "batch_size=4")
    sides = divide(table, "s", both)
    assert {table.devices[c] for c in sides.validation} == {"curated"}
    assert "noisy" in {table.devices[c] for c in sides.train}
    alone = held_off(table, np.arange(80), 0.25, 0, both.classes_of)
    assert sum("a" in table.labels[int(i.removesuffix(".wav"))] for i in alone) == pytest.approx(
        10, abs=5
    )  # those of b, too
    assert len(alone) == pytest.approx(20, abs=2)


@pytest.mark.parametrize(("settings", "field"), [
    (["family.second_head=true"], "objective.second_head"),
    (["objective.second_head=noisy"], "objective.second_head"),
    (["normalise=band"], "normalise"),
    (["trainer.kind=svm", "family.kind=pooled"], "objective.kind"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(settings, field):
    with pytest.raises(RecipeError) as refused:
        recipe(*settings)
    assert [d.field for d in refused.value.differences] == [field]


def test_classes_cannot_be_balanced_where_clips_have_tags():
    with pytest.raises(RecipeError) as refused:
        recipe("sampler=class_device")
    assert "in no one class" in str(refused.value)
    assert recipe("sampler=device").sampler == "device"
