"""What a component makes is checked against its contract, and what is wrong is said in one line.

How the checks of models, optimizers, schedules and augmentations reach a job is in
test_training.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from registry_helpers import component, registry_of
from torch import Tensor, nn
from training_helpers import make_dataset

from mnistbench import contract
from mnistbench.components import Kind
from mnistbench.errors import PluginError
from mnistbench.selection import Selection

GOOD = make_dataset(30, 10)
IMAGES = torch.rand(2, 1, 28, 28)


def selected(kind: Kind, text: str = "mine") -> Selection:
    registry = registry_of(component(kind, "mine", lambda *arguments, size=1: None))
    return registry.select(kind, text)[0]


DATASET = selected(Kind.DATASET)


def test_a_dataset_that_keeps_its_contract_passes() -> None:
    contract.check_dataset(DATASET, GOOD)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_images": GOOD.train_images.float()},
            "train_images of dataset mine of acme must be uint8 [N, 1, 28, 28], "
            "not float32 [30, 1, 28, 28] on cpu",
        ),
        (
            {"train_images": GOOD.train_images.squeeze(1)},
            "train_images of dataset mine of acme must be uint8 [N, 1, 28, 28], "
            "not uint8 [30, 28, 28] on cpu",
        ),
        (
            {"test_images": GOOD.test_images[:0], "test_labels": GOOD.test_labels[:0]},
            "test_images of dataset mine of acme must be uint8 [N, 1, 28, 28], "
            "not uint8 [0, 1, 28, 28] on cpu",
        ),
        (
            {"test_images": GOOD.test_images.numpy()},
            "test_images of dataset mine of acme must be a Tensor, not a ndarray",
        ),
        (
            {"train_labels": GOOD.train_labels.tolist()},
            "train_labels of dataset mine of acme must be a Tensor, not a list",
        ),
        (
            {"train_labels": GOOD.train_labels.int()},
            "train_labels of dataset mine of acme must be int64 [30], not int32 [30] on cpu",
        ),
        (
            {"test_labels": GOOD.test_labels[:9]},
            "test_labels of dataset mine of acme must be int64 [10], not int64 [9] on cpu",
        ),
        (
            {"num_classes": 9},
            "train_labels of dataset mine of acme must be 0 to 8, but reach from 0 to 9",
        ),
        (
            {"test_labels": GOOD.test_labels - 1},
            "test_labels of dataset mine of acme must be 0 to 9, but reach from -1 to 8",
        ),
        (
            {"std": 0.0},
            "mean and std of dataset mine of acme must be finite numbers and std above 0, "
            "not 0.25 and 0.0",
        ),
        (
            {"mean": float("nan")},
            "mean and std of dataset mine of acme must be finite numbers and std above 0, "
            "not nan and 0.5",
        ),
    ],
)
def test_a_dataset_that_breaks_its_contract_is_named_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PluginError) as caught:
        contract.check_dataset(DATASET, replace(GOOD, **changes))
    assert str(caught.value) == message


def test_something_else_than_a_dataset_is_refused() -> None:
    with pytest.raises(PluginError) as caught:
        contract.check_dataset(DATASET, (GOOD.train_images, GOOD.train_labels))
    assert str(caught.value) == "dataset mine of acme must make an ImageDataset, not a tuple"


def test_numpys_numbers_for_mean_and_std_pass() -> None:
    contract.check_dataset(DATASET, replace(GOOD, mean=np.float64(0.1), std=np.float32(0.3)))


def test_the_message_shows_the_selection_with_its_parameters() -> None:
    with pytest.raises(PluginError, match=r"^model mine\[size=3\] of acme must make a Module"):
        contract.require_type(selected(Kind.MODEL, "mine[size=3]"), 3, nn.Module)


def test_a_model_is_checked_in_evaluation_mode_and_without_gradients() -> None:
    modes: list[tuple[bool, bool]] = []

    class Noting(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            modes.append((self.training, torch.is_grad_enabled()))
            return images.flatten(1)[:, :10]

    contract.check_model(selected(Kind.MODEL), Noting(), IMAGES, 10)
    assert modes == [(False, False)]


def test_checking_an_augmentation_leaves_its_images_alone() -> None:
    before = IMAGES.clone()
    contract.check_augmentation(selected(Kind.AUGMENTATION), lambda images: images.zero_(), IMAGES)
    assert torch.equal(IMAGES, before)


def test_no_augmentation_is_a_good_one() -> None:
    contract.check_augmentation(selected(Kind.AUGMENTATION), None, IMAGES)
