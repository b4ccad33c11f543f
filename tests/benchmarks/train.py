"""How fast is training from a store? Ratios against a plain torch loop over ``.npy`` files, and against no feed at all.

nguyen2020's network and training (five convolutions, mixup, focal loss, Adadelta), on features of its shape. The plain
loop is what a lab writes: a ``Dataset`` of ``.npy`` files behind a ``DataLoader``, float32, maps as ``(B, C, F, T)``. A
script of its own runs it, and once more this process, which keeps freed memory as the commands do. Ours are real
runs of ``ascmodels fit``'s trainer, checkpoints and scoring left out; the fixed batch is such a run whose batches are
all the same one in memory, so that nothing is read. The second epoch of each run counts. A last table has the training
steps of all five papers' families.

``python tests/benchmarks/train.py`` prints the tables of docs/benchmarks.md; ``--device cuda:0`` uses a GPU.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import plain  # noqa: F401  # first: it limits the threads, before NumPy is imported

# isort: split
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, Dataset

from asccli.memory import keep_freed_memory
from ascmodels import papers, recipes, training
from ascmodels.checkpoint import RunFolder
from ascmodels.data import Feed, Reader
from ascmodels.families.five_conv import FiveConv
from ascmodels.inputs import Input
from ascmodels.objectives import focal_loss
from ascmodels.order import Order
from ascmodels.testing.stores import layout, make_store, scene_clips
from ascschemas.layout import Axis, Layout
from ascschemas.recipe import Patches
from ascschemas.training import TrainingRecipe

PLAIN = "plain loop, .npy files, float32, (B, C, F, T)"
KEPT = "the same, freed memory kept"
TRAINED = {
    "supervised, float32, (B, C, F, T)": ["trainer.channels_last=false"],
    "supervised, float32": [],
    "supervised, bf16": ["trainer.precision=bf16"],
}
FEEDS = {"device": "the GPU's memory", "ram": "RAM", "stream": "the store, warm", "cold": "the store, cold"}


SPECTRA, PATCH = ("channel", "frequency", "time"), Patches(width=128, hop=32)
FAMILIES: dict[str, tuple[str, tuple[str, ...], tuple[int, ...], Patches | None]] = {
    "nguyen2020": ("five_conv", SPECTRA, (1, 256, 862), None),
    "yang2018_1a": ("xception_multiscale", SPECTRA, (1, 128, 469), None),
    "ye2019": ("resnet50_transfer", SPECTRA, (1, 64, 320), None),
    "huang2019_mfcc_stap_mixup": ("dcnn_stap", SPECTRA, (3, 128, 469), PATCH),
    "jung2020_baseline": ("waveform_tag_resnet", ("channel", "time"), (2, 480_000), None),
}
"""Of each paper a recipe, its family, and a clip of its features as the paper has them."""


class Files(Dataset[tuple[Tensor, int]]):
    """Features in one ``.npy`` file a clip, as labs keep them."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int]) -> None:
        self.files, self.labels = files, labels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.from_numpy(np.load(self.files[i])), self.labels[i]


def plain_epoch(files: Files, batch: int, device: torch.device, shape: Layout) -> float:
    """Clips a second of a plain loop's second epoch."""
    torch.manual_seed(0)
    network = FiveConv().build((shape,), 3).to(device).train()
    optimiser = torch.optim.Adadelta(network.parameters(), lr=1.0, rho=0.95, eps=1e-7)
    loader = DataLoader(files, batch, shuffle=True)
    mean, std, mixing = -5.0, 1.0, torch.distributions.Beta(0.2, 0.2)
    for _ in range(2):
        start = time.perf_counter()
        for features, labels in loader:
            x = (features.to(device) - mean) / std
            y = one_hot(labels.to(device), 3).float()
            other, lam = torch.randperm(len(x)), mixing.sample((len(x),)).to(device)
            x = lam.view(-1, 1, 1, 1) * x + (1 - lam.view(-1, 1, 1, 1)) * x[other]
            y = lam.view(-1, 1) * y + (1 - lam.view(-1, 1)) * y[other]
            optimiser.zero_grad(set_to_none=True)
            loss = focal_loss(network(x), y, gamma=1.0, temperature=20.0)
            loss.backward()
            optimiser.step()
            loss.item()
        seconds = time.perf_counter() - start
    return len(files) / seconds


def plain_script(threads: int, *given) -> float:
    """The same in a process of its own, which leaves memory to the system as any script does."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (threads,)) as process:
        return process.submit(plain_epoch, *given).result()


class Fixed(Reader):
    """The same numbers for every batch."""

    place = "ram"

    def __init__(self, rows: Tensor) -> None:
        self.numbers = rows

    def rows(self, order: Order, size: int) -> Iterator[Tensor]:
        """As often as batches are asked for."""
        for start in range(0, len(order), size):
            yield self.numbers[: min(size, len(order) - start)]


def run_epoch(recipe: TrainingRecipe, store: Path, placement: str, device: str, *, fixed: bool = False) -> float:
    """Clips a second of a real run's second epoch."""
    from ascfeat.store import open_store

    build = training.feed

    def nothing_read(*given, **how) -> Feed:
        made = build(*given, **how)
        (reader,) = made.readers
        (batch,) = reader.rows(Order(given[1][: recipe.batch_size], (recipe.batch_size,)), recipe.batch_size)
        return replace(made, readers=(Fixed(batch.clone()),))

    if placement == "cold":
        forget(store)
    training.feed = nothing_read if fixed else build
    try:
        with tempfile.TemporaryDirectory() as folder:
            where = "stream" if placement == "cold" else placement
            out = Path(folder) / "run"
            training.train(recipe, open_store(store), out, device=device, placement=where)
            rows = RunFolder(out).progress().rows
    finally:
        training.feed = build
    return rows[0 if placement == "cold" else -1].clips_per_second


def forget(path: Path) -> None:
    """Drop a folder from the page cache."""
    for file in (p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def steps(folder: Path, given: argparse.Namespace, recipe: TrainingRecipe) -> None:
    """The table of training steps."""
    from ascfeat.store import open_store

    store = open_store(folder / "made.zarr")
    train = np.flatnonzero((store.sides("fold1") == "train") & store.usable)
    files = []
    for clip in train:
        files.append(folder / f"{clip}.npy")
        np.save(files[-1], store.read([clip])[0])
    numbers = [store.header.classes.index(store.labels[c]) for c in train]
    data, device = Files(files, numbers), torch.device(given.device)
    rates: dict[str, list[float]] = {PLAIN: [], KEPT: [], **{name: [] for name in TRAINED}}
    for _ in range(given.rounds):
        rates[PLAIN].append(plain_script(given.threads, data, recipe.batch_size, device, store.layout))
        rates[KEPT].append(plain_epoch(data, recipe.batch_size, device, store.layout))
        for name, settings in TRAINED.items():
            asked = recipes.override(recipe, settings)
            rates[name].append(run_epoch(asked, folder / "made.zarr", "auto", given.device))
    print("| training by | clips/s | ms a clip | / plain loop | / the same, freed memory kept |\n|---|--:|--:|--:|--:|")
    for name, found in rates.items():
        rate = statistics.median(found)
        said = " | ".join(f"{over(found, rates[peer]):.2f}" for peer in (PLAIN, KEPT))
        print(f"| {name} | {rate:.1f} | {1000 / rate:.1f} | {said} |", flush=True)


def over(found: Sequence[float], peer: Sequence[float]) -> float:
    """The median ratio of two rates, round by round."""
    return statistics.median(a / b for a, b in zip(found, peer, strict=True))


def feeds(folder: Path, given: argparse.Namespace, recipe: TrainingRecipe) -> None:
    """The table of feeds, with the fastest steps."""
    asked = recipes.override(recipe, TRAINED["supervised, bf16"])
    names = [n for n in FEEDS if n != "device" or given.device != "cpu"]
    rates: dict[str, list[float]] = {"fixed": [], **{name: [] for name in names}}
    for _ in range(given.rounds):
        rates["fixed"].append(run_epoch(asked, folder / "made.zarr", "ram", given.device, fixed=True))
        for name in names:
            rates[name].append(run_epoch(asked, folder / "made.zarr", name, given.device))
    print("| batches from | clips/s | / one batch in memory |\n|---|--:|--:|")
    for name, found in rates.items():
        said = f"{statistics.median(found):.1f} | {over(found, rates['fixed']):.2f}"
        print(f"| {FEEDS.get(name, 'one batch in memory')} | {said} |", flush=True)


def accuracies(folder: Path, given: argparse.Namespace) -> None:
    """Does half precision lose accuracy? The demo's scenes, trained with several seeds in both."""
    from ascfeat.demo import make
    from ascfeat.extract import extract
    from ascfeat.recipes import load_recipe
    from ascfeat.store import open_store
    from ascmodels.evaluate import evaluate

    make(folder / "scenes")
    (outcome,) = extract(folder / "scenes", [load_recipe("logmel64")], folder / "features", device="cpu")
    source = open_store(outcome.place)
    found: dict[str, list[float]] = {"float32": [], "bf16": []}
    for seed in range(given.seeds):
        for precision, values in found.items():
            asked = ["features=logmel64", f"epochs={given.epochs}", f"seed={seed}", f"trainer.precision={precision}"]
            out = folder / f"run-{precision}-{seed}"
            training.train(recipes.override(papers.load("five_conv_small"), asked), source, out, device=given.device)
            values.append(100 * evaluate(out, source, device=given.device).last.overall.accuracy)
    print(f"| steps in | accuracy of {given.seeds} seeds, % | mean |\n|---|---|--:|")
    for precision, values in found.items():
        said = ", ".join(f"{v:.1f}" for v in values)
        print(f"| {precision} | {said} | {statistics.mean(values):.1f} |", flush=True)


def families(folder: Path, given: argparse.Namespace) -> None:
    """Clips a second of every family's training steps, on features of its paper's shape; a clip is all its patches."""
    clips = scene_clips(locations=given.locations, devices=("a",))
    columns = "".join(f" {precision}, clips/s |" for precision in given.precisions)
    print(f"| recipe | family | a clip | examples |{columns}\n|---|---|---|--:|{'--:|' * len(given.precisions)}")
    for name, (family, axes, shape, patches) in FAMILIES.items():
        shape = (*shape[:-1], max(shape[-1] // given.shorter, patches.width if patches else 1))
        made = Layout(axes=tuple(Axis(name=n, size=s) for n, s in zip(axes, shape, strict=True)), quantity="any")
        store = make_store(folder / f"{name}.zarr", clips, shape=made, patches=patches, clips_per_unit=8)
        rates = []
        for precision in given.precisions:
            settings = [*TWO_EPOCHS, *PLAINLY, f"batch_size={given.batch}", f"trainer.precision={precision}"]
            asked = recipes.override(papers.load(name).model_copy(update={"features": (name,)}), settings)
            rates.append(run_epoch(asked, folder / f"{name}.zarr", "auto", given.device))
        seen = Input.of(store.header).count
        size = " x ".join(map(str, shape))
        said = " | ".join(f"{rate:.2f}" for rate in rates)
        print(f"| `{name}` | {family} | {size} | {seen} | {said} |", flush=True)


PLAINLY = ("trainer.kind=supervised", "objective.kind=cross_entropy")
"""No weights for classes that the made-up clips do not have, and no support vector machines between the steps."""
TWO_EPOCHS = (
    "epochs=2",
    "selection.side=last",
    "selection.fraction=0",
    "schedule.kind=constant",
    "early_stopping=none",
)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--device", default="cpu")
    words.add_argument("--batch", type=int, default=16)
    words.add_argument("--locations", type=int, default=4, help="24 clips each; at least 2")
    words.add_argument("--bands", type=int, default=256)
    words.add_argument("--frames", type=int, default=862)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--seeds", type=int, default=4, help="of the accuracies; 0 leaves them out")
    words.add_argument("--epochs", type=int, default=8)
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--only", choices=["steps", "feeds", "families"], help="one of these tables")
    words.add_argument("--shorter", type=int, default=1, help="divide the families' clips along time by this")
    words.add_argument(
        "--precisions",
        nargs="+",
        choices=["float32", "bf16"],
        default=["float32", "bf16"],
        help="of the families; bf16 takes a processor without instructions for it ten times as long as float32",
    )
    words.add_argument("--folder", type=Path, help="on the disk to be measured")
    given = words.parse_args()
    keep_freed_memory()  # as the commands do
    torch.set_num_threads(given.threads)
    settings = [f"batch_size={given.batch}", *TWO_EPOCHS]
    recipe = recipes.override(papers.load("nguyen2020").model_copy(update={"features": "made"}), settings)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        clips = scene_clips(locations=given.locations, devices=("a", "b", "c", "d"))
        made = make_store(folder / "made.zarr", clips, shape=layout(given.bands, given.frames), clips_per_unit=32)
        each = made.layout.clip_bytes / 1e3
        print(
            f"{os.cpu_count()} CPUs, {given.threads} thread, {given.device}; torch {torch.__version__}; "
            f"{len(clips)} clips of {each:.0f} kB, batches of {given.batch}; median of {given.rounds}\n"
        )
        tables = {"steps": lambda: steps(folder, given, recipe), "feeds": lambda: feeds(folder, given, recipe)}
        tables["families"] = lambda: families(folder, given)
        for name, table in tables.items():
            if given.only in (None, name):
                table()
                print()
        if given.seeds and not given.only:
            accuracies(folder, given)


if __name__ == "__main__":
    sys.exit(main())
