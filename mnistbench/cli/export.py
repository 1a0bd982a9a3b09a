"""`mnistbench export`: a trained model as files that run elsewhere, measured beside it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistbench.cli.console import console
from mnistbench.errors import UsageError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from mnistbench.checkpoint import Facts
    from mnistbench.export import Measured
    from mnistbench.report.formats import Table


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="What run --save left: a checkpoint's file, its job's folder, a results file "
            "with one, or the key of a job (or the beginning of it).",
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="LIST", help="What to make: onnx, torch, int8.")
    ] = "onnx,torch,int8",
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the files go. Default: beside the checkpoint."),
    ] = None,
    results: Annotated[
        Path, typer.Option(metavar="RESULTS.csv", help="Where the key of a job is looked up.")
    ] = Path("results.csv"),
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where MNIST lies. \\[MNISTBENCH_DATA, then the cache]"
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="CPU threads that all are measured with. \\[torch's]"
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the option is --format
        str, typer.Option(metavar="FORMAT", help="rich, markdown, latex, html, csv or json.")
    ] = "rich",
) -> None:
    """Export a trained model for torch.export, ONNX and ONNX in int8, and measure each file.

    Each takes float32 images [N, 1, 28, 28] in [0, 1] and returns probabilities [N, classes].
    """
    from mnistbench.report import formats

    formats.check_format(format)

    from mnistbench import export as exporting
    from mnistbench.checkpoint import find, load
    from mnistbench.environment import default_threads
    from mnistbench.plugins import discover

    targets = _targets(to, exporting.FILE_NAMES)
    exporting.require_packages(targets)
    registry = discover()
    loaded = load(find(checkpoint, results), registry)
    dataset = exporting.dataset_of(loaded.facts, registry, data_dir)
    err = console(stderr=True)
    if err.is_terminal:
        err.print(f"exporting {loaded.facts.key} to {', '.join(targets)}", markup=False)
    files = exporting.export(loaded, targets, output or loaded.path.parent, dataset)
    threads = threads or default_threads()
    if err.is_terminal:  # and no spinner, which would be measured as well
        err.print("measuring each of them on the test set")
    measured = exporting.measure(loaded, files, dataset, threads)
    facts = _circumstances(loaded.facts, threads)
    if format in formats.FOR_PROGRAMS:
        typer.echo(formats.raw(_frame(measured, facts), format), nl=False)
    else:
        formats.show(_table(measured, facts, loaded.facts), format)


def _targets(text: str, valid: Collection[str]) -> list[str]:
    targets = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for target in targets:
        if target not in valid:
            raise UsageError(f"--to {target!r} is unknown; {nearest(target, valid)}")
    if not targets:
        raise UsageError(f"--to is empty; valid: {', '.join(valid)}")
    return targets


def _circumstances(facts: Facts, threads: int) -> dict[str, str | int | None]:
    """Return what all that was measured has in common, by the names of the columns of records."""
    import importlib.metadata

    import torch

    from mnistbench.environment import cpu_name

    try:
        onnxruntime = importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:  # torch needs none
        onnxruntime = None
    return {
        "key": facts.key,
        "dataset": facts.dataset,
        "threads": threads,
        "cpu_name": cpu_name(),
        "torch_version": torch.__version__,
        "onnxruntime_version": onnxruntime,
    }


def _frame(measured: list[Measured], facts: dict[str, str | int | None]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "variant": row.variant,
            "file": str(row.path),
            "size_bytes": row.size_bytes,
            "test_accuracy": row.test_accuracy,
            "agreement": row.agreement,
            "largest_difference": row.largest_difference,
            **{f"batch_{size}_ms": value for size, value in row.latencies.items()},
            **facts,
        }
        for row in measured
    ]
    return pd.DataFrame(rows)


def _table(measured: list[Measured], facts: dict[str, str | int | None], trained: Facts) -> Table:
    from mnistbench.report.formats import Table

    columns = {
        "variant": [row.variant for row in measured],
        "size (KiB)": [f"{row.size_bytes / 1024:,.1f}" for row in measured],
        "test accuracy (%)": [f"{100 * row.test_accuracy:.2f}" for row in measured],
        "agreement (%)": [f"{100 * row.agreement:.2f}" for row in measured],
        "largest difference": [f"{row.largest_difference:.1g}" for row in measured],
        **{
            f"batch {size} (ms)": [f"{row.latencies[size]:.3g}" for row in measured]
            for size in measured[0].latencies
        },
        "file": [str(row.path) for row in measured],
    }
    threads, runtime = facts["threads"], facts["onnxruntime_version"]
    parts = [
        f"{trained.model} trained on {trained.dataset}",
        trained.key,
        f"{threads} thread{'s' if threads != 1 else ''} of {facts['cpu_name']}",
        f"torch {facts['torch_version']}",
        *([f"onnxruntime {runtime}"] if runtime else []),
    ]
    return Table(
        caption=" · ".join(parts),
        headings=tuple(columns),
        right=tuple(name not in ("variant", "file") for name in columns),
        rows=tuple(zip(*columns.values(), strict=True)),
        notes=(
            "accuracy: the whole test set · agreement, difference: of predictions and "
            "probabilities with the original's · batch: median time of a call, all in turns",
        ),
    )
