"""`mnistbench recipes`: the recipes of all plugins with their claims, and `show` for one."""

from __future__ import annotations

from typing import Annotated

import typer

from mnistbench.errors import MnistbenchError

app = typer.Typer(help="List the recipes, with what their sources claim.")


@app.callback(invoke_without_command=True)
def list_all(context: typer.Context) -> None:
    """List the recipes, with what their sources claim."""
    if context.invoked_subcommand is not None:
        return
    from rich.markup import escape
    from rich.table import Table

    from mnistbench.cli.console import console
    from mnistbench.plugins import discover
    from mnistbench.recipes import read_recipe

    registry = discover()
    table = Table("name", "what it is", "claims", "from", box=None, pad_edge=False)
    broken = []
    for name, files in sorted(registry.recipes.items()):
        for file in files:
            shown = name if len(files) == 1 else f"{file.distribution}:{name}"
            try:
                recipe = read_recipe(file)
            except MnistbenchError as error:
                broken.append(f"{file.distribution} {file.version}: {error}")
                continue
            cells = (shown, recipe.title, recipe.claim.text, recipe.origin)
            table.add_row(*map(escape, cells))
    out = console()
    out.print(table)
    for told in broken:
        out.print(f"[red]broken[/red] {escape(told)}", soft_wrap=True)
    out.print("run one: mnistbench run --recipe NAME", soft_wrap=True)


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A recipe, such as fully-connected, or a file ./mine.toml.")
    ],
) -> None:
    """Show one recipe: what it is, and its file, which is where one of your own may start."""
    from mnistbench.plugins import discover
    from mnistbench.recipes import find_recipe

    recipe = find_recipe(name, discover())
    typer.echo(f"# {recipe.path}")
    typer.echo(recipe.path.read_text(encoding="utf-8"), nl=False)
