"""``ascmodels predict``: class probabilities of audio files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asccli.fit import DEVICE
from asccli.memory import learning_loads
from asccli.output import say

if TYPE_CHECKING:
    from ascmodels.predict import Prediction

SHOWN = 3
"""Classes shown for each recording."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="FILE...")
@DEVICE
@click.option("--recorder", default="", help="Device that made the recordings, where RUN corrects spectra by device.")
@click.option(
    "--tags", metavar="SOURCE", help="Tags of the files, where RUN was trained on tags: its tagger, or a table."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every class.")
def predict(run: Path, files: tuple[Path, ...], device: str, recorder: str, tags: str | None, as_json: bool) -> int:
    """Classify audio files with the selected epoch of RUN.

    A file that cannot be used is named with its reason; the others are still classified, and the exit status is 1.
    """
    with learning_loads():
        from ascmodels.checkpoint import RunFolder
        from ascmodels.predict import predict as predicted

    if not recorder and any(store.header.recipe.correction for store in RunFolder(run).data.stores):
        say(f"{run} was trained on spectra corrected by device; these are not: --recorder names it.", err=True)
    failed = 0
    for one in predicted(run, files, device=device, recorder=recorder, tags=tags):
        failed += one.problem is not None
        if as_json:
            click.echo(json.dumps(_plain(one)))
        elif one.problem:
            say(one.problem.text(), err=True)
        else:
            say(_line(one))
    return 1 if failed else 0


def _plain(one: Prediction) -> dict[str, Any]:
    if one.problem:
        return {"file": str(one.file), "reason": one.problem.reason, "problem": one.problem.what}
    return {"file": str(one.file), "label": one.label, "probabilities": one.probabilities}


def _line(one: Prediction) -> str:
    first = sorted(one.probabilities.items(), key=lambda item: -item[1])[:SHOWN]
    votes = f" (of the votes of {one.voters} patches)" if one.voters > 1 else ""
    return f"{one.file}: " + ", ".join(f"{label} {100 * p:.1f} %" for label, p in first) + votes
