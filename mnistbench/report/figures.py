"""How every picture looks and how it is written: matplotlib's Figures, without pyplot or a window.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from mnistbench.errors import RecordsError, UsageError

FORMATS = ("png", "svg")
DPI = 150

RIGHT, WRONG = "#009E73", "#D55E00"  # bluish green, vermillion
# Without their yellow, which nobody can read on white.
COLOURS = ("#0072B2", WRONG, RIGHT, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT, RULE = "#222222", "#6b6b6b", "#dddddd"

STYLE: dict[str, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "figure.facecolor": "white",
    "figure.titlesize": 11,
    "savefig.facecolor": "white",
    "savefig.dpi": DPI,
    "svg.fonttype": "none",  # text stays text, which can be searched and read aloud
    "svg.hashsalt": "mnistbench",  # the same picture is the same bytes
}
# Decorates what draws or writes; whatever a user's matplotlibrc says, pictures look alike.
styled = style.context(STYLE, after_reset=True)

# The stretched scale is -log10 of what is left to 100%, and this much more, so that 100% itself has
# a place on it.
_LEFT_OVER = 0.05
_TOP = 1.42  # that end on the stretched scale, a little above 100%
_PERCENTS = (0, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 100)
_FEWEST_TICKS = 3
_MOST_COLUMNS = 5
_LEAST_MARGIN = 0.03  # in powers of ten
_MOST_POWERS = 6  # with ticks at 2 and 5 between them
_PAD = 0.1  # inches around everything


def new_figure(width: float, height: float, *, constrained: bool = True) -> Figure:
    """Return an empty figure of `width` x `height` inches that can measure its own text.

    `constrained` has matplotlib make room for titles and labels.
    """
    engine = ConstrainedLayoutEngine(w_pad=_PAD, h_pad=_PAD) if constrained else None
    figure = Figure(figsize=(width, height), layout=engine)
    FigureCanvasAgg(figure)
    return figure


def renderer_of(figure: Figure) -> RendererAgg:
    """Return what measures the text of a figure made by `new_figure`."""
    assert isinstance(figure.canvas, FigureCanvasAgg)
    renderer: RendererAgg = figure.canvas.get_renderer()  # type: ignore[no-untyped-call]
    return renderer


def check_folder(folder: Path) -> None:
    """Make the folder and try to write there. Raises `UsageError` where that does not work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder} ({error.strerror}): choose another --output"
        ) from None


@styled
def save(figure: Figure, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Write `figure` as `folder/name.FORMAT` in each of `formats` and return these paths.

    Raises `RecordsError` for a file that cannot be written.
    """
    paths = []
    for fmt in formats:
        path = folder / f"{name}.{fmt}"
        try:
            # An SVG would hold the time of day, and never be the same twice.
            figure.savefig(path, metadata={"Date": None} if fmt == "svg" else {})
        except OSError as error:
            cause = error.strerror or error
            raise RecordsError(f"cannot write {path} ({cause}): choose another --output") from None
        paths.append(path)
    return paths


def percent_scale(axes: Axes) -> None:
    """Stretch the vertical axis, in percent, towards 100, and give it ticks that suit its data.

    Where all curves end above 95%, an even scale would show them as one line. Call it when all is
    drawn.
    """
    low, high = axes.dataLim.intervaly
    axes.set_yscale("function", functions=(_stretched, _shrunk))
    bottom, top = _stretched(np.array([low, high]))
    margin = 0.06 * max(0.1, top - bottom)
    ends = _shrunk(np.array([bottom - margin, min(top + margin, _TOP)]))
    low, high = max(0.0, float(ends[0])), min(100.0, float(ends[1]))
    ticks = _ticks([tick for tick in _PERCENTS if low <= tick <= high], low, high)
    axes.set_ylim(*ends)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def log_scale(axes: Axes, axis: Literal["x", "y"], margin: float = 0.06) -> None:
    """Make `axis` of `axes` logarithmic, with its ticks at 1, 2 and 5 as plain numbers.

    `margin` is the share of the axis left free at either end. Call it when all is drawn.
    """
    low, high = axes.dataLim.intervalx if axis == "x" else axes.dataLim.intervaly
    free = max(margin * math.log10(high / low), _LEAST_MARGIN)
    low, high = low / 10**free, high * 10**free
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= _MOST_POWERS else (1,)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    if axis == "x":
        axes.set(xscale="log", xlim=(low, high))
    else:
        axes.set(yscale="log", ylim=(low, high))
    line = axes.xaxis if axis == "x" else axes.yaxis
    ticks = _ticks([tick for tick in ticks if low <= tick <= high], low, high)
    line.set_major_locator(FixedLocator(ticks))
    line.set_minor_locator(NullLocator())
    line.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))


def plain_number(value: float) -> str:
    """Return `value` in digits, with commas: 0.05, 20,000."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put a legend below everything else, in as many columns as fit, and make room for it."""
    renderer = renderer_of(figure)
    most = min(len(handles), _MOST_COLUMNS)
    for columns in range(most, 0, -1):
        rows = math.ceil(len(handles) / columns)
        if columns > 1 and math.ceil(len(handles) / (columns - 1)) == rows:
            continue  # as many rows with fewer columns: the last row would be short
        legend = figure.legend(
            [*handles], [*labels], loc="outside lower center", ncols=columns, columnspacing=1.6
        )
        extent = legend.get_window_extent(renderer)
        if columns == 1 or extent.width <= 0.97 * figure.bbox.width:
            break
        legend.remove()
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + extent.height / figure.dpi)


def wrapped(text: str, width: int) -> str:
    """Return `text` in lines of `width` characters, broken after ` · ` or where need be a comma.

    What has neither stays whole, however long it is.
    """
    lines = [""]
    for part in re.split("(?<= · )", text):
        for piece in [part] if len(part.strip()) <= width else re.split("(?<=,)", part):
            if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.strip() for line in lines)


def _stretched(percent: Any) -> Any:
    return -np.log10(np.maximum(100 + _LEFT_OVER - np.asarray(percent, dtype=float), 1e-3))


def _shrunk(values: Any) -> Any:
    return 100 + _LEFT_OVER - 10 ** -np.asarray(values, dtype=float)


def _ticks(wanted: list[float], low: float, high: float) -> list[float]:
    """Return the ticks that are `wanted`, or where they are too few, evenly spaced ones."""
    if len(wanted) >= _FEWEST_TICKS:
        return wanted
    even = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in even if low <= tick <= high] or wanted
