"""What a job's folder tells of it: its epochs, its classes, its confusion matrix, as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistbench.errors import RecordsError
from mnistbench.metrics import AVERAGES, CLASSES_FILE, CONFUSION_FILE
from mnistbench.records import HISTORY_FILE
from mnistbench.report.formats import Table, raw

if TYPE_CHECKING:
    import pandas as pd

NOTHING = "–"
_SCORES = ("precision", "recall", "f1")


def read_classes(folder: Path) -> pd.DataFrame:
    """Return `classes.csv` of a job's folder; the class is text, for the averages' sake."""
    return _read(folder / CLASSES_FILE, {"class": "string"})


def read_confusion(folder: Path) -> pd.DataFrame:
    """Return `confusion.csv`: a row for each true class, a column for each predicted one."""
    return _read(folder / CONFUSION_FILE, {}).set_index("label")


def read_history(folder: Path) -> pd.DataFrame:
    """Return `history.csv`: a row for each epoch, the untrained model's being 0."""
    return _read(folder / HISTORY_FILE, {})


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
        "confusion": read_confusion(folder).to_numpy().tolist(),
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
    wrong = int(matrix.to_numpy().sum() - matrix.to_numpy().trace())
    return Table(
        caption=f"confusion matrix · {wrong:,} of {int(matrix.to_numpy().sum()):,} wrong",
        headings=("true \\ predicted", *map(str, matrix.columns)),
        right=(False, *(True for _ in matrix.columns)),
        rows=tuple(
            (str(label), *(f"{count:,}" if count else "·" for count in counts))
            for label, counts in zip(matrix.index, matrix.to_numpy().tolist(), strict=True)
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
            values = (scale * frame[name].astype("float64")).tolist()
            columns[title] = [f"{v:,.{digits}f}" if v == v else NOTHING for v in values]
    columns["learning rate"] = [
        f"{rate:.3g}" if rate == rate else NOTHING for rate in frame["learning_rate"].tolist()
    ]
    return Table(
        caption="by epoch; 0 is the untrained model",
        headings=tuple(columns),
        right=tuple(True for _ in columns),
        rows=tuple(zip(*columns.values(), strict=True)),
        notes=("train figures are running, over the steps of the epoch",),
    )


def _read(path: Path, dtypes: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path, dtype=dtypes)
    except FileNotFoundError:
        raise RecordsError(
            f"{path.parent.name} has no {path.name}: it did not get that far, or was run by an "
            "older version; run it again with --force"
        ) from None
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise RecordsError(f"cannot read {path}: {cause}; run the job again with --force") from None
