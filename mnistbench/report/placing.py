"""Where the names of points go in a scatter plot, so that they can all be read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from mnistbench.report.figures import FAINT, renderer_of

_FONT_SIZE = 7.5
_POINT, _LINE = 5.0, 1.0  # points that a name keeps away from the middle of these
# In points, the nearest first; beyond the first a line leads from the name to its point.
_DISTANCES = (7.0, 18.0, 30.0, 44.0, 60.0, 80.0)
_DIRECTIONS = tuple(
    math.radians(degrees) for degrees in (0, 180, 45, -45, 135, -135, 90, -90, 25, -25, 155, -155)
)


def place_labels(
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    labelled: Iterable[int],
    names: Sequence[str],
    lines: Iterable[NDArray[np.float64]] = (),
) -> None:
    """Write `names` beside the points `labelled` of those at `x`, `y` (data coordinates `[N]`).

    Each name takes the nearest place where it covers no point, no other name and none of `lines`
    (each horizontal or vertical, `[[x, y], [x, y]]`), and stays inside the axes; where there is
    none, the one where it covers least. The limits and the size of the
    axes must be what they will stay.
    """
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # lays the axes out
    renderer = renderer_of(figure)
    pixels = figure.dpi / 72
    centres = axes.transData.transform(np.column_stack([x, y]))
    radius = _POINT * pixels
    taken = [Bbox.from_extents(*(c - radius), *(c + radius)) for c in centres]
    for ends in lines:
        corners = axes.transData.transform(ends)
        taken.append(Bbox([corners.min(0) - _LINE * pixels, corners.max(0) + _LINE * pixels]))
    inside = axes.get_window_extent(renderer)
    for point, name in zip(labelled, names, strict=True):
        text = axes.annotate(
            name,
            (x[point], y[point]),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=_FONT_SIZE,
            linespacing=1.05,
        )
        text.set_in_layout(False)  # or the axes would shrink, and all that was measured be off
        size = np.array(text.get_window_extent(renderer).size)
        best = (math.inf, _Place(0, 0), taken[point])
        for distance, direction in itertools.product(_DISTANCES, _DIRECTIONS):
            place = _Place(distance, direction)
            box = place.box(centres[point], size, pixels)
            cost = sum(map(_overlap(box), taken)) + 10 * _outside(box, inside)
            if cost < best[0]:
                best = (cost, place, box)
            if not cost:
                break
        _, place, box = best
        text.set(position=place.step, ha=place.horizontal, va=place.vertical)
        taken.append(box)
        if place.distance > _DISTANCES[0]:
            line = axes.annotate(
                "",
                (x[point], y[point]),
                xytext=place.step,
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkB": 3},
            )
            line.set_in_layout(False)


@dataclass(frozen=True)
class _Place:
    """A place for a name: its `distance` in points and `direction` in radians from its point."""

    distance: float
    direction: float

    @property
    def step(self) -> tuple[float, float]:
        return (
            self.distance * math.cos(self.direction),
            self.distance * math.sin(self.direction),
        )

    @property
    def horizontal(self) -> str:
        return _side(math.cos(self.direction), "left", "center", "right")

    @property
    def vertical(self) -> str:
        return _side(math.sin(self.direction), "bottom", "center", "top")

    def box(self, centre: NDArray[np.float64], size: NDArray[np.float64], pixels: float) -> Bbox:
        """Return what a name of `size` pixels covers, where a point is `pixels` wide."""
        shares = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}
        corner = centre + np.array(self.step) * pixels
        corner = corner - size * [shares[self.horizontal], shares[self.vertical]]
        return Bbox.from_bounds(*corner, *size)


def _side(share: float, positive: str, middle: str, negative: str) -> str:
    if abs(share) < 0.3:
        return middle
    return positive if share > 0 else negative


def _overlap(box: Bbox) -> Callable[[Bbox], float]:
    """Return the function that tells how many square pixels of another box `box` covers."""

    def area(other: Bbox) -> float:
        common = Bbox.intersection(box, other)
        return float(common.width * common.height) if common else 0.0

    return area


def _outside(box: Bbox, frame: Bbox) -> float:
    """Return how many square pixels of `box` lie outside `frame`."""
    return float(box.width * box.height) - _overlap(frame)(box)
