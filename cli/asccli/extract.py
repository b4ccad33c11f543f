"""``ascfeat extract``: bring the feature stores of a dataset up to date."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from asccli.memory import leave_imports_alone
from asccli.output import console, duration, err_console, progress_reporter, size, table

if TYPE_CHECKING:
    from ascfeat.extract import Outcome
    from ascfeat.jobs import Job
    from ascschemas.dataset import Manifest

EXCLUDED_SHOWN = 20
"""Excluded recordings listed before the rest is only counted."""

FEATURES = click.option(
    "--features",
    type=click.Path(path_type=Path),
    default="features",
    envvar="ASC_FEATURES",
    show_default=True,
    help="Folder of the feature stores (or ASC_FEATURES).",
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
    "--tags", metavar="SOURCE", help="Tags for --recipe tags: a .csv or .npy file, a run, or module:callable."
)
@click.option("--strict", is_flag=True, help="Exit with status 1 when a recording could not be used.")
def extract(
    dataset: Path,
    recipes: Sequence[str],
    features: Path,
    dataset_kind: str | None,
    device: str,
    backend: str,
    threads: int | None,
    tags: str | None,
    strict: bool,
) -> int:
    """Compute the features of DATASET and keep them in FEATURES/<dataset>/<recipe>.zarr.

    Every recording is decoded once for all recipes. What is stored already is not computed again; after an
    interruption the same command goes on. A recording that cannot be used never stops the job: it is listed with
    its reason, here and in the store.
    """
    from ascfeat import extract as work
    from ascfeat.datasets import open_dataset
    from ascfeat.jobs import check_space, prepare
    from ascfeat.recipes import load_recipe

    threads = threads or os.cpu_count() or 1
    wanted = [load_recipe(r) for r in dict.fromkeys(recipes)]
    sys.path.insert(0, "")  # a callable of --tags may lie in the current folder, as with `python -m`
    tree, manifest = open_dataset(dataset, dataset_kind)
    jobs = prepare(tree, manifest, wanted, features, device=device, backend=backend, tags=tags)
    _announce(manifest, jobs)
    todo = [j for j in jobs if j.pending]
    if todo:
        free = check_space(todo)
        seconds = work.forecast_seconds(tree, manifest, todo, device=device, threads=threads)
        takes = f"about {duration(seconds)} on {threads} threads, then the seal"
        _say(f"forecast: {_needed(todo)} of {size(free)} free, {takes}")
    leave_imports_alone()
    with progress_reporter(len({i for j in todo for i in j.clips})) as report:
        outcomes = work.run(tree, manifest, jobs, device=device, threads=threads, progress=report)
    for outcome in outcomes:
        _summary(outcome)
    _excluded(outcomes)
    return 1 if strict and any(o.excluded for o in outcomes) else 0


def _announce(manifest: Manifest, jobs: Sequence[Job]) -> None:
    _say(f"{manifest.dataset} ({manifest.kind}): {len(manifest.clips)} clips, {len(manifest.classes)} classes")
    for note in manifest.notes:
        _say(f"note: {note}")
    for job in jobs:
        _say(f"{job.path}: {_intent(job)}")
        if job.header.recipe.representation.values().get("channels") == "left_right_mid" and _is_mono(job):
            _say(f"note: {job.header.recipe.name} asks for left, right and mid, and there is one channel")


def _is_mono(job: Job) -> bool:
    return job.header.layout.axes[0].size == 1


def _intent(job: Job) -> str:
    clips = job.header.clips
    if not job.pending:
        return "whole, nothing to do" if job.sealed else "every unit is done, to be sealed"
    if job.changed:
        first = ", ".join(job.changed[:3]) + (", …" if len(job.changed) > 3 else "")
        return f"{len(job.changed)} recordings changed ({first}); {len(job.clips)} of {clips} clips again"
    if len(job.clips) < clips:
        return f"going on, {clips - len(job.clips)} of {clips} clips are done"
    shape = " x ".join(str(n) for n in job.header.layout.shape)
    return f"{clips} clips of {shape}, {job.header.layout.quantity}, by {job.header.backend}"


def _needed(jobs: Sequence[Job]) -> str:
    return size(sum(j.bytes for j in jobs))


def _summary(outcome: Outcome) -> None:
    whole, out = outcome.header.clips, len(outcome.excluded)
    spent = f"; {outcome.computed} computed in {duration(outcome.seconds)}" if outcome.computed else ""
    _say(f"{outcome.path}: sealed, {whole - out} of {whole} clips usable{spent}")
    for c in outcome.certificate.comparisons if outcome.certificate else ():
        if not c.holds:
            beyond = f"relative difference {c.relative:g} from {c.against}, at most {c.tolerance:g} is expected"
            _say(f"warning: {outcome.path}: {beyond}")


def _excluded(outcomes: Sequence[Outcome]) -> None:
    rows = list(dict.fromkeys((c, r.excluded, r.detail) for o in outcomes for c, r in o.excluded.items()))
    if not rows:
        return
    err_console().print(table("could not be used:", ["recording", "reason", "detail"], rows[:EXCLUDED_SHOWN]))
    if len(rows) > EXCLUDED_SHOWN:
        more = f"… and {len(rows) - EXCLUDED_SHOWN} more: ascfeat info {outcomes[0].path}"
        err_console().print(Text(more), soft_wrap=True)


def _say(line: str) -> None:
    console().print(Text(line), soft_wrap=True)
