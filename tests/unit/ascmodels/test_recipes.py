"""Training recipes are completed by their plug-ins, and changed by --set."""

from importlib.metadata import EntryPoint

import pytest

from ascmodels import recipes
from ascmodels.families.five_conv import FiveConv
from ascschemas import plugins
from ascschemas.base import Parameters
from ascschemas.optimisation import Adadelta, Sgd
from ascschemas.problems import RecipeError, UnknownName
from ascschemas.training import CrossEntropy, Mixup, TrainingRecipe


def test_every_default_is_written_out_with_a_source(recipe):
    values = recipe.hyper_parameters
    assert values["family.strides"] == [1, 2, 1, 2, 1]
    assert values["trainer.channels_last"] is True
    assert set(recipe.sources) == set(values)
    assert recipes.resolve(recipe) == recipe
    assert recipes.family(recipe) == FiveConv(widths=(4, 4, 8, 8, 8), norm_momentum=0.1)


def test_a_default_written_out_or_left_out_is_the_same_recipe(recipe):
    short = recipe.model_dump(mode="json")
    short["family"] = {"kind": "five_conv", "widths": [4, 4, 8, 8, 8], "norm_momentum": 0.1}
    assert recipes.resolve(TrainingRecipe.model_validate(short)).fingerprint == recipe.fingerprint


def test_values_are_set_by_dotted_path_and_known_as_set(recipe):
    changed = recipes.override(
        recipe,
        [
            "epochs=5",
            "objective.temperature=10",
            "family.widths=[2,2,2,2,2]",
            "augmentation.mixup.share=batch",
            "seed=7",
        ],
    )
    assert (changed.epochs, changed.seed, changed.objective.temperature) == (5, 7, 10)
    assert changed.augmentation.mixup == Mixup(alpha=0.2, share="batch")
    assert recipes.family(changed) == FiveConv(widths=(2, 2, 2, 2, 2), norm_momentum=0.1)
    said = {k for k, v in changed.sources.items() if v == recipes.COMMAND_LINE}
    assert said == {"epochs", "objective.temperature", "family.widths", "augmentation.mixup.share", "seed"}
    assert recipes.override(recipe, []) == recipe


def test_none_removes_and_a_part_of_what_is_absent_brings_it(recipe):
    without = recipes.override(recipe, ["augmentation.mixup=none"])
    assert without.augmentation.mixup is None
    assert without.sources["augmentation.mixup"] == recipes.COMMAND_LINE
    assert recipes.override(without, ["augmentation.mixup.alpha=0.4"]).augmentation.mixup == Mixup(alpha=0.4)


def test_another_kind_keeps_what_both_know(recipe):
    changed = recipes.override(recipe, ["optimiser.momentum=0.9", "optimiser.kind=sgd", "objective.kind=cross_entropy"])
    assert changed.optimiser == Sgd(lr=0.01, momentum=0.9)
    assert changed.objective == CrossEntropy(temperature=2)
    assert recipes.override(recipe, ["optimiser.kind=adadelta"]).optimiser == Adadelta(lr=0.01, eps=1e-8)


@pytest.mark.parametrize(
    ("setting", "suggested"),
    [("epoch=3", "epochs"), ("objective.temprature=1", "objective.temperature"), ("family.width=3", "family.widths")],
)
def test_unknown_keys_suggest_the_nearest(recipe, setting, suggested):
    with pytest.raises(UnknownName, match=suggested):
        recipes.override(recipe, [setting])


@pytest.mark.parametrize("setting", ["name=x", "sources.epochs=x", "family=five_conv", "claims=[]"])
def test_what_describes_a_recipe_cannot_be_set(recipe, setting):
    with pytest.raises(UnknownName):
        recipes.override(recipe, [setting])


def test_every_refused_value_is_named_with_what_was_given(recipe):
    with pytest.raises(RecipeError) as refused:
        recipes.override(recipe, ["epochs=0", "optimiser.lr=-1", "objective.temperature=hot"])
    found = {d.field: d.found for d in refused.value.differences}
    assert found == {"epochs": "0", "optimiser.lr": "-1", "objective.temperature": "'hot'"}


def test_a_plug_in_refuses_its_own_parameters(recipe):
    with pytest.raises(RecipeError) as refused:
        recipes.override(recipe, ["family.kernel=0", "family.norm_eps=0"])
    assert [d.field for d in refused.value.differences] == ["family.kernel", "family.norm_eps"]
    with pytest.raises(RecipeError, match=r"did you mean family\.widths"):
        recipes.resolve(recipe.model_copy(update={"family": recipe.family.model_copy(update={"width": 3})}))


@pytest.mark.parametrize("setting", ["family.kind=six_conv", "trainer.kind=superwised"])
def test_unknown_plug_ins_suggest_the_nearest(recipe, setting):
    with pytest.raises(UnknownName, match=r"five_conv|supervised"):
        recipes.override(recipe, [setting])


@pytest.mark.parametrize("setting", ["epochs", "", "epochs=[1"])
def test_what_sets_nothing_is_refused(recipe, setting):
    with pytest.raises(RecipeError):
        recipes.override(recipe, [setting])


def test_a_file_that_is_no_recipe_lists_every_problem():
    with pytest.raises(RecipeError) as refused:
        recipes.validated({"name": "x", "objektive": {}, "optimiser": {"kind": "sgd", "lrr": 1}}, "x.yaml")
    fields = {d.field: d.expected for d in refused.value.differences}
    assert "did you mean objective" in fields["objektive"]
    assert "did you mean optimiser.lr" in fields["optimiser.lrr"]
    assert {"features", "family", "objective", "epochs"} <= set(fields)


def test_what_is_registered_and_is_no_trainer_is_said(monkeypatch, recipe):
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint("mine", "math:cos", group)])
    with pytest.raises(RecipeError, match=r"expected a class of ascmodels\.trainers\.base\.Trainer.*built-in"):
        recipes.trainer(recipe.model_copy(update={"trainer": Parameters(kind="mine")}))


@pytest.mark.parametrize(
    ("setting", "field", "expected", "found"),
    [
        ("batch_size=true", "batch_size", "a number", "true"),
        ("family.widths=[4,4,true,8,8]", "family.widths.2", "a number", "true"),
        ("optimiser.lr=true", "optimiser.lr", "a number", "true"),
        ("normalise=banana", "normalise", "'band', or none", "'banana'"),
        ("family.widths=[1,2]", "family", "values that can be meant together", "2 widths and 5 strides: "),
        ("features=[]", "features", "a list of at least 1", "nothing in it"),
        ("features=none", "features", "a value, or a list of them", "none"),
        ("features={a: 1}", "features", "a value, or a list of them", "what is written there"),
        ("features=[x, x]", "as a whole", "values that can be meant together", "features names a store twice: x, x"),
        ("optimiser=adam", "optimiser", "keys with their values, such as kind", "'adam'"),
    ],
)
def test_refusals_are_in_the_words_of_recipes(recipe, setting, field, expected, found):
    with pytest.raises(RecipeError) as refused:
        recipes.override(recipe, [setting])
    (row,) = refused.value.differences
    assert (row.field, row.expected) == (field, expected)
    assert row.found.startswith(found)


def test_true_and_false_are_themselves_where_they_are_asked_for(recipe):
    assert recipes.override(recipe, ["trainer.channels_last=false"]).trainer.values()["channels_last"] is False


def test_a_key_that_is_set_twice_is_named_once_and_the_last_counts(recipe):
    assert recipes.override(recipe, ["epochs=1", "epochs=2"]).epochs == 2
    with pytest.raises(RecipeError, match="small with epochs, seed set is"):
        recipes.override(recipe, ["epochs=0", "seed=1", "epochs=0"])


@pytest.mark.parametrize("setting", ["claims=[]", "name=x", "sources.epochs=x"])
def test_what_describes_a_recipe_is_said_to_be_that(recipe, setting):
    with pytest.raises(UnknownName, match="describes a recipe") as refused:
        recipes.override(recipe, [setting])
    assert "YAML file of your own" in refused.value.todo


@pytest.mark.parametrize(("slot", "said", "most"), [
    ("optimiser", {"kind": "adam", "weight_decay": {"value": 1e308}}, "1000"),
    ("trainer", {"kind": "coded_svm", "c": 1e300}, "1000000000"),
])  # fmt: skip
def test_numbers_that_overflow_or_never_end_are_refused_with_the_most_there_may_be(recipe, slot, said, most):
    values = recipe.model_dump(mode="json") | {slot: said}
    with pytest.raises(RecipeError) as refused:
        recipes.resolve(recipes.validated(values, "mine"))
    assert most in refused.value.differences[0].expected
