"""What each paper's family learns from a few hundred real recordings: accuracy over folds, parameters, time.

For ESC-10 (or any dataset with splits ``fold1`` to ``fold5``): features as the paper, its network, and training that
suits some three hundred clips, where the papers had thousands: fewer epochs, smaller batches; ``SYSTEMS`` says what was
set. Nothing is selected: the last epoch is scored, so that no clip of a test side chooses anything.

``python tests/benchmarks/families.py DATASET --out FOLDER`` prints the table of docs/results.md; what is finished in
FOLDER is not trained again.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from asccli.memory import keep_freed_memory
from ascfeat.extract import extract
from ascfeat.recipes import load_recipe
from ascfeat.store import open_store, store_path
from ascmodels import papers, recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.evaluate import evaluate
from ascmodels.joining import Joined, join
from ascmodels.training import train
from ascmodels.watching import Watcher

LAST = ("selection.side=last", "selection.fraction=0", "trainer.precision=bf16")
"""Set for every network."""


@dataclass(frozen=True)
class System:
    """A paper's recipe, and what is set for a few hundred clips."""

    recipe: str
    epochs: int
    settings: tuple[str, ...] = ()

    @property
    def said(self) -> tuple[str, ...]:
        """Everything that is set."""
        return (*LAST, f"epochs={self.epochs}", *(s.replace("EPOCHS", str(self.epochs)) for s in self.settings))


FALLING = "schedule={kind: cosine, period: EPOCHS}"
"""A rate that comes down to 0 within the epochs, where the paper waits for a plateau or has thousands of steps."""
SYSTEMS = {
    "nguyen2020": System("five_conv_small", 40, (FALLING,)),
    "yang2018": System(
        "yang2018_1a",
        20,
        (FALLING, "objective.alpha=none", "optimiser.lr=2e-3", "batch_size=16", "family.norm_momentum=0.1"),
    ),
    "ye2019": System("ye2019", 60, ("schedule={kind: steps, every: 60, factor: 0.9}", "batch_size=16")),
    "huang2019": System(
        "huang2019_mfcc_stap_mixup",
        8,
        (FALLING, "early_stopping=none", "optimiser.lr=1e-3", "batch_size=32", "family.mask_gain=rows"),
    ),
    "jung2020": System(
        "jung2020_baseline", 40, (FALLING, "optimiser.lr=1e-3", "batch_size=16", "trainer.svm_every=10")
    ),
}


class Printing(Watcher):
    """A line an epoch."""

    def __init__(self, name: str) -> None:
        self.name = name

    def epoch(self, row: object, *, selected: bool) -> None:
        """Say how it goes."""
        print(f"{self.name}: {row}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Result:
    """One trained fold."""

    accuracy: float
    clips: int
    parameters: int
    seconds: float


def stores(dataset: Path, features: Path, names: Sequence[str]) -> Joined:
    """The stores of a recipe, extracted unless they are there."""
    extract(dataset, [load_recipe(name) for name in names], features)
    return join(*(open_store(store_path(features, dataset.name, name)) for name in names))


def trained(dataset: Path, given: argparse.Namespace, name: str, fold: str, extra: Sequence[str]) -> Result:
    """One system on one fold."""
    system, out = SYSTEMS[name], given.out / f"{name}-{fold}"
    recipe = recipes.override(papers.load(system.recipe), [*system.said, *extra])
    source = stores(dataset, given.out / "features", recipe.features)
    watch = Printing(f"{name} {fold}")
    train(recipe, source, out, split=fold, device=given.device, resume=RunFolder.has_checkpoints(out), watch=watch)
    report = evaluate(out, source, device=given.device)
    seconds = statistics.median(row.seconds for row in RunFolder(out).progress().rows)
    whole = report.last.overall
    return Result(100 * whole.correct / whole.total, whole.total, report.provenance.parameters, seconds)


def row(name: str, results: Sequence[Result]) -> str:
    """A line of the table."""
    scores = [r.accuracy for r in results]
    spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    seconds = statistics.median(r.seconds for r in results)
    recipe, epochs = SYSTEMS[name].recipe, SYSTEMS[name].epochs
    mean = f"{statistics.fmean(scores):.1f}{spread}"
    each, count = ", ".join(f"{s:.1f}" for s in scores), f"{results[0].parameters:,}"
    return f"| {name} | `{recipe}` | {count} | {epochs} | {seconds:.1f} | {mean} | {each} |"


def main(words: Sequence[str] | None = None) -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", nargs="+", default=["fold1", "fold2", "fold3", "fold4", "fold5"])
    parser.add_argument("--systems", nargs="+", choices=[*SYSTEMS], default=[*SYSTEMS])
    parser.add_argument("--set", dest="extra", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args(words)
    torch.set_num_threads(given.threads)
    lines = []
    for name in given.systems:
        results = [trained(given.dataset, given, name, fold, given.extra) for fold in given.folds]
        lines.append(row(name, results))
    print("| paper | recipe | parameters | epochs | s an epoch | accuracy, % | of each fold |")
    print("|---|---|--:|--:|--:|--:|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    keep_freed_memory()
    main()
