"""The shipped augmentations: whole batches, on their device, drawn anew for each image."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mnistbench.hookspecs import Register, hookimpl


def none() -> None:
    """Images as they are."""


def affine(
    *, degrees: float = 10.0, shift: float = 2.0, scale: float = 0.1
) -> Callable[[Tensor], Tensor]:
    """Random rotation, shift and scale, drawn for each image.

    The angle is uniform in ± `degrees`, the shift in ± `shift` pixels along each axis, the scale
    in 1 ± `scale`. Resampling is bilinear, with black beyond the border.
    """

    def augment(images: Tensor) -> Tensor:
        count, _, height, width = images.shape
        draws = torch.rand(4, count, device=images.device, dtype=images.dtype) * 2 - 1
        angle = draws[0] * math.radians(degrees)
        zoom = 1 / (1 + draws[1] * scale)
        cosine, sine = angle.cos() * zoom, angle.sin() * zoom
        # affine_grid works in units of half an image.
        shift_x, shift_y = draws[2] * (2 * shift / width), draws[3] * (2 * shift / height)
        rows = (cosine, -sine, shift_x, sine, cosine, shift_y)
        theta = torch.stack(rows, dim=1).view(count, 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)

    return augment


@hookimpl
def register_augmentations(register: Register) -> None:
    """Register the shipped augmentations."""
    register("none", none)
    register("affine", affine)
