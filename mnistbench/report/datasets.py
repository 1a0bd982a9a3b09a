"""A dataset for the reports: loaded by its name, and described in tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mnistbench.report.formats import Table

if TYPE_CHECKING:
    from torch import Tensor

    from mnistbench.components import ImageDataset


def load(text: str, data_dir: Path | None) -> ImageDataset:
    """Return the one dataset that the selection `text` stands for, checked.

    Raises `SelectionError` where it names none, `UsageError` where it names several, `DataError`
    or `PluginError` where it cannot be had.
    """
    from mnistbench import contract
    from mnistbench.plugins import discover

    return contract.find_dataset(text, discover(), data_dir)


def tensors_table(name: str, dataset: ImageDataset) -> Table:
    """Return the table of the tensors of `dataset`: shapes, sizes, mean and spread of pixels."""
    rows = []
    for part in ("train", "test"):
        for what in ("images", "labels"):
            tensor: Tensor = getattr(dataset, f"{part}_{what}")
            shape = " x ".join(f"{size:,}" for size in tensor.shape)
            megabytes = tensor.numel() * tensor.element_size() / 1e6
            mean, std = _pixels(tensor) if what == "images" else ("", "")
            dtype = str(tensor.dtype).removeprefix("torch.")
            rows.append((f"{part} {what}", shape, dtype, f"{megabytes:.2f}", mean, std))
    return Table(
        caption=f"{name} · {dataset.num_classes} classes",
        headings=("tensor", "shape", "dtype", "MB", "pixel mean", "pixel std"),
        right=(False, True, False, True, True, True),
        rows=tuple(rows),
        notes=(
            "mean and std are of pixels scaled to [0, 1]; models see (pixel - "
            f"{dataset.mean:.4f}) / {dataset.std:.4f}",
        ),
    )


def classes_table(dataset: ImageDataset) -> Table:
    """Return the table of how many images of each class `dataset` has, and their share."""
    import torch

    counts = [
        torch.bincount(labels, minlength=dataset.num_classes).tolist()
        for labels in (dataset.train_labels, dataset.test_labels)
    ]
    names = [*map(str, range(dataset.num_classes)), "all"]
    cells: list[list[str]] = []
    for numbers in counts:
        numbers = [*numbers, sum(numbers)]
        cells.append([f"{number:,}" for number in numbers])
        cells.append([f"{100 * number / numbers[-1]:.2f}" for number in numbers])
    return Table(
        caption="",
        headings=("class", "train images", "train (%)", "test images", "test (%)"),
        right=(False, True, True, True, True),
        rows=tuple(zip(names, *cells, strict=True)),
    )


def _pixels(images: Tensor) -> tuple[str, str]:
    """Return mean and standard deviation of the pixels, scaled to [0, 1]."""
    import torch

    counts = torch.bincount(images.flatten(), minlength=256).double()
    levels = torch.arange(256) / 255
    mean = float(counts @ levels.double() / counts.sum())
    variance = float(counts @ (levels.double() - mean) ** 2 / counts.sum())
    return f"{mean:.4f}", f"{variance**0.5:.4f}"
