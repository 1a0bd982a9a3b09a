"""The shipped augmentations: what they draw, within which bounds, and what they leave alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mnistbench.components import Kind
from mnistbench.plugins import discover

COUNT = 2000
CENTRE = 13.5  # of 28 pixels, counted from 0


def select(text: str) -> Callable[[Tensor], Tensor]:
    registry = discover({"mnistbench"})
    (selection,) = registry.select(Kind.AUGMENTATION, text)
    torch.manual_seed(0)
    augment: Callable[[Tensor], Tensor] = registry.create(selection)()
    return augment


def blobs(x: float, y: float, count: int = COUNT) -> Tensor:
    """Return images with one soft spot, `x` right of the centre and `y` below it."""
    rows = torch.arange(28) - CENTRE
    spot = torch.exp(-((rows[:, None] - y) ** 2 + (rows[None, :] - x) ** 2) / (2 * 1.5**2))
    return spot.repeat(count, 1, 1, 1)


def centres(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far right of the centre and below it the mass of each image has its middle."""
    rows = torch.arange(28) - CENTRE
    mass = images.sum((1, 2, 3))
    return (images.sum(2)[:, 0] @ rows) / mass, (images.sum(3)[:, 0] @ rows) / mass


def test_none_is_no_augmentation_at_all() -> None:
    assert select("none") is None


@pytest.mark.parametrize("count", [1, 7])
def test_affine_keeps_shape_type_and_range(count: int) -> None:
    images = torch.rand(count, 1, 28, 28)
    before = images.clone()
    changed = select("affine")(images)
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1 + 1e-6
    assert torch.equal(images, before)
    assert not torch.equal(changed, images)


def test_affine_with_nothing_to_draw_gives_the_images_back() -> None:
    images = torch.rand(50, 1, 28, 28)
    changed = select("affine[degrees=0,shift=0,scale=0]")(images)
    torch.testing.assert_close(changed, images, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        "affine",
        "affine[shift=0,scale=0]",
        "affine[degrees=0,scale=0]",
        "affine[degrees=0,shift=0]",
    ],
)
def test_every_image_of_a_batch_is_drawn_for_itself(text: str) -> None:
    changed = select(text)(torch.rand(1, 1, 28, 28).repeat(20, 1, 1, 1))
    assert len({tuple(image.tolist()) for image in changed.flatten(1)}) == 20


def test_the_same_seed_gives_the_same_images_and_the_next_call_others() -> None:
    images = torch.rand(5, 1, 28, 28)
    augment = select("affine")
    torch.manual_seed(3)
    first, second = augment(images), augment(images)
    torch.manual_seed(3)
    assert torch.equal(augment(images), first)
    assert not torch.equal(second, first)


def check_uniform(draws: Tensor, bound: float) -> None:
    """Check that these are even over ± `bound`: their bounds, their mean, their spread."""
    assert float(draws.abs().max()) <= bound * 1.03
    assert float(draws.min()) < -0.95 * bound
    assert float(draws.max()) > 0.95 * bound
    # Of 2,000 the mean is within 0.05 of the bound: four standard deviations.
    assert abs(float(draws.mean())) < 0.05 * bound
    assert float(draws.std()) == pytest.approx(bound / math.sqrt(3), rel=0.06)


def test_shift_moves_images_by_up_to_so_many_pixels_along_each_axis() -> None:
    x, y = centres(select("affine[degrees=0,shift=3,scale=0]")(blobs(0, 0)))
    check_uniform(x, 3)
    check_uniform(y, 3)
    # The axes are drawn for themselves.
    assert abs(float(torch.corrcoef(torch.stack((x, y)))[0, 1])) < 0.1


def test_degrees_turn_images_about_their_centre_by_up_to_that_angle_either_way() -> None:
    x, y = centres(select("affine[degrees=30,shift=0,scale=0]")(blobs(6, 0)))
    check_uniform(torch.rad2deg(torch.atan2(y, x)), 30)
    torch.testing.assert_close(torch.hypot(x, y), torch.full((COUNT,), 6.0), rtol=0, atol=0.1)


def test_scale_makes_images_larger_and_smaller_by_up_to_that_share() -> None:
    x, y = centres(select("affine[degrees=0,shift=0,scale=0.2]")(blobs(6, 4)))
    check_uniform(x / 6 - 1, 0.2)
    # Both axes alike: digits keep their proportions.
    torch.testing.assert_close(x / 6, y / 4, rtol=0, atol=0.02)


def test_what_comes_in_from_beyond_the_border_is_black() -> None:
    white = torch.ones(COUNT, 1, 28, 28)
    changed = select("affine[degrees=0,shift=5,scale=0]")(white)
    # An image shifted by x and y pixels lacks that much at two of its sides.
    assert float(changed.min()) == 0
    lost = 28 * 28 - changed.sum((1, 2, 3))
    assert float(lost.max()) <= 28 * 28 - 23 * 23 + 1
    assert torch.allclose(changed[:, :, 5:-5, 5:-5], torch.ones(1), atol=1e-4)


def test_the_default_is_gentle() -> None:
    x, y = centres(select("affine")(blobs(0, 0)))
    assert 0.5 < float(torch.hypot(x, y).mean()) < 3
