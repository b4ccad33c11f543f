"""The papers that ship are whole: every value has a source, every claim its data."""

import pytest

from ascmodels import papers, recipes
from ascschemas.problems import RecipeError, UnknownName
from ascschemas.training import TrainingRecipe

STATUS = ("paper", "prior", "choice", "ours")


@pytest.mark.parametrize("name", papers.names())
def test_every_value_of_a_paper_says_where_it_comes_from(name):
    recipe = papers.load(name)
    assert recipe.name == name
    unsaid = [path for path in recipe.hyper_parameters if not recipe.sources[path].startswith(STATUS)]
    assert not unsaid
    assert TrainingRecipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("name", papers.names())
def test_a_paper_writes_out_every_default(name):
    said, recipe = papers.values(name), papers.load(name)
    assert recipes.validated(said, name).hyper_parameters == recipe.hyper_parameters
    strangers = [s for s in said["sources"] if not any(f"{p}.".startswith(f"{s}.") for p in recipe.hyper_parameters)]
    assert not strangers


def test_nguyen2020_is_the_paper_to_the_letter():
    values = papers.load("nguyen2020").hyper_parameters
    expected = {
        "features": "logmel256",
        "objective.form": "per_class",
        "objective.gamma": 1,
        "objective.alpha": None,
        "objective.temperature": 20,
        "optimiser.kind": "adadelta",
        "optimiser.lr": 0.5,
        "optimiser.rho": 0.95,
        "optimiser.eps": 1e-7,
        "optimiser.weight_decay.value": 1e-5,
        "optimiser.weight_decay.form": "keras_l2",
        "optimiser.weight_decay.scope": "conv_kernels",
        "schedule.factor": 0.1,
        "schedule.patience": 16,
        "schedule.min_delta": 0,
        "augmentation.mixup.alpha": 0.2,
        "augmentation.mixup.share": "sample",
        "batch_size": 64,
        "epochs": 150,
    }
    assert {key: values[key] for key in expected} == expected


def test_nguyen2020_claims_what_table_3_prints():
    claims = papers.load("nguyen2020").claims
    assert {(c.scope, c.group): c.value for c in claims} == {
        ("device", "a"): 72.8,
        ("device", "b"): 60.9,
        ("device", "c"): 63.0,
        ("device_mean", "b,c"): 62.0,
    }
    assert {(c.data.kind, c.data.split, c.data.train, c.data.test) for c in claims} == {
        ("tau2019_mobile", "fold1", 10_265, 5_265)
    }


def test_a_file_of_ones_own_is_read_by_its_path(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nfeatures: f\nfamily: {kind: five_conv}\nobjective: {kind: cross_entropy}\n")
    with pytest.raises(RecipeError, match="epochs"):
        papers.load(str(file))
    file.write_text(file.read_text() + "optimiser: {kind: adam, lr: 1e-3}\nepochs: 3\n")
    recipe = papers.load(str(file))
    assert recipe.optimiser.lr == 1e-3  # YAML 1.1 reads 1e-3 as text
    assert set(recipe.sources.values()) == {"default"}


@pytest.mark.parametrize(("name", "said"), [("nguyen2002", "nguyen2020"), ("nothing", ", five_conv_small, ")])
def test_unknown_papers_suggest_known_ones(name, said):
    with pytest.raises(UnknownName, match=said):
        papers.load(name)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", ""])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"broken\.yaml"):
        papers.load(str(file))
    with pytest.raises(RecipeError, match="cannot be read"):
        papers.load(str(tmp_path / "missing.yaml"))


def written(folder, name, text):
    (folder / f"{name}.yaml").write_text(f"name: {name}\n{text}")
    return str(folder / f"{name}.yaml")


def test_a_recipe_on_a_base_says_only_what_differs_and_claims_nothing_of_it(tmp_path):
    said = (
        "base: nguyen2020\nobjective: {temperature: 5}\nschedule: {kind: constant}\nsources: {objective.temperature: I}"
    )
    below, above = papers.load("nguyen2020"), papers.load(written(tmp_path, "mine", said))
    assert above.name == "mine"
    assert above.claims == ()
    apart = {k for k, v in above.hyper_parameters.items() if below.hyper_parameters.get(k, v) != v}
    assert apart == {"objective.temperature", "schedule.kind"}
    assert not {k for k in above.hyper_parameters if k.startswith("schedule.")} - {"schedule.kind"}
    assert above.sources["objective.temperature"] == "I"
    assert above.sources["objective.gamma"] == below.sources["objective.gamma"]


def test_a_base_lies_beside_the_file_that_names_it(tmp_path):
    (tmp_path / "a").mkdir()
    written(tmp_path / "a", "one", "base: five_conv_small\nepochs: 7")
    two = written(tmp_path / "a", "two", "base: one.yaml\nbatch_size: 3")
    assert papers.load(two).epochs == 7
    assert papers.load(two).batch_size == 3


def test_weights_by_class_are_replaced_and_not_mixed(tmp_path):
    one = written(tmp_path, "one", "base: five_conv_small\nobjective: {alpha: {a: 1, b: 2}}")
    two = written(tmp_path, "two", "base: one.yaml\nobjective: {alpha: {c: 3}}")
    assert papers.load(two).objective.alpha == {"c": 3}
    assert papers.load(one).hyper_parameters["objective.alpha"] == {"a": 1, "b": 2}


def test_a_recipe_that_is_its_own_base_is_refused(tmp_path):
    one = written(tmp_path, "one", "base: two.yaml")
    written(tmp_path, "two", "base: one.yaml")
    with pytest.raises(RecipeError, match=r"its own base.*one.yaml.*two.yaml.*one.yaml"):
        papers.load(one)


def test_every_recipe_has_a_file_of_its_own_name():
    found = [name for names in papers.by_paper().values() for name in names]
    assert sorted(found) == [*papers.names()]
    assert len(list(papers.files("ascmodels.papers").rglob("*.yaml"))) == len(found)


@pytest.mark.parametrize("sources", ["null", "[a]", "{1: a}", "word"])
def test_a_base_whose_sources_are_none_is_refused_in_words(tmp_path, sources):
    written(tmp_path, "one", f"base: five_conv_small\nsources: {sources}")
    with pytest.raises(RecipeError, match="is not a training recipe") as refused:
        papers.load(written(tmp_path, "two", "base: one.yaml"))
    assert refused.value.differences[0].field.startswith("sources")


def test_a_value_that_is_changed_is_no_longer_the_base_s(tmp_path):
    one = written(tmp_path, "one", "base: nguyen2020\nepochs: 3\nbatch_size: 64\nobjective: {gamma: 2}")
    sources, below = papers.load(one).sources, papers.load("nguyen2020").sources
    assert sources["epochs"] == sources["objective.gamma"] == "changed from nguyen2020"
    assert sources["batch_size"] == below["batch_size"]
    two = papers.load(written(tmp_path, "two", "base: one.yaml\nepochs: 4\nsources: {epochs: mine}")).sources
    assert two["epochs"] == "mine"
    assert two["objective.gamma"] == "changed from nguyen2020"
