"""``ascmodels fit``: train a paper's model from a feature store."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asccli.extract import FEATURES
from asccli.learning import learning_watcher
from asccli.libraries import LIBRARIES, find_named
from asccli.memory import learning_loads
from asccli.output import count, leads, say
from asccli.stopping import TERMINATED, Terminated, sigterm_raises

if TYPE_CHECKING:
    from ascfeat.store import Store

DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1 …")


@click.command()
@click.argument("name")
@click.argument("dataset", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option(
    "--split",
    help="Split of the dataset (fold1 or its only one where absent), or a fold by location such as location5_1.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value, such as epochs=5.")
@FEATURES
@LIBRARIES
@DEVICE
@click.option("--seed", type=click.IntRange(min=0), help="What every random draw comes from; short for --set seed=N.")
@click.option("--select", type=click.Choice(["validation", "test", "last"]), help="Side whose score picks the epoch.")
@click.option("--trainer", metavar="NAME", help="Trainer; short for --set trainer.kind=NAME.")
@click.option(
    "--placement",
    type=click.Choice(["auto", "device", "ram", "stream"]),
    default="auto",
    show_default=True,
    help="Where features are read from while training: the GPU's memory, RAM, the store; auto is the first that fits.",
)
@click.option(
    "--correction", metavar="NAME", help="Train on spectra corrected by device, such as ref_abc; see `ascfeat correct`."
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    metavar="FILE|RUN",
    help="Weights to start from: a .safetensors or .pth file, or a run folder.",
)
@click.option("--resume", is_flag=True, help="Go on with an unfinished run.")
def fit(
    name: str,
    dataset: Path | None,
    out: Path,
    split: str | None,
    settings: tuple[str, ...],
    features: str,
    libraries: tuple[str, ...],
    device: str,
    seed: int | None,
    select: str | None,
    trainer: str | None,
    placement: str,
    correction: str | None,
    init: Path | None,
    resume: bool,
) -> None:
    """Train the recipe NAME on the features of DATASET, into the folder --out.

    NAME is one that `ascmodels papers` lists, or a YAML file.

    Only DATASET's name is used, to find FEATURES/<dataset>/<recipe>.zarr; it may be left out where FEATURES holds one
    such store; a --library is looked through after FEATURES. `ascmodels papers show NAME` lists what --set can change.
    """
    with learning_loads():
        from ascfeat.recipes import load_recipe, names
        from ascmodels import papers, recipes
        from ascmodels.devices import choose, warm_up
        from ascmodels.joining import join
        from ascmodels.training import train, uncorrected

        warm_up()
    short = {"seed": seed, "selection.side": select, "trainer.kind": trainer}
    asked = [*settings, *(f"{key}={value}" for key, value in short.items() if value is not None)]
    recipe = recipes.override(papers.load(name), asked)
    with learning_loads():
        recipes.trainer(recipe).require(recipe, choose(device))
    if correction is not None:
        corrected = ", ".join(f"{uncorrected(wanted)}+{correction}" for wanted in recipe.features)
        recipe = recipes.override(recipe, [f"features=[{corrected}]"])
    stores = join(*(find_store(features, dataset, wanted, libraries) for wanted in recipe.features))
    with _interruptible(out), learning_watcher(recipe.metric) as watch:
        done = train(
            recipe,
            stores,
            out,
            split=split,
            device=device,
            placement=placement,  # type: ignore[arg-type]  # click has checked it
            resume=resume,
            features=[load_recipe(base) if base in names() else None for base in map(uncorrected, recipe.features)],
            init=init,
            watch=watch,
        )
    if os.environ.get("RANK", "0") == "0":  # of those that torchrun starts, one speaks
        say(f"{out}: {count(done.last, 'epoch')}, epoch {done.selected} selected. Next: ascmodels evaluate {out}")


def find_store(features: Path | str, dataset: Path | None, recipe: str, libraries: Sequence[str] = ()) -> Store:
    """The sealed store of a dataset and a feature recipe, in the feature folder or else in a library.

    Raises
    ------
    StoreError
        When there is none (with the command that makes it), or several and none was named.
    UnknownName
        When there is none, of no dataset, and no recipe of that name comes with the package.
    """
    from ascfeat.datasets.listing import safe_name
    from ascfeat.recipes import names as known
    from ascfeat.store import open_store, store_path
    from ascschemas.problems import StoreError, UnknownName, nearest

    name = safe_name(dataset.resolve().name) if dataset else None
    places = [str(features), *libraries]
    found = find_named(places, recipe, name)
    if len(found) == 1 or (found and dataset):
        return open_store(found[0])
    base, _, corrected = recipe.partition("+")
    if not found and base not in known() and not find_named(places, base, None):
        raise UnknownName(
            f"There is no store of {recipe!r} in {features}, and no recipe of that name: {nearest(base, known())}",
            todo="Name a recipe of `ascfeat recipes`, or extract your own first: `ascfeat extract --recipe FILE.yaml`.",
        )
    folder = shlex.quote(str(dataset)) if dataset else "<dataset>"
    make = f"ascfeat {_verb(base, corrected)} {folder} --features {shlex.quote(str(features))}"
    if name is not None:
        path = store_path(features, name, recipe)
        raise StoreError(f"There is no store of {recipe} for {dataset}: {path}.", todo=f"Make it with `{make}`.")
    names = ", ".join(p.parent.name for p in found) or "none"
    raise StoreError(
        f"{features} holds {len(found)} stores of {recipe}: {names}.",
        todo="Name the dataset." if found else f"Make one with `{make}`.",
    )


def _verb(base: str, corrected: str) -> str:
    """What makes features: extraction, of tags from somewhere, or a correction, whose devices its name may say."""
    if not corrected:
        return f"extract --recipe {base}" + (" --tags <run, table or callable>" if base == "tags" else "")
    devices = corrected.removeprefix("ref_").upper()
    reference = f"--ref {devices}" if corrected.startswith("ref_") else f"--ref <devices> --name {corrected}"
    return f"correct {reference} --recipe {base}"


@contextmanager
def _interruptible(out: Path) -> Iterator[None]:
    """Say where an interrupted run stands, and how it goes on."""
    try:
        with sigterm_raises():
            yield
    except (KeyboardInterrupt, SystemExit) as stop:
        terminated = isinstance(stop, Terminated) or getattr(stop, "code", None) == TERMINATED  # Lightning's way
        if isinstance(stop, SystemExit) and not terminated:
            raise
        if leads():
            from ascmodels.checkpoint import RunFolder

            kept = f"Finished epochs are kept in {out}; the same command with --resume goes on after them."
            if not RunFolder.has_checkpoints(out):
                kept = "No epoch was finished: nothing is kept."
            say(f"{'Terminated' if terminated else 'Stopped'}. {kept}", err=True)
        sys.exit(TERMINATED if terminated else 130)
