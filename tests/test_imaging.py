"""Images of any size and mode become digits as MNIST has them."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnistbench.errors import DataError
from mnistbench.imaging import BOX, FIELD, MIDDLE, read_digit, to_digit


def seven(
    size: tuple[int, int] = (200, 200),
    *,
    mode: str = "L",
    ink: object = 0,
    paper: object = 255,
    at: tuple[int, int] = (60, 40),
    scale: float = 1.0,
) -> Image.Image:
    """An image with a seven of 80 x 120 pixels times `scale`, its upper left corner `at`."""
    image = Image.new(mode, size, paper)  # type: ignore[arg-type]
    points = [(at[0] + x * scale, at[1] + y * scale) for x, y in ((0, 0), (80, 0), (25, 120))]
    pen = ImageDraw.Draw(image)
    pen.line(points, fill=ink, width=max(1, round(14 * scale)), joint="curve")  # type: ignore[arg-type]
    return image


PLAIN = to_digit(seven()).pixels


def box_of(pixels: np.ndarray) -> tuple[int, int]:
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def centre_of(pixels: np.ndarray) -> tuple[float, float]:
    at = np.arange(FIELD) + 0.5
    return tuple((pixels.sum(1 - axis) * at).sum() / pixels.sum() for axis in (0, 1))  # type: ignore[return-value]


def test_mnists_own_digits_come_back_as_they_are(unpacked: dict[str, bytes]) -> None:
    raw = unpacked["t10k-images-idx3-ubyte"]
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)[:500]
    same = [
        np.allclose(to_digit(Image.fromarray(image)).pixels, image / 255, atol=2 / 255)
        for image in images
    ]
    assert np.mean(same) > 0.95
    assert not any(to_digit(Image.fromarray(image)).inverted for image in images)


def test_a_digit_fills_the_box_and_its_centre_of_mass_is_in_the_middle() -> None:
    assert PLAIN.shape == (FIELD, FIELD)
    assert PLAIN.dtype == np.float32
    assert (PLAIN.min(), PLAIN.max()) == (0, 1)
    assert max(box_of(PLAIN)) == BOX
    assert centre_of(PLAIN) == pytest.approx((MIDDLE, MIDDLE), abs=0.51)


def alike(image: Image.Image, tolerance: float = 0.02) -> bool:
    return float(np.abs(to_digit(image).pixels - PLAIN).mean()) < tolerance


@pytest.mark.parametrize(
    "image",
    [
        seven(ink=255, paper=0),
        seven((500, 300), at=(400, 10)),
        seven((900, 900), at=(100, 500), scale=2.5),
        seven(ink=100, paper=140),
        seven(mode="RGB", ink=(200, 30, 30), paper=(40, 110, 60)),
        seven(mode="RGB", ink=(255, 255, 0), paper=(255, 255, 255)),
        seven(mode="RGBA", ink=(0, 0, 0, 255), paper=(0, 0, 0, 0)),
        seven(mode="RGBA", ink=(255, 255, 255, 255), paper=(255, 255, 255, 0)),
        seven(mode="LA", ink=(255, 255), paper=(0, 0)),
        seven(mode="RGB", ink=(0, 0, 0), paper=(255, 255, 255)).convert("P"),
        seven(mode="CMYK", ink=(0, 0, 0, 255), paper=(0, 0, 0, 0)),
        seven(mode="1", ink=0, paper=1),
        seven(mode="I;16", ink=65535, paper=0),
        seven(mode="I", ink=0, paper=65535),
        seven(mode="F", ink=1.0, paper=0.0),
    ],
    ids=lambda image: f"{image.mode} {image.size}",
)
def test_size_place_mode_and_colours_make_no_difference(image: Image.Image) -> None:
    assert alike(image)


@pytest.mark.parametrize(
    ("ink", "paper", "inverted"),
    [(0, 255, True), (255, 0, False), (90, 100, True), (60, 50, False)],
)
def test_dark_on_light_is_found_out(ink: int, paper: int, inverted: bool) -> None:
    assert to_digit(seven(ink=ink, paper=paper)).inverted is inverted


def test_inversion_can_be_said_instead() -> None:
    dark = seven(ink=0, paper=255)
    assert to_digit(dark, invert=True).inverted is True
    assert np.allclose(to_digit(dark, invert=True).pixels, PLAIN, atol=1e-6)
    with pytest.raises(DataError, match="nothing is drawn on it that is lighter than it"):
        to_digit(dark, invert=False)
    grey = seven(ink=40, paper=200)
    assert np.abs(to_digit(grey, invert=True).pixels - PLAIN).mean() < 0.02
    clear = seven(mode="RGBA", ink=(255, 255, 255, 255), paper=(0, 0, 0, 0))
    assert np.abs(to_digit(clear, invert=False).pixels - PLAIN).mean() < 0.02


def test_without_centring_the_image_stays_as_it_is() -> None:
    image = seven((280, 280), at=(0, 0))
    there = to_digit(image, centre=False).pixels
    assert centre_of(there)[0] < 8
    assert centre_of(there)[1] < 6
    wide = to_digit(seven((560, 280), at=(0, 80)), centre=False).pixels
    assert not wide[:7].any(), "a wide image keeps its shape"
    assert not wide[21:].any()


def test_noise_and_a_shadow_are_no_ink() -> None:
    random = np.random.RandomState(0)
    photo = np.asarray(seven(ink=40, paper=200), dtype=np.float64)
    photo = photo + random.normal(0, 4, photo.shape) + np.linspace(-8, 8, photo.shape[1])
    assert alike(Image.fromarray(photo.clip(0, 255).astype(np.uint8)), tolerance=0.04)


def test_the_orientation_that_a_camera_notes_is_followed(tmp_path: Path) -> None:
    turned = seven().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert np.abs(read_digit(tmp_path / "turned.jpg").pixels - PLAIN).mean() < 0.02
    turned.save(tmp_path / "plain.jpg", quality=95)
    assert np.abs(read_digit(tmp_path / "plain.jpg").pixels - PLAIN).mean() > 0.05


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_image_on_which_nothing_is_drawn_is_refused(grey: int, tmp_path: Path) -> None:
    Image.new("L", (50, 60), grey).save(tmp_path / "blank.png")
    with pytest.raises(DataError, match=r"blank\.png: nothing is drawn on it"):
        read_digit(tmp_path / "blank.png")


def test_damaged_pixels_are_no_crash(tmp_path: Path) -> None:
    levels = np.asarray(seven(mode="F", ink=1.0, paper=0.0)).copy()
    levels[3, 3] = np.nan
    Image.fromarray(levels).save(tmp_path / "nan.tiff")
    assert np.abs(read_digit(tmp_path / "nan.tiff").pixels - PLAIN).mean() < 0.02
    seven().save(tmp_path / "exif.jpg", exif=b"Exif\0\0MM\0*")
    with contextlib.suppress(DataError):
        read_digit(tmp_path / "exif.jpg")


def test_an_image_of_one_pixel_is_no_crash() -> None:
    with pytest.raises(DataError, match="nothing is drawn"):
        to_digit(Image.new("L", (1, 1), 7))


def test_what_is_no_image_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    seven().save(tmp_path / "whole.png")
    torn = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(torn[: len(torn) // 2])
    (tmp_path / "packed.png").write_bytes(gzip.compress(torn))
    for name, told in {
        "text.png": "is no image that Pillow reads",
        "packed.png": "is no image that Pillow reads",
        "torn.png": "cannot read",
        "absent.png": "cannot read .*No such file",
        ".": "is a folder: name its images",
    }.items():
        with pytest.raises(DataError, match=told) as caught:
            read_digit(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)
