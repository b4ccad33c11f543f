"""The command ``ascfeat``: from recordings to feature stores."""

from __future__ import annotations

import click

from asccli.check import check
from asccli.correct import correct
from asccli.demo_data import demo_data
from asccli.diff import diff
from asccli.extract import extract
from asccli.gc import gc
from asccli.memory import keep_freed_memory
from asccli.output import run
from asccli.recipes import recipes
from asccli.repair import repair
from asccli.share import pull, push
from asccli.stores import info, ls, show
from asccli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ascfeat")
def ascfeat() -> None:
    """Acoustic-scene-classification features: from recordings to checked feature stores."""


for command in (check, correct, demo_data, diff, extract, gc, info, ls, pull, push, recipes, repair, show, verify):
    ascfeat.add_command(command)


def main() -> None:
    """Entry point of the installed command."""
    keep_freed_memory()
    run(ascfeat)
