"""``ascmodels papers`` and ``families``: what can be trained, and where every value comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from asccli.output import console, count, say, table

if TYPE_CHECKING:
    from ascschemas.training import TrainingRecipe

OWN = "this project's own"
ROWS = 8
"""Recipes of one paper that are listed unless all are asked for."""


@click.group(invoke_without_command=True)
@click.option("--all", "everything", is_flag=True, help="List every row, also of papers that print dozens.")
@click.pass_context
def papers(context: click.Context, everything: bool) -> None:
    """List the papers' training recipes, one for each row that they print, with the printed accuracy."""
    if context.invoked_subcommand is not None:
        return
    from ascmodels import papers as known

    for paper, names in known.by_paper().items():
        first = known.load(names[0])
        say(f"{paper or OWN}   {f'{first.family.kind}, ' if paper else ''}{count(len(names), 'recipe')}")
        shown = names if everything else names[:ROWS]
        for name in shown:
            say(f"    {name:<34} {_printed(known.load(name))}")
        if len(shown) < len(names):
            say(f"    … {len(names) - len(shown)} more: ascmodels papers --all")
    say("\nEvery value and its source: ascmodels papers show NAME. Your own: such YAML in a file, perhaps on a base.")


def _printed(recipe: TrainingRecipe) -> str:
    """The published number of all clips, and where it stands; without one, what the recipe is."""
    if not recipe.claims:
        return recipe.title
    claim = next((c for c in recipe.claims if c.scope in ("overall", "class_mean", "device_mean")), recipe.claims[0])
    scope = f"{claim.scope} {claim.group}".replace("_", " ").strip()
    value = f"{claim.value:.1f}" if round(claim.value, 1) == claim.value else f"{claim.value:g}"
    return f"{value:>5}  {scope}, {claim.source}"


@papers.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The whole recipe as JSON.")
def show(name: str, as_json: bool) -> None:
    """Print every value of the paper NAME with who says so, and its published numbers."""
    from ascmodels import papers as known

    recipe = known.load(name)
    if as_json:
        click.echo(recipe.model_dump_json(indent=1))
        return
    say(recipe.title)
    rows = [(k, json.dumps(v), recipe.sources[k]) for k, v in recipe.hyper_parameters.items()]
    console().print(table("", ["--set", "value", "source"], rows))
    published = [(f"{c.scope} {c.group}", c.value, c.source, c.data.title) for c in recipe.claims]
    if published:
        console().print(table("\npublished accuracies, %", ["of", "value", "where", "data"], published))
    say("\npaper: it says so; prior: earlier public work; choice, ours, default: nobody's but this project's")
    say(f"fingerprint {recipe.fingerprint}")


@click.command()
def families() -> None:
    """List the model families with their parameters and defaults."""
    from ascmodels.families.base import Family
    from ascschemas import plugins

    for name in plugins.names("ascmodels.families"):
        family: type[Family] = plugins.load("ascmodels.families", name)
        say(f"{name}   {(family.__doc__ or '').strip().splitlines()[0]}")
        rows = [
            (f"family.{k}", json.dumps(f.get_default()) if not f.is_required() else "-", _plain(f.description or ""))
            for k, f in family.model_fields.items()
        ]
        console().print(table("", ["--set", "default", "what"], rows))


def _plain(description: str) -> str:
    """A docstring as words: no line ends of its own, no marks of code."""
    return " ".join(description.replace("``", "").split())
