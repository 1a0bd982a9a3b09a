"""From an image file of any size and mode to what MNIST's digits look like.

MNIST's digits are bright on dark, scaled to fit a box of 20x20 pixels, and placed in a field of
28x28 with their centre of mass in its middle (LeCun et al., 1998). A model knows no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mnistbench.errors import DataError

FIELD, BOX = 28, 20
# Where the centre of mass lies on average in MNIST, in pixels from the edge.
MIDDLE = 14.5
# Of the darkest ink: what is fainter does not belong to the digit.
FAINT = 0.02
# Of the range of brightness: where nothing differs more from the background, nothing is drawn.
BLANK = 0.02
# Times the usual difference within the border: what differs less may be noise.
NOISE = 4
# Perceived brightness of red, green and blue (ITU-R BT.601, as Pillow's own conversion).
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Digit:
    """A digit as a model sees it: `pixels` float32 `[28, 28]` in [0, 1], bright on dark.

    `inverted` says whether the image was dark on light.
    """

    pixels: Floats
    inverted: bool


def read_digit(path: Path, *, invert: bool | None = None, centre: bool = True) -> Digit:
    """Return the digit in the image file `path`; see `to_digit`.

    Raises `DataError`, with the path, for what is no image or shows nothing.
    """
    try:
        with Image.open(path) as image:
            return to_digit(image, invert=invert, centre=centre)
    except IsADirectoryError:
        raise DataError(f"{path} is a folder: name its images, as in {path}/*.png") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} is no image that Pillow reads: give a PNG or a JPEG") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # a damaged file makes a decoder raise anything
        cause = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"cannot read {path}: {cause}") from None


def to_digit(image: Image.Image, *, invert: bool | None = None, centre: bool = True) -> Digit:
    """Return the digit in `image`, of any size and mode.

    `invert` says whether the image is dark on light; None finds out, and takes as ink whatever
    differs from the colour of the border, in brightness or in hue. `centre` scales the
    digit to MNIST's box and puts its centre of mass in the middle; otherwise the whole image is
    scaled to 28x28 as it is. Raises `DataError` where nothing is drawn.
    """
    ink, inverted = _ink(_colours(ImageOps.exif_transpose(image), invert), invert)
    if not ink.any():
        kind = "" if invert is None else f" that is {'darker' if invert else 'lighter'} than it"
        raise DataError(f"nothing is drawn on it{kind}")
    return Digit(_centred(ink) if centre else _fitted(ink, FIELD), inverted)


def _colours(image: Image.Image, invert: bool | None) -> Floats:
    """Return the image as float32 `[H, W, 3]` in [0, 1], transparency laid over a backdrop."""
    if image.mode.startswith("I") or image.mode == "F":
        # More than 8 bits to a pixel, which Pillow would cut off instead of scaling.
        levels = np.nan_to_num(np.asarray(image, dtype=np.float32))
        most = 1.0 if levels.max() <= 1 else 255.0 if levels.max() <= 255 else 65535.0
        grey: Floats = (levels / most).clip(0, 1)
        return np.repeat(grey[..., None], 3, axis=2)
    if "transparency" not in image.info and image.mode not in ("LA", "La", "PA", "RGBA", "RGBa"):
        opaque: Floats = np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)
        return opaque
    pixels: Floats = np.asarray(image.convert("RGBA"), dtype=np.float32) / np.float32(255)
    colours, opacity = pixels[..., :3], pixels[..., 3:]
    # A white digit on nothing must not be laid on white, nor a black one on black.
    weight = max(float(opacity.sum()), 1e-6)
    brightness = float(((colours @ LUMINANCE) * opacity[..., 0]).sum()) / weight
    is_light = brightness <= 0.5 if invert is None else invert
    backdrop = 1.0 if is_light else 0.0
    laid: Floats = colours * opacity + backdrop * (1 - opacity)
    return laid


def _ink(colours: Floats, invert: bool | None) -> tuple[Floats, bool]:
    """Return how much each pixel differs from the background, and whether that is the lighter.

    The background is the median colour of the border. What already differs there, shadows or
    the noise of a camera, is no ink. Where `invert` is given, only what is darker, or only what
    is lighter, counts.
    """
    frame = max(1, min(colours.shape[:2]) // 28)
    border = np.ones(colours.shape[:2], dtype=bool)
    border[frame:-frame, frame:-frame] = False
    background = np.median(colours[border], axis=0)
    if invert is None:
        distance: Floats = np.abs(colours - background).max(axis=2)
    else:
        darker: Floats = background @ LUMINANCE - colours @ LUMINANCE
        distance = np.maximum(darker if invert else -darker, 0)
    noise = NOISE * float(np.median(distance[border]))
    most = float(distance.max())
    if most - noise < BLANK:
        return np.zeros_like(distance), bool(invert)
    ink: Floats = ((distance - noise) / (most - noise)).clip(0, 1)
    brightness = float((colours @ LUMINANCE * ink).sum() / ink.sum())
    return ink, float(background @ LUMINANCE) > brightness if invert is None else invert


def _centred(ink: Floats) -> Floats:
    """Return the digit in MNIST's box, its centre of mass in the middle of the field."""
    drawn = ink > FAINT * ink.max()
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    digit = _fitted(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], BOX)
    field = np.zeros((FIELD, FIELD), dtype=np.float32)
    at = []
    for axis in (0, 1):
        mass = digit.sum(axis=1 - axis)
        middle = float((mass * (np.arange(len(mass)) + 0.5)).sum() / mass.sum())
        at.append(min(max(round(MIDDLE - middle), 0), FIELD - len(mass)))
    field[at[0] : at[0] + BOX, at[1] : at[1] + BOX] = digit
    return field


def _fitted(ink: Floats, side: int) -> Floats:
    """Return the whole of `ink` in the middle of a square `[side, side]`, its darkest being 1."""
    height, width = ink.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Bilinear in Pillow averages over all the pixels that become one.
    small = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BILINEAR))
    square = np.zeros((side, side), dtype=np.float32)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = small
    return square / max(float(square.max()), 1e-6)
