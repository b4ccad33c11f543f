"""``ascfeat extract``: bring the feature stores of a dataset up to date."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from asccli.libraries import LIBRARIES
from asccli.memory import leave_imports_alone
from asccli.output import duration, err_console, progress_reporter, say, size, table
from asccli.stopping import TERMINATED, Terminated, sigterm_raises
from asccli.workers import known_workers, open_workers
from ascfeat.pools import QUEUED
from ascschemas.problems import AscError

if TYPE_CHECKING:
    from ascfeat.datasets.tree import Tree
    from ascfeat.extract import Outcome
    from ascfeat.jobs import Job
    from ascfeat.pools import Pool
    from ascschemas.dataset import Manifest
    from ascschemas.recipe import FeatureRecipe

COMPARING_SECONDS = 5.0
"""Between two lines that say how far a comparison is."""
EXCLUDED_SHOWN = 20
"""Excluded recordings listed before the rest is only counted."""

FEATURES = click.option(
    "--features",
    default="features",
    envvar="ASC_FEATURES",
    show_default=True,
    help="Folder or URL (s3://bucket/prefix) of the feature stores (or ASC_FEATURES).",
)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--recipe", "recipes", multiple=True, required=True, help="Recipe name or YAML file; may be repeated.")
@FEATURES
@click.option("--dataset-kind", help="Loader of the dataset; recognised from the folder where absent.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:0 …")
@click.option("--backend", default="auto", show_default=True, help="auto, numba, torch, nnaudio or librosa.")
@click.option("--threads", type=click.IntRange(min=1), help="Clips under way at once; as many as CPUs where absent.")
@click.option(
    "--workers", callback=known_workers, metavar="WHERE",
    help="Whole units at once: N (processes), threads:N, dask (a local cluster) or tcp://host:8786.  "
    "[default: this process, clips on threads]",
)  # fmt: skip
@click.option("--compress/--no-compress", default=None, help="Compress chunks without loss: smaller, slower to read.")
@click.option(
    "--precision", type=click.Choice(["float32", "float16", "0.05dB"]),
    help="Number format of the stored values, instead of the recipe's; the last two for logarithms only.",
)  # fmt: skip
@LIBRARIES
@click.option(
    "--tags", metavar="SOURCE", help="Tags for --recipe tags: a .csv or .npy file, a run, or module:callable."
)
@click.option("--no-wait", is_flag=True, help="Fail where another process writes a store, instead of waiting for it.")
@click.option("--strict", is_flag=True, help="Exit with status 1 when a recording could not be used.")
def extract(
    dataset: Path,
    recipes: Sequence[str],
    features: str,
    dataset_kind: str | None,
    device: str,
    backend: str,
    threads: int | None,
    workers: str | None,
    compress: bool | None,
    precision: str | None,
    libraries: Sequence[str],
    tags: str | None,
    no_wait: bool,
    strict: bool,
) -> int:
    """Compute the features of DATASET and keep them in FEATURES/<dataset>/<recipe>.zarr.

    Every recording is decoded once for all recipes. What is stored already is not computed again; after an
    interruption the same command goes on. A recording that cannot be used never stops the job: it is listed with
    its reason, here and in the store.
    """
    from ascfeat.correction.correcting import recipe_of
    from ascfeat.datasets import open_dataset
    from ascfeat.jobs import prepare
    from ascfeat.recipes import load_recipe
    from ascfeat.store import open_place

    refuse_threads_and_workers(threads, workers)
    for recipe in recipes:
        if "+" not in recipe:
            load_recipe(recipe)  # a wrong name is told before a large dataset is looked through
    sys.path.insert(0, "")  # a callable of --tags may lie in the current folder, as with `python -m`
    tree, manifest = open_dataset(dataset, dataset_kind)
    known = [recipe_of(r, features, manifest.dataset) for r in dict.fromkeys(recipes)]
    wanted = [stored_as(r, compress, precision) for r in known]
    shelves = [open_place(place) for place in libraries]
    jobs = prepare(
        tree,
        manifest,
        wanted,
        open_place(features),
        device=device,
        backend=backend,
        tags=tags,
        libraries=shelves,
        reading=comparing(),
    )
    outcomes = carry_out(tree, manifest, jobs, device=device, threads=threads, workers=workers, no_wait=no_wait)
    return 1 if strict and any(o.excluded for o in outcomes) else 0


def refuse_threads_and_workers(threads: int | None, workers: str | None) -> None:
    """Only one of both can say what works at once."""
    if threads and workers:
        raise click.UsageError("--threads is of this process only; give --workers, or --threads, or threads:N.")


def carry_out(
    tree: Tree,
    manifest: Manifest,
    jobs: Sequence[Job],
    *,
    device: str,
    threads: int | None,
    workers: str | None,
    no_wait: bool,
) -> list[Outcome]:
    """Say what some jobs are, how long they will take and what came of them, and do them."""
    announce(manifest, jobs)
    todo = [j for j in jobs if j.pending]
    with open_workers(workers if todo else None, say) as pool, stopped_in_words(todo):
        wait = None if no_wait else say
        outcomes = _run(tree, manifest, jobs, todo, device=device, threads=threads, pool=pool, wait=wait)
    for outcome in outcomes:
        _summary(outcome)
    _excluded(outcomes)
    return outcomes


def _run(
    tree: Tree,
    manifest: Manifest,
    jobs: Sequence[Job],
    todo: Sequence[Job],
    *,
    device: str,
    threads: int | None,
    pool: Pool | None,
    wait: Callable[[str], None] | None,
) -> list[Outcome]:
    """Say how long it will take, and do it."""
    from ascfeat import extract as work

    if todo:
        at_once = max(1, pool.slots() // QUEUED) if pool else threads or os.cpu_count() or 1
        seconds = work.forecast_seconds(tree, manifest, todo, device=device, at_once=at_once)
        _forecast(todo, seconds, str(pool or f"{at_once} threads"))
    leave_imports_alone()
    with progress_reporter(work.recordings(todo, apart=pool is not None), then="sealing") as report:
        return work.run(
            tree, manifest, jobs, device=device, threads=threads, workers=pool, wait=wait, progress=report, say=say
        )


def stored_as(recipe: FeatureRecipe, compress: bool | None, precision: str | None) -> FeatureRecipe:
    """A recipe whose values are kept as asked for on the command line; its fingerprint is the same."""
    asked = {"compress": compress, "precision": precision}
    changes = {name: value for name, value in asked.items() if value is not None}
    return recipe.model_copy(update={"storage": recipe.storage.model_copy(update=changes)})


@contextmanager
def stopped_in_words(jobs: Sequence[Job]) -> Iterator[None]:
    """Say how far stores are when the job is stopped by a signal."""
    with sigterm_raises():
        try:
            yield
        except KeyboardInterrupt as stop:
            with suppress(AscError, OSError):  # a store that is not created yet, or gone
                for job in jobs:
                    err_console().print(Text(_how_far(job)), soft_wrap=True)
            if isinstance(stop, Terminated):
                err_console().print("Terminated. What is finished is kept; the same command goes on from there.")
                sys.exit(TERMINATED)
            raise


def _how_far(job: Job) -> str:
    from ascfeat.store import Store, unit_rows

    store = Store(job.place)
    missing = sum(stop - first for first, stop in (unit_rows(store.header, u) for u in store.pending()))
    return f"{job.place}: {store.header.clips - missing} of {store.header.clips} clips are done"


def _forecast(jobs: Sequence[Job], seconds: float, workers: str) -> None:
    from ascfeat.jobs import check_space

    free = check_space(jobs)
    room = f"{_needed(jobs)} of {size(free)} free" if free is not None else _needed(jobs)
    say(f"forecast: {room}, about {duration(seconds)} on {workers}, then the seal")


def comparing() -> Callable[[int, int], None]:
    """Say that recordings are read to be compared, where that takes a while."""
    start = time.monotonic()
    said = [start]

    def report(done: int, total: int) -> None:
        now = time.monotonic()
        if now - start > COMPARING_SECONDS and now - said[0] > COMPARING_SECONDS:
            said[0] = now
            line = f"comparing recordings with the store: {done} of {total} read; what is known is not read again"
            err_console().print(line, soft_wrap=True)

    return report


def announce(manifest: Manifest, jobs: Sequence[Job]) -> None:
    """Say what a dataset is, and what there is to do for each store."""
    say(f"{manifest.dataset} ({manifest.kind}): {len(manifest.clips)} clips, {len(manifest.classes)} classes")
    for note in manifest.notes:
        say(f"note: {note}")
    for job in jobs:
        say(f"{job.place}: {_intent(job)}")
        for line in job.changes.lines():
            say(f"  {line}")
        if job.changes.storage and (tolerance := job.header.encoding.tolerance) is not None:
            say(f"note: values will be rounded by at most {tolerance:g} dB; to be exact again they are computed again")
        if job.gone:
            say(f"note: {_gone(job)}")
        if job.trusted:
            say(f"note: {job.trusted} recordings count as unchanged by size and date; later starts read more of them")
        if job.header.recipe.representation.values().get("channels") == "left_right_mid" and _is_mono(job):
            say(f"note: {job.header.recipe.name} asks for left, right and mid, and there is one channel")


def _gone(job: Job) -> str:
    first = ", ".join(job.gone[:3]) + (", …" if len(job.gone) > 3 else "")
    were = "recordings are" if len(job.gone) > 1 else "recording is"
    return f"{len(job.gone)} {were} not there any more, and the store keeps their features: {first}"


def _is_mono(job: Job) -> bool:
    return job.header.layout.axes[0].size == 1


def _intent(job: Job) -> str:
    clips = job.header.clips
    if not job.pending:
        taken = ", from a library" if job.place in job.libraries else ""
        return f"sealed{taken}, nothing to do" if job.sealed else "every unit is done, to be sealed"
    if job.sealed and not (job.anew or job.changes):
        left = f"sealed, but {len(job.clips)} of {clips} clips are damaged or gone there"
        return f"{left}; {len(job.computing)} to be computed"
    if job.anew or job.changes:
        return f"not up to date; {len(job.computing)} of {clips} clips to be computed"
    if len(job.clips) < clips:
        return f"going on, {clips - len(job.clips)} of {clips} clips are done"
    shape = " x ".join(str(n) for n in job.header.layout.shape)
    new = f"{clips} clips of {shape}, {job.header.layout.quantity}, by {job.header.backend}"
    return f"{new}; {len(job.reused)} of them are in a library" if job.reused else new


def _needed(jobs: Sequence[Job]) -> str:
    return size(sum(j.bytes for j in jobs))


def _summary(outcome: Outcome) -> None:
    whole, out = outcome.header.clips, len(outcome.excluded)
    taken = f", {outcome.taken} taken as they were" if outcome.taken else ""
    spent = f"; {outcome.computed} computed{taken} in {duration(outcome.seconds)}" if outcome.computed or taken else ""
    say(f"{outcome.place}: sealed, {whole - out} of {whole} clips usable{spent}")
    for c in outcome.certificate.comparisons if outcome.certificate else ():
        if not c.holds:
            beyond = f"relative difference {c.relative:g} from {c.against}, at most {c.tolerance:g} is expected"
            say(f"warning: {outcome.place}: {beyond}")


def _excluded(outcomes: Sequence[Outcome]) -> None:
    rows = list(dict.fromkeys((c, r.excluded, r.detail) for o in outcomes for c, r in o.excluded.items()))
    if not rows:
        return
    err_console().print(table("could not be used:", ["recording", "reason", "detail"], rows[:EXCLUDED_SHOWN]))
    if len(rows) > EXCLUDED_SHOWN:
        more = f"… and {len(rows) - EXCLUDED_SHOWN} more: ascfeat info {outcomes[0].place}"
        err_console().print(Text(more), soft_wrap=True)
