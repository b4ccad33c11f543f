"""Does correcting devices help a network? Accuracy by device with and without, trained mostly on device a.

For each dataset of several devices (TAU Mobile's layout, or any that ``ascfeat`` knows): ``logmel256`` as it is, and
corrected with every device as reference; ``five_conv_small`` trained on each, from the same first weights and in the
same order. Intervals are Wilson's, over the test clips of all datasets together.

``python tests/benchmarks/correction.py DATASET...`` prints the table of docs/benchmarks.md.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import plain  # noqa: F401  # first: it limits the threads, before NumPy is imported

# isort: split
import numpy as np
import torch

import ascfeat
from asccli.memory import keep_freed_memory
from ascfeat.extract import extract
from ascfeat.recipes import load_recipe
from ascfeat.store import open_store, store_path
from ascmodels import papers, recipes
from ascmodels.evaluate import evaluate
from ascmodels.metrics import wilson
from ascmodels.training import train

Counts = dict[str, tuple[int, int]]
"""By device, right and tested clips."""


def trained(features: Path, dataset: str, name: str, out: Path, given: argparse.Namespace, seed: int) -> Counts:
    """Train on a store, and count by device what it says of the test side."""
    store = open_store(store_path(features, dataset, name))
    settings = [f"features={name}", f"epochs={given.epochs}", f"seed={seed}", "trainer.precision=bf16"]
    train(recipes.override(papers.load("five_conv_small"), settings), store, out, device=given.device)
    devices = evaluate(out, store, device=given.device).selected.devices
    return {d.name: (d.correct, d.total) for d in devices}


def measured(dataset: Path, given: argparse.Namespace, folder: Path, seed: int) -> dict[str, Counts]:
    """Both systems on one dataset, and the shares of its training side."""
    features = folder / f"features{seed}"
    extract(dataset, [load_recipe("logmel256")], features, device="cpu")
    devices = sorted({*open_store(store_path(features, dataset.name, "logmel256")).devices})
    reference = "".join(devices)
    ascfeat.correct(dataset, reference=devices, features=features, device="cpu")
    systems = {"none": "logmel256", f"Ref.{reference.upper()}": f"logmel256+ref_{reference}"}
    found = {}
    for system, name in systems.items():
        found[system] = trained(features, dataset.name, name, folder / f"run{seed}-{name}", given, seed)
        said = ", ".join(f"{d} {100 * right / n:.1f}" for d, (right, n) in found[system].items())
        print(f"{dataset.name}, {system}: {said}", file=sys.stderr, flush=True)
    store = open_store(store_path(features, dataset.name, "logmel256"))
    train_side = np.array(store.devices)[store.sides("fold1") == "train"]
    share = 100 * np.mean(train_side == devices[0])
    print(f"{dataset.name}: {len(train_side)} training clips, {share:.0f} % of device {devices[0]}", flush=True)
    return found


def row(system: str, runs: Sequence[Counts]) -> str:
    """Of one system, device a and the mean of the others: over datasets, and with an interval over all clips."""
    first, *others = sorted(runs[0])
    cells = []
    for group in ([first], others):
        each = [statistics.mean(run[d][0] / run[d][1] for d in group) for run in runs]
        right, total = (sum(run[d][i] for run in runs for d in group) for i in (0, 1))
        low, high = wilson(right, total)
        cells += [" / ".join(f"{100 * e:.1f}" for e in each), f"{100 * right / total:.1f}"]
        cells.append(f"{100 * low:.1f} to {100 * high:.1f}")
    return f"| {system} | {' | '.join(cells)} |"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("datasets", type=Path, nargs="+")
    words.add_argument("--epochs", type=int, default=20)
    words.add_argument("--device", default="cpu")
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--folder", type=Path, help="where stores and runs go")
    given = words.parse_args()
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        runs = [measured(dataset, given, Path(name), seed) for seed, dataset in enumerate(given.datasets)]
    print(f"\n{os.cpu_count()} CPUs, {given.threads} thread, {given.device}; torch {torch.__version__}; "
          f"{given.epochs} epochs of five_conv_small in bf16\n")  # fmt: skip
    first, *others = sorted(runs[0]["none"])
    rest = " and ".join(others)
    print(f"| correction | {first}, % | all | 95 % interval | mean of {rest}, % | all | 95 % interval |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for system in runs[0]:
        print(row(system, [run[system] for run in runs]))
    gains = [gain(run) for run in runs]
    print(f"\nGained on {rest}: {', '.join(f'{g:+.1f}' for g in gains)} points; over all clips {difference(runs)}.")


def difference(runs: Sequence[Mapping[str, Counts]]) -> str:
    """What is gained on all clips of devices other than the first, with Newcombe's interval (1998, method 10)."""
    sums = []
    for system in runs[0]:
        found = [run[system][device] for run in runs for device in sorted(run[system])[1:]]
        sums.append((sum(right for right, _ in found), sum(total for _, total in found)))
    (p0, (low0, high0)), (p1, (low1, high1)) = ((right / total, wilson(right, total)) for right, total in sums)
    low = p1 - p0 - math.hypot(p1 - low1, high0 - p0)
    high = p1 - p0 + math.hypot(high1 - p1, p0 - low0)
    return f"{100 * (p1 - p0):+.1f}, 95 % interval {100 * low:.1f} to {100 * high:.1f}"


def gain(run: Mapping[str, Counts]) -> float:
    """Points that correction brings devices other than the first."""
    without, corrected = run.values()
    others = sorted(without)[1:]
    return 100 * statistics.mean(corrected[d][0] / corrected[d][1] - without[d][0] / without[d][1] for d in others)


if __name__ == "__main__":
    sys.exit(main())
