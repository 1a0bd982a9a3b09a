"""LeNet-5 has the published number of weights, and learns."""

from __future__ import annotations

import torch
from mnistbench_lenet import LeNet


def test_the_default_has_61706_parameters() -> None:
    # 156 + 2,416 in the convolutions; 48,120 + 10,164 + 850 in the dense layers.
    assert sum(p.numel() for p in LeNet(10).parameters()) == 61_706


def test_images_become_logits() -> None:
    assert LeNet(7, activation="relu")(torch.zeros(3, 1, 28, 28)).shape == (3, 7)
