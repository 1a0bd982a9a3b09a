"""`mnistbench doctor`: is this machine fit to run benchmarks, and if not, what would make it so?"""

from __future__ import annotations

from typing import Annotated

import typer

from mnistbench.cli.console import console

EXIT_WRONG = 1


def doctor(
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test/--no-self-test", help="Train two models on mnist5k: ten seconds."
        ),
    ] = True,
) -> None:
    """Check versions, devices, data and plugins, and train two models from end to end.

    ✓ is fine, · is worth knowing, ✗ is wrong; what would put it right is on the line below.
    Exit code 0: nothing is wrong, 1: something is.
    """
    from rich.markup import escape

    from mnistbench.doctor import SECTIONS, State, checks_of

    signs = {State.OK: "[green]✓[/]", State.NOTE: "[yellow]·[/]", State.WRONG: "[red]✗[/]"}
    out = console()
    wrong = []
    for section in SECTIONS:
        if section == "self-test" and not self_test:
            continue
        out.print(f"[bold]{section}[/]")
        for check in checks_of(section):
            told = f"  {signs[check.state]} {escape(check.name)}: {escape(check.what)}"
            out.print(told, soft_wrap=True)
            if check.remedy:
                out.print(f"    → {check.remedy}", markup=False, soft_wrap=True)
            if check.state is State.WRONG:
                wrong.append(check.name)
    if wrong:
        count = f"{len(wrong)} thing{'s are' if len(wrong) != 1 else ' is'} wrong"
        out.print(f"[bold red]{count}:[/] {escape(', '.join(wrong))}", soft_wrap=True)
        raise typer.Exit(EXIT_WRONG)
    out.print("[bold green]nothing is wrong[/]")
