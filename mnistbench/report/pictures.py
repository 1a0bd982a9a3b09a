"""The pictures of digits: samples of a dataset, what a job made of the test images, its mistakes.

Digits are dark on light, as on paper. All images are uint8 `[N, 28, 28]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mnistbench.report import figures
from mnistbench.report.figures import FAINT, INK, RIGHT, WRONG, styled

if TYPE_CHECKING:
    import pandas as pd

Images = NDArray[np.uint8]
Line = tuple[str, str]  # words and their colour

SAMPLES = (6, 10)  # rows and columns
PREDICTIONS = (4, 8)
MISTAKES = (4, 6)

_LINE = 0.16  # inches that a line of text above an image takes
_GAP = 0.12
_CHARACTERS = 12.5  # of an inch of the heading
_MARGIN = 0.25


@styled
def samples(images: Images, labels: NDArray[np.int64], title: str, seed: int = 0) -> Figure:
    """Return a grid of images drawn by `seed`, each with its label."""
    chosen = _chosen(len(images), math.prod(SAMPLES), seed)
    captions = [[(str(label), INK)] for label in labels[chosen].tolist()]
    return _grid(images[chosen], captions, SAMPLES[1], 0.75, title)


@styled
def predictions(images: Images, table: pd.DataFrame, title: str, seed: int = 0) -> Figure:
    """Return a grid of test images drawn by `seed` with what a job took them for.

    `table` is that of `job_files.read_predictions`, its `image` an index of `images`.
    """
    rows = table.iloc[_chosen(len(table), math.prod(PREDICTIONS), seed)]
    captions, frames = [], []
    columns = (rows[name].tolist() for name in ("label", "prediction", "probability"))
    for label, prediction, probability in zip(*columns, strict=True):
        right = prediction == label
        colour = RIGHT if right else WRONG
        said = f"✓ {prediction}" if right else f"✗ {prediction}, is {label}"
        captions.append([(said, colour), (_percent(probability), FAINT)])
        frames.append(colour)
    wrong = int((table["prediction"] != table["label"]).sum())
    heading = (
        f"{title}\n"
        "Test images drawn at random: what they were taken for and how surely\n"
        f"(of all {len(table):,}, {wrong:,} are wrong)"
    )
    return _grid(images[rows["image"]], captions, PREDICTIONS[1], 1.05, heading, frames)


def mistaken(table: pd.DataFrame) -> pd.DataFrame:
    """Return the misclassified rows of `table`, the worst first.

    The worst is the one whose true class got the lowest probability; of equals, that whose wrong
    class got the highest.
    """
    wrong = table[table["prediction"] != table["label"]]
    return wrong.sort_values(
        ["label_probability", "probability"], ascending=[True, False], kind="stable"
    )


@styled
def mistakes(images: Images, table: pd.DataFrame, title: str) -> Figure:
    """Return the worst of the misclassified test images; `table` must have one, see `mistaken`."""
    wrong = mistaken(table)
    rows = wrong.head(math.prod(MISTAKES))
    captions = [
        [
            (f"is {row.label}: {_percent(row.label_probability)}", RIGHT),
            (f"✗ {row.prediction}: {_percent(row.probability)}", WRONG),
        ]
        for row in rows.itertuples()
    ]
    which = f"The {len(rows)} worst of" if len(rows) < len(wrong) else "All"
    plural = "s" if len(wrong) > 1 else ""
    heading = (
        f"{title}\n"
        f"{which} {len(wrong):,} mistake{plural} on {len(table):,} test images:\n"
        "the probability of the true class, and of the class it was taken for"
    )
    return _grid(images[rows["image"]], captions, MISTAKES[1], 1.15, heading)


def _chosen(count: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """Return `wanted` different numbers below `count`, or all of them, in a random order."""
    # RandomState, because NumPy keeps its streams the same for ever.
    return np.random.RandomState(seed).permutation(count)[:wanted]


def _percent(probability: Any) -> str:
    return f"{100 * probability:.1f}%"


def _grid(
    images: Images,
    captions: Sequence[Sequence[Line]],
    columns: int,
    size: float,
    heading: str,
    frames: Sequence[str] | None = None,
) -> Figure:
    """Return `images`, `size` inches wide, each below its lines of text, under the `heading`.

    Everything has its place in inches, which costs less than a layout of a hundred axes, and
    moves with no caption.
    """
    columns_used = columns if len(images) > columns else len(images)
    rows = math.ceil(len(images) / columns_used)
    above = _LINE * len(captions[0]) + 0.04
    # The heading needs its width, however few images there are.
    width = max(2 * _MARGIN + columns_used * (size + _GAP) - _GAP, 6.4)
    most = int((width - 2 * _MARGIN) * _CHARACTERS)
    lines = [figures.wrapped(line, most) for line in heading.split("\n")]
    heading = "\n".join(lines)
    top = 0.2 * (heading.count("\n") + 1) + 0.2
    height = top + rows * (above + size + _GAP) + _MARGIN - _GAP
    figure = figures.new_figure(width, height, constrained=False)
    x, y = _MARGIN / width, 1 - 0.12 / height
    figure.text(x, y, heading, ha="left", va="top", linespacing=1.35)
    for place, image in enumerate(images):
        row, column = divmod(place, columns_used)
        left = _MARGIN + column * (size + _GAP)
        bottom = height - top - (row + 1) * (above + size) - row * _GAP
        axes = figure.add_axes((left / width, bottom / height, size / width, size / height))
        _draw(axes, image, captions[place], frames[place] if frames else figures.RULE)
    return figure


def _draw(axes: Axes, image: Images, caption: Sequence[Line], frame: str) -> None:
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=255, interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    axes.spines[:].set(color=frame, linewidth=1.0 if frame == figures.RULE else 1.6)
    for number, (words, colour) in enumerate(reversed(caption)):
        axes.annotate(
            words,
            (0, 1),
            xycoords="axes fraction",
            xytext=(0, 3 + 72 * _LINE * number),
            textcoords="offset points",
            color=colour,
            fontsize=8,
            fontweight="normal" if colour == FAINT else "bold",
        )
