"""``ascfeat recipes``: the named recipes, and every number of one of them."""

from __future__ import annotations

import click

from asccli.output import console, table


@click.group(invoke_without_command=True)
@click.pass_context
def recipes(context: click.Context) -> None:
    """List the feature recipes."""
    if context.invoked_subcommand is not None:
        return
    from ascfeat.recipes import load_recipe, names

    every = [load_recipe(n) for n in names()]
    console().print(table("", ["recipe", "from", "what"], [(r.name, r.source, r.description) for r in every]))
    console().print("\nAll numbers of one: ascfeat recipes show NAME. Your own: such YAML in a file, --recipe FILE.")


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a recipe as YAML, every default written out, with its fingerprint."""
    import yaml

    from ascfeat.recipes import load_recipe

    recipe = load_recipe(name)
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    click.echo(f"{text}# fingerprint {recipe.fingerprint}")
