"""Epoch 0, early stopping, the best epoch, plateaus, and normalisation as a job's own setting."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from training_helpers import (
    FakeClock,
    Linear,
    Oracle,
    Outcome,
    make_dataset,
    model,
    numbers_of,
    train,
)

from mnistbench import data, warmup
from mnistbench.events import EpochEnded, Event
from mnistbench.training import EPOCH_FIGURES

STEPS = 4  # 80 images in batches of 20


def with_errors(*errors: int, **settings: Any) -> Outcome:
    """Train on 80 images, with so many errors among 100 of validation after epochs 0, 1, ..."""

    class Scripted(Oracle):
        steps = 0

        def watch(self, images: Tensor) -> None:
            self.steps += self.training
            epoch = max(0, self.steps - warmup.CALLS) // STEPS
            self.errors = 0 if self.training else errors[epoch]

    settings = {"validation": 100, "epochs": len(errors) - 1, **settings}
    return train(model(Scripted), dataset=make_dataset(180, 100), **settings)


# ---- The baseline


def test_the_untrained_model_is_epoch_0_of_the_history_and_two_columns() -> None:
    outcome = with_errors(90, 1)
    first = outcome.history[0]
    assert (first["epoch"], first["train_seconds"], first["learning_rate"]) == (0, 0.0, None)
    assert (first["train_loss"], first["train_accuracy"]) == (None, None)
    assert first["validation_accuracy"] == outcome.measures["baseline_accuracy"] == 0.1
    assert first["validation_loss"] == outcome.measures["baseline_loss"] > 8
    assert first.keys() == outcome.history[1].keys()


def test_an_untrained_network_knows_nothing() -> None:
    measures = train(epochs=1, dataset=make_dataset(600, 100), validation=300).measures
    assert measures["baseline_accuracy"] < 0.35
    assert measures["baseline_loss"] == pytest.approx(2.3, abs=0.3)


def test_without_validation_the_baseline_is_taken_on_a_twelfth_of_the_training_images() -> None:
    seen: list[list[int]] = []

    class Watching(Linear):
        def watch(self, images: Tensor) -> None:
            if not self.training:
                seen.append(numbers_of(images * 0.5 + 0.25))

    outcome = train(model(Watching), dataset=make_dataset(120, 20), validation=0, epochs=1)
    first = outcome.history[0]
    assert first["train_accuracy"] == outcome.measures["baseline_accuracy"]
    assert first["train_loss"] == outcome.measures["baseline_loss"]
    assert first["validation_loss"] is None
    looked_at = seen[-2]  # the last look before that at the test set
    assert len(set(looked_at)) == 10
    assert max(looked_at) > 50, "not the first of them, which might be of one class"
    again = train(model(Watching), dataset=make_dataset(120, 20), validation=0, epochs=1, seed=1)
    assert again.measures["train_images"] == 120
    assert seen[-2] == looked_at, "the same for every seed"


# ---- Patience


@pytest.mark.parametrize(
    ("errors", "patience", "epochs", "best"),
    [
        ((90, 5, 4, 3, 2, 1), 1, 5, 5),
        ((90, 5, 6, 4, 3, 2), 1, 2, 1),
        ((90, 5, 6, 4, 5, 5, 1), 2, 5, 3),
        ((90, 5, 5, 5, 5, 1), 3, 4, 1),  # as good is not better
        ((90, 5, 4, 5, 6, 7), None, 5, 2),
    ],
)
def test_training_stops_after_so_many_epochs_without_a_better_one(
    errors: tuple[int, ...], patience: int | None, epochs: int, best: int
) -> None:
    outcome = with_errors(*errors, patience=patience, keep="best")
    assert outcome.measures["epochs_done"] == epochs
    assert [row["epoch"] for row in outcome.epochs] == [*range(1, epochs + 1)]
    assert outcome.measures["kept_epoch"] == best
    assert outcome.measures["validation_accuracy"] == 1 - errors[best] / 100
    expected = {name: outcome.history[best][name] for name in EPOCH_FIGURES}
    assert {name: outcome.measures[name] for name in EPOCH_FIGURES} == expected


def test_throughput_of_a_job_that_stopped_early_counts_the_epochs_it_did() -> None:
    clock = FakeClock()

    class Slow(Oracle):
        def watch(self, images: Tensor) -> None:
            clock.advance(1.0 if self.training else 0.0)

    outcome = train(model(Slow), clock=clock, epochs=9, patience=2)
    assert outcome.measures["epochs_done"] == 3
    assert outcome.measures["train_seconds"] == 3 * STEPS
    assert outcome.measures["images_per_second"] == 20


def test_of_epochs_with_equal_accuracy_the_one_with_the_lower_loss_is_the_best() -> None:
    class Surer(Oracle):
        steps = 0

        def forward(self, images: Tensor) -> Tensor:
            self.steps += self.training
            epoch = max(0, self.steps - warmup.CALLS) // STEPS
            return super().forward(images) * (1.0, 0.5, 2.0, 1.0)[epoch]

    assert train(model(Surer), epochs=3, keep="best").measures["kept_epoch"] == 2


# ---- The weights that are kept


class Worsening(Oracle):
    """Errs after its first epoch, as a buffer that counts its steps tells it to."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("steps", torch.zeros(()))

    def watch(self, images: Tensor) -> None:
        if self.training:
            self.steps += 1
            with torch.no_grad():
                self.layer.weight += 1
        self.errors = 0 if self.training or self.steps <= STEPS else 20


@pytest.mark.parametrize(("keep", "kept", "accuracy"), [("best", 1, 1.0), ("last", 3, 0.0)])
def test_the_weights_and_buffers_of_the_kept_epoch_are_tested_and_returned(
    keep: str, kept: int, accuracy: float
) -> None:
    made: list[Worsening] = []
    weights: list[Tensor] = []

    def build(num_classes: int) -> Worsening:
        made.append(Worsening(num_classes))
        return made[-1]

    def watch(event: Event) -> None:
        if isinstance(event, EpochEnded):
            weights.append(made[-1].layer.weight.detach().clone())

    measures = train(model(build), emit=watch, epochs=3, keep=keep).measures
    assert measures["kept_epoch"] == kept
    assert measures["test_accuracy"] == accuracy
    assert torch.equal(made[-1].layer.weight, weights[kept - 1])
    assert not torch.equal(weights[0], weights[2])
    assert made[-1].steps == kept * STEPS


def test_a_buffer_that_cannot_be_written_to_does_not_stop_the_best_epoch() -> None:
    class Expanded(Oracle):
        def __init__(self, num_classes: int) -> None:
            super().__init__(num_classes)
            self.register_buffer("one", torch.ones(1).expand(5))

    assert train(model(Expanded), epochs=2, keep="best").measures["kept_epoch"] == 1


# ---- Plateaus


def test_a_plateau_lowers_the_rate_when_the_validation_loss_no_longer_falls() -> None:
    outcome = with_errors(
        90, 5, 4, 4, 4, 4, optimizer="sgd[lr=0.1]", schedule="plateau[patience=0,factor=0.5]"
    )
    # Looked at after each epoch; the rate shown is that of the epoch's last step.
    assert [row["learning_rate"] for row in outcome.epochs] == pytest.approx(
        [0.1, 0.1, 0.1, 0.05, 0.025]
    )


def test_without_validation_a_plateau_looks_at_the_training_loss() -> None:
    settings = {"optimizer": "sgd[lr=0.1]", "schedule": "plateau[patience=0]", "epochs": 4}
    falling = train(dataset=make_dataset(400, 20), validation=0, **settings)
    assert [row["learning_rate"] for row in falling.epochs] == [0.1] * 4
    still = train(model(Oracle), validation=0, **settings)
    assert [row["learning_rate"] for row in still.epochs] == pytest.approx([0.1, 0.1, 0.01, 0.001])


# ---- Normalisation


@pytest.mark.parametrize(
    ("normalisation", "mean", "std"),
    [(None, 0.25, 0.5), ((0.0, 1.0), 0, 1), ((0.5, 0.25), 0.5, 0.25)],
)
def test_a_model_sees_pixels_normalised_as_the_job_asks(
    normalisation: tuple[float, float] | None, mean: float, std: float
) -> None:
    seen: list[tuple[float, float]] = []

    class Watching(Linear):
        def watch(self, images: Tensor) -> None:
            seen.append((float(images.min()), float(images.max())))

    train(model(Watching), normalisation=normalisation, epochs=1)
    low, high = (0 - mean) / std, (1 - mean) / std
    assert len(seen) > 8
    for least, most in seen:
        assert least == pytest.approx(low, abs=1e-5)
        assert most == pytest.approx(high, abs=1e-5)


def test_a_dataset_keeps_its_pixels_under_another_normalisation() -> None:
    dataset = make_dataset()
    other = data.normalised(dataset, (0.5, 0.25))
    assert (other.mean, other.std) == (0.5, 0.25)
    assert other.train_images is dataset.train_images
    assert data.normalised(dataset, None) is dataset
