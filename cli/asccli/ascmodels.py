"""The command ``ascmodels``: from feature stores to trained models and reports."""

from __future__ import annotations

import click

from asccli.ensemble import ensemble
from asccli.evaluate import evaluate
from asccli.fit import fit
from asccli.memory import keep_freed_memory
from asccli.output import run
from asccli.papers import families, papers
from asccli.predict import predict


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ascfeat")
def ascmodels() -> None:
    """Acoustic-scene-classification models: from feature stores to trained models and reports."""


for command in (ensemble, evaluate, families, fit, papers, predict):
    ascmodels.add_command(command)


def main() -> None:
    """Entry point of the installed command."""
    keep_freed_memory()
    run(ascmodels)
