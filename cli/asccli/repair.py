"""``ascfeat repair``: make exactly what is broken in a store again."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asccli.output import count, progress_reporter, say

if TYPE_CHECKING:
    from ascfeat.repair import Repaired

SHOWN = 20
"""Problems listed before the rest is only counted."""


@click.command()
@click.argument("store")
@click.option("--dataset", type=click.Path(path_type=Path), help="Folder of the recordings that it was made from.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:0 …")
@click.option("--threads", type=click.IntRange(min=1), help="Clips under way at once; as many as CPUs where absent.")
def repair(store: str, dataset: Path | None, device: str, threads: int | None) -> int:
    """Find what `ascfeat verify` finds in STORE, and make exactly that again.

    A damaged description is restored from the copy that every store keeps of it; metadata and labels from the dataset's
    list; values by computing their unit again from the recordings. The rest is not touched. The exit status is 1 when
    the store does not hold what it held when it was sealed, because recordings have changed since.
    """
    from ascfeat.datasets import open_dataset
    from ascfeat.repair import described
    from ascfeat.repair import repair as healed
    from ascfeat.store import open_place

    place = open_place(store)
    header = described(place)
    opened = open_dataset(dataset, header.dataset_kind) if dataset else None
    with progress_reporter(header.clips) as report:
        done = healed(
            place,
            opened,
            device=device,
            threads=threads or os.cpu_count() or 1,
            wait=partial(say, err=True),
            progress=report,
        )
    _show(store, done)
    return 0 if done.same and not done.left else 1


def _show(store: str, done: Repaired) -> None:
    for problem in done.problems[:SHOWN]:
        say(str(problem))
    if len(done.problems) > SHOWN:
        say(f"… and {len(done.problems) - SHOWN} more")
    if not done.problems:
        say(f"{store}: whole, nothing to repair")
        return
    healed = len(done.problems) - len(done.left)
    files, units = count(len(done.files), "file"), count(len(done.units), "unit")
    made = [*[f"{files} restored"][: len(done.files)], *[f"{units} computed again"][: len(done.units)]]
    say(f"{store}: {count(healed, 'problem')} healed; {', '.join(made) or 'sealed again'}")
    for problem in done.left:
        say(f"left: {problem}")
    if done.left:
        say("Remove by hand what is left, and repair it again.")
    elif done.same:
        say("It holds what it held when it was sealed.")
    else:
        say("It holds other values than before: recordings have changed since it was sealed.")
