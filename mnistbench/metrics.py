"""What a job's predictions say of each class: precision, recall, F1, the confusion matrix.

They lie as plain files in the job's folder: `predictions.csv`, which the job itself leaves, has a
row for each test image in the order of the dataset; `classes.csv` a row for each class and for
each average; `confusion.csv` a row for each true class. These two the runner derives, by
scikit-learn, when the job is over. `mnistbench report --metrics` and `plot` read all three.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PREDICTIONS_FILE, CLASSES_FILE, CONFUSION_FILE = "predictions.csv", "classes.csv", "confusion.csv"
PREDICTION_COLUMNS = ("image", "label", "prediction", "probability", "label_probability")
CLASS_COLUMNS = ("class", "precision", "recall", "f1", "images")
AVERAGES = ("macro", "weighted")


def import_library() -> None:
    """Import what computes the metrics, a second's work, while nothing is timed."""
    import sklearn.metrics  # noqa: F401


def write_predictions(
    folder: Path,
    labels: NDArray[Any],
    predictions: NDArray[Any],
    probabilities: NDArray[Any],
) -> None:
    """Write `predictions.csv` into `folder`, whole or not at all.

    `labels` are the true classes and `predictions` the predicted ones, integers `[N]`;
    `probabilities` are float `[N, num_classes]`.
    """
    rows = np.arange(len(labels))
    columns = (
        rows.tolist(),
        labels.tolist(),
        predictions.tolist(),
        _rounded(probabilities[rows, predictions]),
        _rounded(probabilities[rows, labels]),
    )
    part = (folder / PREDICTIONS_FILE).with_suffix(".part")
    _write_csv(part, PREDICTION_COLUMNS, zip(*columns, strict=True))
    part.replace(folder / PREDICTIONS_FILE)


def derive(folder: Path, num_classes: int) -> None:
    """Write the other two files into `folder`, where it has predictions."""
    path = folder / PREDICTIONS_FILE
    if not path.exists():
        return
    table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(1, 2), dtype=np.int64, ndmin=2)
    labels, predictions = table.T
    classes = per_class(labels, predictions, num_classes)
    _write_csv(folder / CLASSES_FILE, CLASS_COLUMNS, classes)
    matrix = confusion(labels, predictions, num_classes)
    rows = [[label, *row] for label, row in enumerate(matrix)]
    _write_csv(folder / CONFUSION_FILE, ("label", *range(num_classes)), rows)


def per_class(
    labels: NDArray[Any], predictions: NDArray[Any], num_classes: int
) -> list[tuple[int | str, float, float, float, int]]:
    """Return the rows of `CLASS_COLUMNS`: of each class, then the averages over classes.

    `macro` is the plain mean over the classes, `weighted` the mean weighted by their images. What
    would divide by zero (the precision of a class that was never predicted) is 0.
    """
    from sklearn.metrics import precision_recall_fscore_support

    def scores(average: str | None) -> Any:
        return precision_recall_fscore_support(
            labels, predictions, labels=range(num_classes), average=average, zero_division=0
        )

    precision, recall, f1, images = (values.tolist() for values in scores(None))
    rows: list[Any] = list(zip(range(num_classes), precision, recall, f1, images, strict=True))
    for average in AVERAGES:
        rows.append((average, *map(float, scores(average)[:3]), len(labels)))
    return rows


def confusion(labels: NDArray[Any], predictions: NDArray[Any], num_classes: int) -> list[list[int]]:
    """Return the confusion matrix: a row for each true class, a column for each predicted one."""
    from sklearn.metrics import confusion_matrix

    matrix: list[list[int]] = confusion_matrix(
        labels, predictions, labels=range(num_classes)
    ).tolist()
    return matrix


def _rounded(values: NDArray[Any]) -> list[str]:
    return [f"{value:.6f}" for value in values.tolist()]


def _write_csv(path: Path, header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
