"""``ascfeat gc``: what can go from a library of stores, and its removal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from asccli.output import say, size
from ascschemas.problems import StoreError

if TYPE_CHECKING:
    from ascfeat.leftovers import Leftover

DAY = 86_400.0


@click.command()
@click.argument("library", default="features", envvar="ASC_FEATURES")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Also what is not finished and so long idle.",
)
@click.option(
    "--dataset", type=click.Path(path_type=Path),
    help="A dataset folder: also sealed stores of it that another store here has replaced.",
)  # fmt: skip
@click.option("--delete", is_flag=True, help="Remove it; without this, nothing is removed.")
def gc(library: str, older_than: float | None, dataset: Path | None, delete: bool) -> int:
    """Say what can go from LIBRARY (or ASC_FEATURES, or ./features), a folder or s3:// URL of stores.

    Named are leftovers of killed writers, older states of stores whose new state is sealed, and locks without a
    store. Stores that somebody writes are left alone. A sealed store is never named without --dataset.
    """
    from ascfeat.datasets import open_dataset
    from ascfeat.leftovers import survey
    from ascfeat.store import open_place

    idle = None if older_than is None else older_than * DAY
    manifest = open_dataset(dataset)[1] if dataset else None
    found = survey(open_place(library), older_than=idle, manifest=manifest)
    for busy in found.busy:
        say(f"in use      {busy}")
    kept = 0
    for leftover in found.leftovers:
        say(f"{leftover}  {size(leftover.bytes)}: {leftover.why}")
        if delete:
            kept += not _removed(leftover, idle)
    done = "removed" if delete else "can go; --delete removes it"
    say(f"{size(found.bytes)} {done}." if found.leftovers else "Nothing can go.")
    return 1 if kept else 0


def _removed(leftover: Leftover, idle: float | None) -> bool:
    from ascfeat.leftovers import remove

    try:
        gone = remove(leftover, older_than=idle)
    except StoreError as error:
        say(f"  kept: {error.what}")
        return False
    if not gone:
        say("  kept: it is in use again")
    return gone
