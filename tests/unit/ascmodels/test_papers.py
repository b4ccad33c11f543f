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
    text = (papers.files("ascmodels.papers") / f"{name}.yaml").read_text(encoding="utf-8")
    recipe = papers.load(name)
    assert recipes.validated(papers.plain(text, name), name).hyper_parameters == recipe.hyper_parameters
    assert set(papers.plain(text, name)["sources"]) == set(recipe.hyper_parameters)


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


@pytest.mark.parametrize("name", ["nguyen2002", "nothing"])
def test_unknown_papers_suggest_known_ones(name):
    with pytest.raises(UnknownName, match="nguyen2020"):
        papers.load(name)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", ""])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"broken\.yaml"):
        papers.load(str(file))
    with pytest.raises(RecipeError, match="cannot be read"):
        papers.load(str(tmp_path / "missing.yaml"))
