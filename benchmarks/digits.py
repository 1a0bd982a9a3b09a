"""Digits that nobody trained on: how many does `mnistbench predict` get right?

    python benchmarks/digits.py CHECKPOINT > benchmarks/digits.md

Draws every digit in the styles below, in ways that are not MNIST's, has them predicted by the
command line with and without centring, and prints the share that is right, style by style. The
checkpoint is whatever `--checkpoint` takes; the figures in benchmarks/digits.md are of `improved`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from mnistbench.checkpoint import find, read_facts
from mnistbench.errors import MnistbenchError

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@dataclass(frozen=True)
class Style:
    """How a digit is drawn: `size` of the image and `height` of the digit in pixels.

    `at` is where the middle of the digit lies, in shares of the image; `stroke` is drawn around
    the font's own outline, or, where there is no font, is the width of the pen; colours have
    three or four channels.
    """

    name: str
    font: str | None = "DejaVuSans"
    size: tuple[int, int] = (280, 280)
    height: int = 220
    at: tuple[float, float] = (0.5, 0.5)
    stroke: int = 4
    ink: tuple[int, ...] = (0, 0, 0)
    paper: tuple[int, ...] = (255, 255, 255)
    mode: str = "L"
    suffix: str = "png"


STYLES = (
    Style("dark on light"),
    Style("light on dark", ink=(255, 255, 255), paper=(0, 0, 0)),
    Style("off-centre", size=(400, 300), height=130, at=(0.22, 0.7)),
    Style("small in a corner", size=(600, 600), height=90, at=(0.85, 0.15), stroke=2),
    Style("thin", font="STIXGeneral", stroke=0),
    Style("thick", font="DejaVuSans-Bold", stroke=6),
    Style("serif", font="DejaVuSerif", stroke=2),
    Style("colour", ink=(200, 30, 30), paper=(40, 110, 60), mode="RGB"),
    Style("yellow on white", ink=(250, 220, 0), paper=(255, 255, 255), mode="RGB"),
    Style("black on transparent", ink=(0, 0, 0, 255), paper=(0, 0, 0, 0), mode="RGBA"),
    Style("white on transparent", ink=(255, 255, 255, 255), paper=(0, 0, 0, 0), mode="RGBA"),
    Style("JPEG, grey on grey", ink=(70, 70, 70), paper=(190, 190, 190), suffix="jpg"),
    Style("wide image", size=(900, 200), height=150, at=(0.3, 0.5)),
    Style("tiny image", size=(16, 16), height=13, stroke=0),
    Style("pen, 3 pixels", font=None, stroke=3),
    Style("marker, 36 pixels, slanting", font=None, stroke=36),
)

SLANT = 0.15
# The strokes of each digit as a hand would draw them, in a box of 100x100.
STROKES = (
    "50,5 25,20 20,55 35,90 60,93 78,70 78,35 65,10 50,5",
    "38,22 56,5 54,95",
    "20,25 35,8 60,6 77,22 68,46 20,95 85,92",
    "22,12 50,5 74,20 66,40 44,47 70,56 76,78 55,94 20,88",
    "35,5 20,55 85,52 | 66,25 60,95",
    "80,6 32,8 27,45 55,40 76,60 70,85 45,95 18,88",
    "66,5 38,30 22,65 33,92 60,94 75,74 60,55 36,60 25,74",
    "15,10 82,8 60,45 42,95",
    "70,15 45,5 27,22 50,46 74,70 55,95 28,85 34,60 64,38 74,20 62,8",
    "74,25 55,6 28,18 30,45 55,50 74,25 70,60 60,95",
)


def draw(style: Style, digit: int) -> Image.Image:
    """Return the image of `digit` in `style`."""
    mode = "RGBA" if style.mode == "RGBA" else "RGB"
    image = Image.new(mode, style.size, style.paper)
    place = (style.size[0] * style.at[0], style.size[1] * style.at[1])
    pen = ImageDraw.Draw(image)
    if style.font is None:
        width, height = 0.75 * style.height, style.height
        for stroke in STROKES[digit].split(" | "):
            corners = [[int(part) / 100 - 0.5 for part in at.split(",")] for at in stroke.split()]
            points = [
                (place[0] + (x - SLANT * y) * width, place[1] + y * height) for x, y in corners
            ]
            pen.line(points, fill=style.ink, width=style.stroke, joint="curve")
    else:
        font = ImageFont.truetype(str(FONTS / f"{style.font}.ttf"), style.height)
        pen.text(
            place, str(digit), fill=style.ink, font=font, anchor="mm", stroke_width=style.stroke
        )
    return image.convert(style.mode)


def draw_all(folder: Path) -> dict[Path, tuple[str, int]]:
    """Draw every digit in every style into `folder`; return style and digit of each file."""
    drawn = {}
    for number, style in enumerate(STYLES):
        for digit in range(10):
            path = folder / f"{number:02}-{digit}.{style.suffix}"
            draw(style, digit).save(path)
            drawn[path] = (style.name, digit)
    return drawn


def shares(drawn: dict[Path, tuple[str, int]], checkpoint: str, *options: str) -> dict[str, float]:
    """Return for each style the share that the command line predicts right."""
    arguments = ["--checkpoint", checkpoint, "--format", "json", *options]
    done = subprocess.run(
        [sys.executable, "-m", "mnistbench", "predict", *map(str, drawn), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    right: dict[str, list[bool]] = {}
    for row in rows:
        style, digit = drawn[Path(row["image"])]
        right.setdefault(style, []).append(row["prediction"] == digit)
    return {style: sum(hits) / len(hits) for style, hits in right.items()}


def main() -> None:
    """Print the page."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} CHECKPOINT > benchmarks/digits.md")
    try:
        facts = read_facts(find(sys.argv[1], Path("results.csv")))
    except MnistbenchError as error:
        sys.exit(f"error: {error}")
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_all(Path(folder))
        centred = shares(drawn, sys.argv[1])
        as_is = shares(drawn, sys.argv[1], "--no-centre")
    print("# Digits that nobody trained on\n")
    print("Written by `python benchmarks/digits.py CHECKPOINT`: every digit from 0 to 9 in each of")
    print(f"these styles, {len(drawn)} images, and the share that `mnistbench predict` gets right,")
    print("as it comes and with `--no-centre`, which scales the whole image instead.\n")
    print(
        f"Model: {facts.model}, trained on {facts.dataset}, {facts.test_accuracy:.2%} on its test"
    )
    print(f"set (`{facts.key}`).\n")
    print("| drawn as | centred (%) | --no-centre (%) |\n| --- | ---: | ---: |")
    for style in centred:
        print(f"| {style} | {100 * centred[style]:.0f} | {100 * as_is[style]:.0f} |")
    means = [sum(found.values()) / len(found) for found in (centred, as_is)]
    print(f"| **all {len(drawn)}** | **{100 * means[0]:.1f}** | **{100 * means[1]:.1f}** |")


if __name__ == "__main__":
    main()
