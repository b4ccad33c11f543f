"""Does every recipe that ships train for two epochs and evaluate, through the commands, from recordings on?

Of rows that differ in numbers of heads and layers, one of each build is trained; all of them with ASC_TEST_PAPERS=all.
Networks are narrow here, and batches small: their sizes are asserted against the papers in tests/oracle. With
ASC_TEST_PAPERS=full every row is trained with the paper's network; ASC_TEST_RECORDINGS=DATASET takes the place of what
is made here: a few dozen real recordings, by several devices where rows of corrected spectra are to be trained.
"""

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from asccli.ascfeat import main as ascfeat_main
from asccli.ascmodels import main as ascmodels_main
from ascfeat import demo
from ascmodels import papers

pytestmark = pytest.mark.slow

ASKED = os.environ.get("ASC_TEST_PAPERS", "one of each build")

NARROW = {
    "five_conv": ["family.widths=[4,4,8,8,8]"],
    "xception_multiscale": ["family.stem=[4,8]", "family.entry=[8,12,16]", "family.middle=1", "family.exit=[16,20,24]"],
    "resnet50_transfer": ["family.widths=[8,12]", "family.depths=[1,1]"],
    "dcnn_stap": ["family.widths=[4,4,8,8]"],
    "waveform_tag_resnet": ["family.stem_filters=8", "family.widths=[8,8,8,8,8,8,32]"],
    "tagger_resnet34": ["family.widths=[8,12]", "family.depths=[1,1]", "family.hidden=16", "augmentation.crop=none"],
}
FULL = {"tagger_resnet34": ["augmentation.crop=none"]}  # clips may be shorter


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes at six moments each, 3.2 seconds long, every other one by three devices; or what is asked for."""
    root = tmp_path_factory.mktemp("papers") / "scenes"
    if given := os.environ.get("ASC_TEST_RECORDINGS"):
        root.symlink_to(Path(given).absolute())
        return root
    demo.make(root, scenes=3, per_scene=6, seconds=3.2, parallel=0.5)
    return root


def run(folder: Path, program: str, *words: str) -> str:
    """A command as it is installed, but in this process: there are two hundred of them."""
    said, wrong = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as here, redirect_stdout(said), redirect_stderr(wrong):
        here.chdir(folder)
        here.setattr(sys, "argv", [program, *words])
        with pytest.raises(SystemExit) as ended:
            {"ascfeat": ascfeat_main, "ascmodels": ascmodels_main}[program]()
    assert not ended.value.code, f"{program} {' '.join(words)}\n{wrong.getvalue()}"
    return said.getvalue()


def fit(recordings: Path, name: str, *settings: str) -> Path:
    """Train two epochs and evaluate; the run folder."""
    recipe = papers.load(name)
    sizes = FULL.get(recipe.family.kind, []) if ASKED == "full" else NARROW[recipe.family.kind]
    said = ["epochs=2", "batch_size=4", *sizes, *settings]
    words = [word for setting in said for word in ("--set", setting)]
    run(recordings.parent, "ascmodels", "fit", name, "scenes", "--out", f"runs/{name}", "--device", "cpu", *words)
    run(recordings.parent, "ascmodels", "evaluate", f"runs/{name}", "--device", "cpu")
    return recordings.parent / "runs" / name


def required(names: Sequence[str]) -> Iterator[str]:
    """The feature recipes of some papers that extraction makes, each once."""
    wanted = {feature for name in names for feature in papers.load(name).features}
    yield from sorted(wanted - {"tags"} - {w for w in wanted if "+" in w})


def extract(recordings: Path, names: Sequence[str]) -> None:
    words = [word for feature in required(names) for word in ("--recipe", feature)]
    run(recordings.parent, "ascfeat", "extract", *words, "scenes", "--device", "cpu")


@pytest.mark.parametrize("paper", ["", "yang2018", "ye2019", "nguyen2020", "huang2019", "akiyama2019", "jung2020"])
def test_every_row_of_a_paper_trains_and_is_evaluated(recordings: Path, paper: str) -> None:
    names = [n for n in papers.by_paper()[paper] if papers.load(n).family.kind != "pooled"]
    names = names if ASKED in ("all", "full") else one_of_each_build(names)
    extract(recordings, names)
    if any("+" in feature for name in names for feature in papers.load(name).features):
        for reference in ("ABC", "BC"):
            run(recordings.parent, "ascfeat", "correct", "--ref", reference, "--recipe", "logmel256", "scenes")
    if any("tags" in papers.load(name).features for name in names):
        tagger(recordings)
    for name in names:
        out = fit(recordings, name)
        report = json.loads((out / "report.json").read_text())
        assert report["provenance"]["recipe"] == name
        assert len((out / "curves.csv").read_text().splitlines()) == 3
        assert len(report["claims"]) == len(papers.load(name).claims)
        assert all(not claim["comparable"] for claim in report["claims"]), "a claim is taken to hold for other data"
    if paper == "huang2019":
        vote(recordings, names)
    if paper == "jung2020":
        predict(recordings)


def vote(recordings: Path, names: Sequence[str]) -> None:
    """All six models together, with what is published of them."""
    runs = [f"runs/{name}" for name in names]
    run(recordings.parent, "ascmodels", "ensemble", *runs, "--device", "cpu", "--out", "together")
    report = json.loads((recordings.parent / "together" / "report.json").read_text())
    assert report["scores"]["overall"]["total"] > 0
    assert [m["recipe"] for m in report["models"]] == list(names)
    assert len(report["claims"]) == 11


def predict(recordings: Path) -> None:
    """A run on waveforms and tags hears a recording with its tagger, or with a table of the same tags."""
    here, file = recordings.parent, str(min((recordings / "audio").iterdir()))
    tagger = f"runs/{papers.by_paper()['akiyama2019'][0]}"
    by_tagger = json.loads(run(here, "ascmodels", "predict", "runs/jung2020", file, "--tags", tagger, "--json"))
    tags = json.loads(run(here, "ascmodels", "predict", tagger, file, "--json"))["probabilities"]
    (here / "tags.csv").write_text(f"filename,{','.join(tags)}\n{file},{','.join(map(repr, tags.values()))}\n")
    by_table = json.loads(run(here, "ascmodels", "predict", "runs/jung2020", file, "--tags", "tags.csv", "--json"))
    assert by_table["probabilities"] == pytest.approx(by_tagger["probabilities"], abs=1e-4)
    for words in (("runs/jung2020", file), ("runs/jung2020_baseline", file, "--tags", tagger)):
        with pytest.raises(AssertionError, match="--tags"):
            run(here, "ascmodels", "predict", *words)


def one_of_each_build(names: Sequence[str]) -> list[str]:
    """Of rows that differ in numbers of the family only, such as the heads of an attention, the first."""
    first: dict[str, str] = {}
    for name in names:
        recipe = papers.load(name)
        built = {k: bool(v) if isinstance(v, int) else str(v) for k, v in recipe.family.values().items()}
        first.setdefault(str((recipe.features, recipe.objective.kind, recipe.augmentation.mixup, built)), name)
    return [*first.values()]


def tagger(recordings: Path) -> None:
    """Vectors of tags from a tagger that was trained a little on the same recordings."""
    names = papers.by_paper()["akiyama2019"]
    extract(recordings, names[:1])
    out = fit(recordings, names[0])
    words = ("--recipe", "tags", "--tags", str(out), "scenes", "--device", "cpu")
    run(recordings.parent, "ascfeat", "extract", *words)
