"""`mnistbench plugins`: what is installed, what is broken, and `show` for one component."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mnistbench.errors import SelectionError, UsageError, nearest

if TYPE_CHECKING:
    from mnistbench.components import Component, Kind, Parameter
    from mnistbench.plugins import Registry

app = typer.Typer(help="List the components of all plugins, and the plugins that are broken.")


@app.callback(invoke_without_command=True)
def list_all(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as model.")] = None,
) -> None:
    """List the components of all plugins, and the plugins that are broken."""
    if context.invoked_subcommand is not None:
        return
    from rich.markup import escape
    from rich.table import Table

    from mnistbench.cli.console import console
    from mnistbench.plugins import discover

    wanted = _kind(kind)
    registry = discover()
    table = Table("kind", "name", "parameters", "summary", "from", box=None, pad_edge=False)
    for component in registry:
        if wanted is not None and component.kind != wanted:
            continue
        parameters = ", ".join(_signature(p) for p in component.parameters.values())
        ambiguous = len(registry.components[component.kind][component.name]) > 1
        name = f"{component.distribution}:{component.name}" if ambiguous else component.name
        table.add_row(
            component.kind.value,
            escape(name),
            escape(parameters),
            escape(component.summary),
            escape(f"{component.distribution} {component.version}"),
        )
    out = console()
    out.print(table)
    for plugin in registry.broken:
        out.print(
            f"[red]broken[/red] {escape(plugin.distribution)} {escape(plugin.version)} "
            f"({escape(plugin.entry_point)}): {escape(plugin.cause)}",
            soft_wrap=True,
        )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A component, such as fcn or mnistbench:fcn.")],
    kind: Annotated[str | None, typer.Option(help="Where kinds share a name.")] = None,
) -> None:
    """Show one component: what it is, its parameters, and who brings it."""
    from rich.markup import escape

    from mnistbench.cli.console import console
    from mnistbench.plugins import discover
    from mnistbench.values import type_name

    out = console()
    registry = discover()
    for number, component in enumerate(_find(registry, name, _kind(kind))):
        if number:
            out.print()
        out.print(
            f"[bold]{escape(component.name)}[/bold] · {component.kind} · "
            f"{escape(component.distribution)} {escape(component.version)}"
        )
        out.print(
            escape(component.description or "(its author wrote no description)"), soft_wrap=True
        )
        for parameter in component.parameters.values():
            wanted = type_name(parameter.annotation)
            out.print(f"  {escape(_signature(parameter))}  [dim]{escape(wanted)}[/dim]")
        out.print(f"  select it: {escape(_example(component))}")


def _find(registry: Registry, name: str, kind: Kind | None) -> list[Component]:
    distribution, colon, bare = name.rpartition(":")
    of_kind = [c for c in registry if kind is None or c.kind == kind]
    found = [c for c in of_kind if c.name == bare and (not colon or c.distribution == distribution)]
    if not found:
        raise SelectionError(f"no component {name!r}; {nearest(bare, {c.name for c in of_kind})}")
    return found


def _kind(text: str | None) -> Kind | None:
    from mnistbench.components import Kind

    if text is None:
        return None
    by_word = {word: kind for kind in Kind for word in (kind.value, kind.plural)}
    if text not in by_word:
        raise UsageError(f"--kind {text!r} is unknown; {nearest(text, [k.value for k in Kind])}")
    return by_word[text]


def _signature(parameter: Parameter) -> str:
    from mnistbench.values import format_value, is_value

    if parameter.required:
        return f"{parameter.name} (required)"
    default = parameter.default
    text = format_value(default) if is_value(default) else getattr(default, "__name__", default)
    return f"{parameter.name}={text}"


def _example(component: Component) -> str:
    values = [
        f"{name}=..." if parameter.required else _signature(parameter)
        for name, parameter in list(component.parameters.items())[:2]
    ]
    return f"--{component.kind.plural} {component.name}" + (
        f"[{','.join(values)}]" if values else ""
    )
