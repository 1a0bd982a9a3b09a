"""What a job's folder tells of it: its epochs, its classes, its confusion matrix, as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mnistbench.metrics import AVERAGES
from mnistbench.report.formats import NOTHING, Table, raw
from mnistbench.report.job_files import read_classes, read_confusion, read_history

_SCORES = ("precision", "recall", "f1")


def tables(folder: Path) -> list[Table]:
    """Return the job's three tables for people. Raises `RecordsError` for what is not there."""
    return [_classes(folder), _confusion(folder), _history(folder)]


def export(folder: Path, fmt: str) -> str:
    """Return the classes as csv, or everything as one json object, unrounded."""
    classes = read_classes(folder)
    if fmt == "csv":
        return raw(classes, fmt)
    parts: dict[str, Any] = {
        "key": folder.name,
        "classes": json.loads(raw(classes, fmt)),
        "confusion": read_confusion(folder).tolist(),
        "history": json.loads(raw(read_history(folder), fmt)),
    }
    return json.dumps(parts, indent=2) + "\n"


def _classes(folder: Path) -> Table:
    frame = read_classes(folder)
    rows = [
        (str(row["class"]), *(f"{100 * row[name]:.2f}" for name in _SCORES), f"{row['images']:,}")
        for row in frame.to_dict("records")
    ]
    return Table(
        caption=f"{folder.name} · on the test set",
        headings=("class", "precision (%)", "recall (%)", "F1 (%)", "images"),
        right=(False, True, True, True, True),
        rows=tuple(rows),
        notes=(f"{' and '.join(AVERAGES)}: mean over the classes, plain and by their images",),
    )


def _confusion(folder: Path) -> Table:
    matrix = read_confusion(folder)
    images, wrong = int(matrix.sum()), int(matrix.sum() - matrix.trace())
    return Table(
        caption=f"confusion matrix · {wrong:,} of {images:,} wrong",
        headings=("true \\ predicted", *map(str, range(len(matrix)))),
        right=(False, *(True for _ in matrix)),
        rows=tuple(
            (str(label), *(f"{count:,}" if count else "·" for count in counts))
            for label, counts in enumerate(matrix.tolist())
        ),
    )


def _history(folder: Path) -> Table:
    frame = read_history(folder)
    shown = {
        "train_loss": ("train loss", 1, 4),
        "train_accuracy": ("train accuracy (%)", 100, 2),
        "validation_loss": ("validation loss", 1, 4),
        "validation_accuracy": ("validation accuracy (%)", 100, 2),
        "train_seconds": ("train (s)", 1, 2),
    }
    columns = {"epoch": [str(epoch) for epoch in frame["epoch"]]}
    for name, (title, scale, digits) in shown.items():
        if frame[name].notna().any():
            values = (scale * frame[name]).tolist()
            columns[title] = [f"{v:,.{digits}f}" if v == v else NOTHING for v in values]
    columns["learning rate"] = [
        f"{rate:.3g}" if rate == rate else NOTHING for rate in frame["learning_rate"].tolist()
    ]
    return Table(
        caption="by epoch; 0 is the untrained model",
        headings=tuple(columns),
        right=tuple(True for _ in columns),
        rows=tuple(zip(*columns.values(), strict=True)),
        notes=(
            "train figures are running, over the steps of the epoch; without a validation split "
            "those of epoch 0 are the untrained model's on a twelfth of the training images",
        ),
    )
