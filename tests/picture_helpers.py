"""What the tests of pictures share: is anything cut off, what does an SVG say, is a PNG blank?"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from mnistbench.report.figures import renderer_of

SVG = "{http://www.w3.org/2000/svg}"


def boxes_of_names(figure: Figure) -> dict[str, Bbox]:
    """The boxes, in pixels, of all words inside the axes."""
    renderer = renderer_of(figure)
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in axes.texts if text.get_text()]
    return {text.get_text(): text.get_window_extent(renderer) for text in texts}


def cut_off(figure: Figure) -> list[str]:
    """What does not lie wholly inside the figure: names of points, or anything else."""
    names = boxes_of_names(figure)
    boxes = {**names, "everything": figure.get_tightbbox().transformed(figure.dpi_scale_trans)}
    frame = figure.bbox
    return [
        name
        for name, box in boxes.items()
        if box.x0 < 0 or box.y0 < 0 or box.x1 > frame.x1 or box.y1 > frame.y1
    ]


def words_of(path: Path) -> list[str]:
    """Every text of an SVG file."""
    root = ET.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    return ["".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")]


def cells_of(path: Path) -> dict[tuple[int, int], int]:
    """The numbers of a confusion matrix in an SVG file, by row and column."""
    groups = [g for g in ET.parse(path).iter(f"{SVG}g") if g.get("id", "").startswith("cell-")]
    found = {}
    for group in groups:
        _, row, column = str(group.get("id")).split("-")
        (text,) = group.iter(f"{SVG}text")
        found[int(row), int(column)] = int("".join(text.itertext()))
    return found


def inked(path: Path) -> float:
    """The share of a PNG's pixels that are not white."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) > 300
    return float((pixels < 250).any(axis=2).mean())
