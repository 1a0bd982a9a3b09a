"""`mnistbench predict`: what a trained model makes of images from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistbench.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from mnistbench.checkpoint import Facts
    from mnistbench.imaging import Digit
    from mnistbench.prediction import Prediction
    from mnistbench.report.formats import Table

EXIT_USAGE = 2
INVERSION = {"auto": None, "yes": True, "no": False}


def predict(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Image files, one or several.")
    ],
    checkpoint: Annotated[
        str,
        typer.Option(
            metavar="RESULT_OR_FILE",
            help="A checkpoint that run --save left: its file, its job's folder, a results file "
            "with one, or the key of a job (or the beginning of it).",
        ),
    ],
    results: Annotated[
        Path, typer.Option(metavar="RESULTS.csv", help="Where the key of a job is looked up.")
    ] = Path("results.csv"),
    invert: Annotated[
        str,
        typer.Option(
            metavar="WHETHER",
            help="Whether images are dark on light: yes, no, or auto, which looks at the border.",
        ),
    ] = "auto",
    centre: Annotated[
        bool,
        typer.Option(
            "--centre/--no-centre",
            help="Scale and centre the digit as MNIST does, or the whole image as it is.",
        ),
    ] = True,
    top_k: Annotated[
        int | None, typer.Option(metavar="N", help=r"Show the N most probable classes. \[3]")
    ] = None,
    show_probabilities: Annotated[
        bool, typer.Option("--show-probabilities", help="Show every class, in its order.")
    ] = False,
    format: Annotated[  # noqa: A002 - the option is --format
        str, typer.Option(metavar="FORMAT", help="rich, markdown, latex, html, csv or json.")
    ] = "rich",
) -> None:
    """Predict the digit in images of any size and mode, with the probabilities of the classes.

    An image that cannot be read is told on stderr, the others are predicted all the same, and
    the exit code is 2.
    """
    from mnistbench.report import formats

    formats.check_format(format)
    if invert not in INVERSION:
        raise UsageError(f"--invert {invert!r} is unknown; {nearest(invert, INVERSION)}")
    if top_k is not None and show_probabilities:
        raise UsageError("--show-probabilities shows every class: leave out --top-k")
    if top_k is not None and top_k < 1:
        raise UsageError(f"--top-k must be at least 1, not {top_k}")

    from mnistbench import imaging
    from mnistbench.checkpoint import find, load
    from mnistbench.plugins import discover
    from mnistbench.prediction import classify

    loaded = load(find(checkpoint, results), discover())
    digits: dict[Path, Digit] = {}
    faults: list[DataError] = []
    for path in dict.fromkeys(images):
        try:
            digits[path] = imaging.read_digit(path, invert=INVERSION[invert], centre=centre)
        except DataError as error:
            faults.append(error)
    if digits:
        count = loaded.facts.num_classes if show_probabilities else top_k or 3
        rows = classify(loaded, digits, count, ranked=not show_probabilities)
        if format in formats.FOR_PROGRAMS:
            typer.echo(_for_programs(rows, format), nl=False)
        else:
            formats.show(_table(rows, loaded.facts, ranked=not show_probabilities), format)
    for fault in faults:
        typer.echo(f"error: {fault}", err=True)
    if faults:
        raise typer.Exit(EXIT_USAGE)


def _for_programs(rows: list[Prediction], fmt: str) -> str:
    if fmt == "json":
        return json.dumps([row._asdict() for row in rows], indent=2) + "\n"
    import pandas as pd

    from mnistbench.report import formats

    flat = []
    for row in rows:
        cells = {key: value for key, value in row._asdict().items() if key != "probabilities"}
        for place, (name, value) in enumerate(row.probabilities.items(), start=1):
            cells |= {f"class_{place}": name, f"probability_{place}": value}
        flat.append(cells)
    return formats.raw(pd.DataFrame(flat), fmt)


def _table(rows: list[Prediction], facts: Facts, *, ranked: bool) -> Table:
    from mnistbench.report.formats import Table

    columns: dict[str, list[str]] = {
        "image": [row.image for row in rows],
        "prediction": [str(row.prediction) for row in rows],
        "probability (%)": [f"{100 * row.probability:.2f}" for row in rows],
    }
    for place in range(len(rows[0].probabilities)):
        pairs = [list(row.probabilities.items())[place] for row in rows]
        if not ranked:
            columns[f"{place} (%)"] = [f"{100 * value:.2f}" for _, value in pairs]
        elif place:
            columns[f"number {place + 1} (%)"] = [f"{k}: {100 * v:.2f}" for k, v in pairs]
    columns["inverted"] = ["yes" if row.inverted else "no" for row in rows]
    accuracy = "" if facts.test_accuracy is None else f" · test {facts.test_accuracy:.2%}"
    return Table(
        caption=f"{facts.model} trained on {facts.dataset}{accuracy} · {facts.key}",
        headings=tuple(columns),
        right=tuple(name not in ("image", "inverted") for name in columns),
        rows=tuple(zip(*columns.values(), strict=True)),
    )
