"""Every number that the five papers print of their own systems is claimed by one recipe, and no other number is."""

import csv
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest

from ascmodels import ensembles, papers, recipes
from ascschemas.layout import Axis, Layout

PRINTED = Path(__file__).parents[2] / "data" / "printed"
PAPERS = ("huang2019", "jung2020", "nguyen2020", "yang2018", "ye2019")
OTHERS = {
    "huang2019_table2_models": {"Baseline"},
    "jung2020_table6_comparison": {"Huang et al. 2019", "Jung et al. 2019", "Zheng et al. 2019"},
    "nguyen2020_table3_comparison": {
        "Baseline", "Base_model_Kosmider_SRPOL", "McDonnell_USA_task1b_3", "Primus_CPJKU_task1b_4",
        "LamPham_KentGroup_task1b_1", "Song_HIT_task1b_3", "Jiang_UESTC_task1b_2",
    },
    "ye2019_table1": {"baseline", "SE-ResNet-152 (Yang et al. 2018)"},
}  # fmt: skip
"""Rows that print the numbers of other people's systems."""
load = cache(papers.load)
Cell = tuple[str, str, str, str]
"""Recipe, scope, group (``""`` for all clips), number as printed, in per cent."""


def everything(table: str) -> list[dict[str, str]]:
    """All rows of a table."""
    return list(csv.DictReader((PRINTED / f"{table}.csv").read_text(encoding="utf-8").splitlines()))


def rows(table: str) -> list[dict[str, str]]:
    """What a table prints of the authors' own systems."""
    found = everything(table)
    others = OTHERS.get(table, set())
    first = next(iter(found[0]))
    assert others <= {row[first] for row in found}
    return [row for row in found if row[first] not in others]


def yang2018() -> Iterator[Cell]:
    columns = [
        ("table1_baseline_vs_proposed", "proposed", ""),
        ("table2_multiscale_ablation", "without_multiscale", "_single_scale"),
        ("table2_multiscale_ablation", "with_multiscale", "_cross_entropy"),
        ("table3_focal_ablation", "without_focal", "_cross_entropy"),
        ("table3_focal_ablation", "with_focal", ""),
    ]
    for table, column, ending in columns:
        for subtask in "ab":
            for row in rows(f"yang2018_{table}"):
                average = row["scene"] == "average"
                scope, group = ("class_mean", "") if average else ("class", row["scene"])
                yield f"yang2018_1{subtask}{ending}", scope, group, row[f"{column}_subtask_{subtask}"]


def ye2019() -> Iterator[Cell]:
    named = {"NLL loss": "ye2019_nll", "focal loss": "ye2019_focal", "focal loss + mixup": "ye2019"}
    for row in rows("ye2019_table1"):
        yield named[row["model"].removeprefix("ResNet-50, ")], "class_mean", "", str(100 * Decimal(row["accuracy"]))


def huang2019() -> Iterator[Cell]:
    named = {
        "MFCC": "mfcc", "MFCC-STAP": "mfcc_stap", "MFCC-STAP-mixup": "mfcc_stap_mixup", "CQT+MFCC": "cqt_mfcc",
        "CQT+MFCC-STAP": "cqt_mfcc_stap", "MFCC(HPSS)-STAP-mixup": "hpss_stap_mixup",
    }  # fmt: skip
    for row in rows("huang2019_table2_models"):
        name = f"huang2019_{named[row['model']]}" if row["model"] != "Ensemble model" else "huang2019"
        yield name, "class_mean", "", row["accuracy_percent"]
    for row in rows("huang2019_table3_per_class"):
        yield "huang2019", "class", row["scene"], row["ensemble_percent"]


def nguyen2020() -> Iterator[Cell]:
    correction = {"Ref.ABC": "ref_abc", "Ref.BC": "ref_bc", "NoCorrection": "none"}
    for row in rows("nguyen2020_table2_loss_x_correction_T1"):
        for loss, ending in (("focal", ""), ("ce", "_ce")):
            name = f"nguyen2020_{correction[row['correction']]}_t1{ending}"
            yield name, "device", "a", row[f"{loss}_device_a"]
            yield name, "device_mean", "b,c", row[f"{loss}_avg_bc"]
    for row in rows("nguyen2020_table3_comparison"):
        reference, temperature = row["system"].removeprefix("Base_model_").split("_T")
        name = f"nguyen2020_{correction[reference]}_t{temperature}"
        name = {"nguyen2020_none_t20": "nguyen2020"}.get(name, name)
        yield from ((name, "device", device, row[f"device_{device}"]) for device in "abc")
        yield name, "device_mean", "b,c", row["avg_bc"]


def jung2020() -> Iterator[Cell]:
    for row in rows("jung2020_table2_concatenation"):
        kind = (row["system"], row["transform_after_concat"], row["layers_before_concat"])
        yield TABLE_2.get(kind, f"jung2020_before_code_l{kind[2]}"), "overall", "", row["accuracy_percent"]
    named = {
        "jung2020_table3_attention": lambda h, at: f"jung2020_attention_h{h}_l{at[-1]}",
        "jung2020_table4_both_separate_layers": lambda h, at: f"jung2020_separate_h{h}_c{at[6]}_a{at[-1]}",
        "jung2020_table5_both_shared_layers": lambda h, at: BEST.get((h, at), f"jung2020_shared_h{h}_l{at[-1]}"),
    }
    for table, name in named.items():
        for row in rows(table):
            heads = row.pop("heads")
            yield from ((name(heads, at), "overall", "", value) for at, value in row.items())
    for row in rows("jung2020_table6_comparison"):
        yield "jung2020", "overall", "", row["accuracy_percent"]


TABLE_2 = {
    ("Baseline", "n/a", "n/a"): "jung2020_baseline",
    ("Codecat", "no", "n/a"): "jung2020_codecat",
    ("Codecat", "yes", "n/a"): "jung2020_codecat_transform",
}
BEST = {("4", "layers_3"): "jung2020"}
TABLES = {f.__name__: f for f in (huang2019, jung2020, nguyen2020, yang2018, ye2019)}


def claimed(paper: str) -> list[tuple[str, str, str, Decimal]]:
    """What recipes and ensembles of a paper claim."""
    loaded = [load(name) for name in papers.names() if name.split("_")[0] == paper]
    together = [e for e in ensembles.published() if e.name == paper]
    return [(r.name, c.scope, c.group, Decimal(str(c.value))) for r in (*loaded, *together) for c in r.claims]


@pytest.mark.parametrize("paper", PAPERS)
def test_every_printed_number_is_claimed_by_one_recipe_and_no_other_number_is(paper):
    found = claimed(paper)
    assert len({*found}) == len(found)  # nothing twice
    assert {*found} == {(name, scope, group, Decimal(value)) for name, scope, group, value in TABLES[paper]()}


def test_every_table_is_read_and_every_claim_belongs_to_one_of_the_papers():
    known = {f.stem for f in PRINTED.glob("*.csv")}
    assert len(known) == 13
    assert {name.split("_")[0] for name in known} == {*PAPERS}
    strangers = [n for n in papers.names() if load(n).claims and n.split("_")[0] not in PAPERS]
    assert not strangers


def test_what_is_printed_of_chance_is_claimed():
    """Only huang2019 prints deviations of its own systems."""
    printed = {row["accuracy_percent"]: row["plus_minus"] for row in rows("huang2019_table2_models")}
    claims = [c for n in papers.names() if n.startswith("huang2019") for c in load(n).claims]
    assert {str(c.value): str(c.plus_minus) for c in claims} == {v: pm for v, pm in printed.items() if pm}
    others = [n for n in papers.names() if not n.startswith("huang2019") for c in load(n).claims if c.plus_minus]
    assert not others


JUNG = [name for name in papers.names() if name.startswith("jung2020")]


@pytest.mark.parametrize("name", JUNG)
def test_each_row_of_jung2020_is_the_system_that_it_is_called(name):
    values = load(name).hyper_parameters
    said = {k.removeprefix("family."): v for k, v in values.items() if k.startswith("family.")}
    wanted = {"concatenation": None, "transform_layers": 0, "attention": False, "attention_layers": 0, "shared": False}
    wanted |= of_name("jung2020_shared_h4_l3" if name == "jung2020" else name)
    assert {key: said[key] for key in wanted} == wanted
    assert values["features"] == ("waveform" if name == "jung2020_baseline" else ["waveform", "tags"])
    same = load("jung2020_baseline").hyper_parameters
    apart = {key for key in values if values[key] != same[key]}
    assert apart <= {"features", *(f"family.{key}" for key in (*wanted, "heads"))}


def of_name(name: str) -> dict[str, object]:
    """What a name says of the tags: ``h``, ``l``, ``c`` and ``a`` are heads and layers."""
    _, kind, *parts = name.split("_")
    n = {part[0]: int(part[1:]) for part in parts if part[1:].isdigit()}
    return {
        "baseline": {},
        "codecat": {"concatenation": "codecat_transform" if parts else "codecat"},
        "before": {"concatenation": "before_code", "transform_layers": n.get("l")},
        "attention": {"attention": True, "heads": n.get("h"), "attention_layers": n.get("l")},
        "separate": {"concatenation": "before_code", "transform_layers": n.get("c"), "attention": True,
                     "heads": n.get("h"), "attention_layers": n.get("a")},
        "shared": {"concatenation": "before_code", "transform_layers": n.get("l"), "attention": True,
                   "heads": n.get("h"), "shared": True},
    }[kind]  # fmt: skip


@pytest.mark.parametrize(("name", "count"), [("jung2020_baseline", 636_736), ("jung2020", 676_784)])
def test_table_6_prints_the_parameters_of_jung2020_cut_to_thousands(name, count):
    recipe = load(name)
    waveform = Layout(axes=(Axis(name="channel", size=2), Axis(name="time", size=480_000)), quantity="amplitude")
    tags = Layout(axes=(Axis(name="tag", size=80),), quantity="tag value")
    network = recipes.family(recipe).build((waveform, tags)[: len(recipe.features)], 10)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == count
    assert f"{count // 1000}k" in {row["params"] for row in everything("jung2020_table6_comparison")}


@pytest.mark.parametrize("name", [n for n in papers.names() if n.startswith("nguyen2020_")])
def test_each_row_of_nguyen2020_differs_from_the_paper_in_what_it_is_called(name):
    values, same = (load(n).hyper_parameters for n in (name, "nguyen2020"))
    _, *correction, temperature = name.removesuffix("_ce").split("_")
    reference = "_".join(correction)
    assert values["features"] == ("logmel256" if reference == "none" else f"logmel256+{reference}")
    assert values["objective.temperature"] == int(temperature[1:])
    assert values["objective.kind"] == ("cross_entropy" if name.endswith("_ce") else "focal")
    shared = {key for key in values if key not in ("features",) and not key.startswith("objective.")}
    assert {key: values[key] for key in shared} == {key: same[key] for key in shared}
