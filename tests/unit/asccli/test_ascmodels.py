"""The command ascmodels: what it finds, prints and refuses."""

import json
import subprocess
import sys

import pytest

from ascfeat.store import Store
from ascmodels import papers
from ascmodels.checkpoint import RunFolder
from ascmodels.testing.stores import make_store

SMALL = """
name: small
features: made_up
family: {kind: five_conv, widths: [4, 4, 8, 8, 8]}
objective: {kind: cross_entropy}
optimiser: {kind: adam, lr: 0.01}
batch_size: 16
epochs: 2
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a store of features, as a person works in it."""
    make_store(tmp_path / "features" / "scenes" / "made_up.zarr")
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASC_FEATURES", raising=False)
    return tmp_path


def fit(ascmodels, *words):
    return ascmodels("fit", "small.yaml", *words, "--device", "cpu")


def test_a_model_is_trained_and_evaluated(place, ascmodels):
    status, out, err = fit(
        ascmodels, "data/scenes", "--out", "run", "--split", "fold1", "--set", "epochs=3", "--seed", 4
    )
    selected = RunFolder(place / "run").progress().selected
    assert (status, out) == (0, f"run: 3 epochs, epoch {selected} selected. Next: ascmodels evaluate run\n")
    assert [line.split()[:2] for line in err.splitlines()[2:]] == [["epoch", str(n)] for n in (1, 2, 3)]
    assert max(map(len, err.splitlines())) <= 100
    assert RunFolder(place / "run").recipe.seed == 4
    status, out, err = ascmodels("evaluate", "run")
    assert (status, err) == (0, "")
    for word in ("overall", "park", "vienna", "95 % interval", "report.json", "confusion.png"):
        assert word in out
    status, out, _ = ascmodels("evaluate", "run", "--json")
    assert json.loads(out) == json.loads((place / "run" / "report.json").read_text())


def test_the_dataset_may_be_left_out_where_there_is_one_store(place, ascmodels):
    assert fit(ascmodels, "--out", "run")[0] == 0
    make_store(place / "features" / "other" / "made_up.zarr")
    status, _, err = fit(ascmodels, "--out", "run2")
    assert status == 2
    assert "2 stores of made_up: other, scenes" in err


def test_a_missing_store_is_named_with_the_command_that_makes_it(place, ascmodels):
    status, _, err = fit(ascmodels, "data/lectures", "--out", "run")
    assert status == 2
    assert "ascfeat extract --recipe made_up data/lectures --features features" in err
    assert not (place / "run").exists()
    status, _, err = ascmodels("fit", "nguyen2020", "--out", "run")
    assert status == 2
    assert "ascfeat extract --recipe logmel256 <dataset>" in err


def test_the_environment_names_the_feature_folder(place, ascmodels, monkeypatch):
    (place / "features").rename(place / "elsewhere")
    monkeypatch.setenv("ASC_FEATURES", str(place / "elsewhere"))
    assert fit(ascmodels, "scenes", "--out", "run")[0] == 0


def test_a_run_is_found_again_where_the_features_have_moved(place, ascmodels):
    assert fit(ascmodels, "--out", "run")[0] == 0
    (place / "features").rename(place / "elsewhere")
    assert ascmodels("evaluate", "run")[0] == 2
    assert ascmodels("evaluate", "run", "--features", "elsewhere")[0] == 0


def test_refusals_are_four_parts_on_standard_error(place, ascmodels):
    status, out, err = fit(ascmodels, "--out", "run", "--set", "epochs=0", "--set", "batch_size=x")
    assert (status, out) == (2, "")
    first = err.splitlines()[1].split()
    assert (first[0], first[-2:]) == ("batch_size", ["found", "'x'"])
    assert "epochs" in err
    _, _, err = fit(ascmodels, "--out", "run", "--set", "epocs=3")
    assert err.startswith("There is nothing called 'epocs' to set: did you mean epochs?")


def test_an_interrupted_run_says_how_to_go_on_and_goes_on(place, ascmodels, monkeypatch):
    from asccli.learning import Lines

    def interrupt(self, row, *, selected):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "epoch", interrupt)
        status, _, err = fit(ascmodels, "--out", "run")
    assert status == 130
    assert "--resume" in err
    assert fit(ascmodels, "--out", "run")[0] == 2
    status, _, err = fit(ascmodels, "--out", "run", "--resume")
    assert status == 0
    assert "Going on after epoch 1 of 2." in err
    status, _, err = fit(ascmodels, "--out", "run", "--resume")
    assert status == 0
    assert "nothing to do" in err


def test_short_options_are_settings(place, ascmodels):
    assert fit(ascmodels, "--out", "run", "--select", "last", "--trainer", "supervised")[0] == 0
    recipe = RunFolder(place / "run").recipe
    assert recipe.selection.side == "last"
    assert recipe.sources["selection.side"] == recipe.sources["trainer.kind"] == "command line"


def test_predictions_are_lines_or_json_and_a_bad_file_is_status_1(place, ascmodels, monkeypatch):
    from ascmodels import predict as module
    from ascschemas.problems import AudioError

    store = Store(place / "features" / "scenes" / "made_up.zarr")

    def features_of(files, header, recorder, tags):
        for file in files:
            bad = AudioError("empty", f"{file} is empty: 0 bytes.", todo="Restore the file.")
            yield file, bad if file.name == "bad.wav" else store.read([0])[0]

    monkeypatch.setattr(module, "features_of", features_of)
    assert fit(ascmodels, "--out", "run")[0] == 0
    status, out, err = ascmodels("predict", "run", "a.wav", "bad.wav", "b.wav")
    assert status == 1
    assert [line.split(":")[0] for line in out.splitlines()] == ["a.wav", "b.wav"]
    assert err.startswith("bad.wav is empty: 0 bytes.")
    status, out, err = ascmodels("predict", "run", "a.wav", "bad.wav", "--json")
    good, bad = map(json.loads, out.splitlines())
    assert (status, err) == (1, "")
    assert set(good["probabilities"]) == {"bus", "park", "tram"}
    assert bad == {"file": "bad.wav", "reason": "empty", "problem": "bad.wav is empty: 0 bytes."}
    assert ascmodels("predict", "run", "a.wav")[0] == 0


def test_papers_show_every_value_with_its_source(ascmodels):
    assert "nguyen2020" in ascmodels("papers")[1]
    _, out, _ = ascmodels("papers", "show", "nguyen2020")
    for words in (
        ("objective.temperature", "20.0", "paper, Table 3"),
        ("optimiser.rho", "0.95", "prior; Keras default"),
    ):
        assert any(all(w in line for w in words) for line in out.splitlines())
    assert json.loads(ascmodels("papers", "show", "nguyen2020", "--json")[1])["name"] == "nguyen2020"
    status, _, err = ascmodels("papers", "show", "nguyen2021")
    assert status == 2
    assert "did you mean nguyen2020 or" in err


def test_families_list_their_parameters(ascmodels):
    _, out, _ = ascmodels("families")
    assert "five_conv" in out
    assert "family.norm_momentum" in out


def test_help_and_version_need_no_torch(monkeypatch):
    import subprocess

    code = "import sys, asccli.ascmodels; sys.exit('torch' in sys.modules or 'zarr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_features_that_nobody_knows_are_told_the_nearest(place, ascmodels):
    status, _, err = fit(ascmodels, "scenes", "--out", "run", "--set", "features=logmel265")
    assert status == 2
    assert "no recipe of that name: did you mean logmel256" in " ".join(err.split())
    assert "--recipe logmel265" not in err
    _, _, err = fit(ascmodels, "scenes", "--out", "run", "--set", "features=nope")
    assert "There is no store of 'nope' in features, and no recipe of that name: known: cqt_patches" in err
    assert "--recipe nope" not in err


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["supervised", "lightning"])
def test_a_terminated_training_says_how_it_goes_on(place, trainer):
    words = ["small.yaml", "scenes", "--out", "run", "--set", "epochs=100000", "--trainer", trainer, "--device", "cpu"]
    command = [sys.executable, "-c", "from asccli.ascmodels import main; main()", "fit", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=place) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("epoch"))
        process.terminate()
        said = process.stderr.read()
    assert process.returncode == 143, line + said
    assert "Finished epochs are kept in run" in said
    assert "Traceback" not in said
    assert RunFolder(place / "run").epochs()


def test_a_correction_is_asked_for_by_name(place, ascmodels):
    status, _, err = fit(ascmodels, "scenes", "--out", "run", "--correction", "ref_ab")
    assert status == 2
    assert "ascfeat correct --ref AB --recipe made_up scenes --features features" in err


def test_a_recipe_may_name_a_correction_and_another_takes_its_place(place, ascmodels):
    words = ("fit", "nguyen2020_ref_abc_t10", "scenes", "--out", "run", "--device", "cpu")
    for asked, name in (((), "ref_abc"), (("--correction", "ref_bc"), "ref_bc")):
        status, _, err = ascmodels(*words, *asked)
        assert status == 2
        assert f"ascfeat correct --ref {name[4:].upper()} --recipe logmel256 scenes" in err


def test_papers_lists_every_recipe_with_its_printed_number(ascmodels):
    out = ascmodels("papers", "--all")[1]
    assert all(f"    {name} " in out for name in papers.names())
    assert "62.0  device mean b,c, Table 3" in out
    assert "five_conv_small" in out.partition("nguyen2020   ")[0]


def test_runs_vote_on_the_command_line(place, ascmodels):
    for seed in (1, 2):
        assert fit(ascmodels, "--out", f"run{seed}", "--set", "epochs=1", "--seed", seed)[0] == 0
    status, out, err = ascmodels("ensemble", "run1", "run2", "--device", "cpu", "--out", "vote")
    assert (status, err) == (0, "")
    assert out.startswith("Runs together: scenes, fold1\n")
    assert "2 runs; majority" in out
    assert out.endswith("Written: vote/report.json, vote/report.md, vote/confusion.png\n")
    status, out, err = ascmodels("ensemble", "run1", "run2", "--device", "cpu", "--vote", "mean", "--json")
    report = json.loads(out)
    assert (status, report["vote"], [v["run"] for v in report["voters"]]) == (0, "mean", ["run1", "run2"])
    before = (place / "run1" / "config.json").read_bytes()
    status, out, err = ascmodels("ensemble", "run1", "run2", "--out", "run1")
    assert (status, out) == (2, "")
    assert "run1 is a run folder" in err
    assert (place / "run1" / "config.json").read_bytes() == before
    assert not (place / "run1" / "report.json").exists()
    status, out, err = ascmodels("ensemble", "run1")
    assert status == 2
    assert "at least 2" in err


def test_unknown_splits_are_told_what_there_is(place, ascmodels):
    status, _, err = fit(ascmodels, "--out", "run", "--split", "location5_9")
    assert status == 2
    assert "has no split 'location5_9': did you mean location5_" in err
    assert not (place / "run").exists()


@pytest.mark.parametrize(
    ("features", "make"),
    [
        ("logmel256", "ascfeat extract --recipe logmel256 scenes"),
        ("tags", "ascfeat extract --recipe tags --tags <run, table or callable> scenes"),
        ("logmel256+ref_abc", "ascfeat correct --ref ABC --recipe logmel256 scenes"),
        ("logmel256+mine", "ascfeat correct --ref <devices> --name mine --recipe logmel256 scenes"),
    ],
)
def test_a_store_that_is_missing_comes_with_the_command_that_makes_it(ascmodels, place, features, make):
    status, _, err = fit(ascmodels, "scenes", "--out", "run", "--set", f"features={features}")
    assert status == 2
    assert make in err.replace("\n", " ")
