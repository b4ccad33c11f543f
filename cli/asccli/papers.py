"""``ascmodels papers`` and ``families``: what can be trained, and where every value comes from."""

from __future__ import annotations

import json

import click

from asccli.output import console, say, table


@click.group(invoke_without_command=True)
@click.pass_context
def papers(context: click.Context) -> None:
    """List the papers' training recipes."""
    if context.invoked_subcommand is not None:
        return
    from ascmodels import papers as known

    for name in known.names():
        recipe = known.load(name)
        say(f"{name}   {recipe.family.kind} on {' and '.join(recipe.features)}")
        say(f"    {recipe.title}")
    say("\nEvery value and its source: ascmodels papers show NAME. Your own: such YAML in a file.")


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
            (f"family.{k}", json.dumps(f.get_default()) if not f.is_required() else "-", f.description or "")
            for k, f in family.model_fields.items()
        ]
        console().print(table("", ["--set", "default", "what"], rows))
