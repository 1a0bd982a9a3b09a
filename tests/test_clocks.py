"""The clocks of a job: what is timed, in which column, and nothing of it in another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
import torch
from registry_helpers import component
from torch import Tensor
from training_helpers import (
    FakeClock,
    Linear,
    Oracle,
    denormalised,
    make_dataset,
    model,
    numbers_of,
    train,
)

from mnistbench import training, warmup
from mnistbench.components import Component, Kind
from mnistbench.events import Event

# 100 training images less 20 for validation, in batches of 20.
STEPS = 4


# ---- Every clock in its own column


class Costly(Linear):
    """Takes time by the phase of the job: it counts its calls to know which it is."""

    costs: ClassVar = {"set-up": 1000.0, "warm-up": 10.0, "train": 1.0, "evaluate": 100.0}

    def __init__(self, num_classes: int, spend: Callable[[float], None]) -> None:
        super().__init__(num_classes)
        self.calls = {True: 0, False: 0}
        self.spend = spend

    def watch(self, images: Tensor) -> None:
        self.calls[self.training] += 1
        self.spend(self.costs[self.phase(self.calls[self.training])])

    def phase(self, call: int) -> str:
        if self.training:
            return "warm-up" if call <= 3 else "train"
        # The contract is checked and FLOPs are counted; one shape of evaluation is warmed up.
        return "set-up" if call <= 2 else "warm-up" if call == 3 else "evaluate"


def costly(clock: FakeClock, kind: type[Costly] = Costly) -> Component:
    return model(lambda num_classes: kind(num_classes, clock.advance))


def test_every_phase_of_a_job_has_its_own_column_and_nothing_of_the_others() -> None:
    clock = FakeClock()

    def dawdle(event: Event) -> None:
        clock.advance(1e6)  # showing progress is nobody's time

    outcome = train(costly(clock), clock=clock, emit=dawdle)
    expected = {
        "setup_seconds": 2 * 1000,
        "warmup_seconds": 3 * 10 + 10,
        "compile_seconds": 0,
        "train_seconds": 2 * STEPS,
        "eval_seconds": 100 + 2 * 100 + 100,
        "images_per_second": 20,
        "step_p50_ms": 1000,
        "step_p95_ms": 1000,
        "step_max_ms": 1000,
    }
    assert {name: outcome.measures[name] for name in expected} == expected
    assert [row["train_seconds"] for row in outcome.history] == [0, STEPS, 2 * STEPS]


def test_step_times_tell_a_slow_step_from_the_others() -> None:
    class Stumbling(Costly):
        def watch(self, images: Tensor) -> None:
            super().watch(images)
            if self.training and self.calls[True] == 3 + 2:
                self.spend(8)

    clock = FakeClock()
    measures = train(costly(clock, Stumbling), clock=clock).measures
    # Seven steps of 1 s and one of 9 s, of which the 95th percentile is 0.65 of the way up.
    assert measures["step_p50_ms"] == 1000
    assert measures["step_p95_ms"] == pytest.approx(1000 + 0.65 * 8000)
    assert measures["step_max_ms"] == 9000
    assert measures["images_per_second"] == 160 / 16


def test_augmentation_optimizer_and_schedule_are_training_time() -> None:
    clock = FakeClock()

    def augment(images: Tensor) -> Tensor:
        clock.advance(0.5)
        return images

    class SlowOptimizer(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            super().step(closure)
            clock.advance(0.25)

    class SlowSchedule(torch.optim.lr_scheduler.ConstantLR):
        def get_lr(self) -> list[Any]:
            clock.advance(0.125)
            return super().get_lr()

    measures = train(
        costly(clock),
        component(Kind.AUGMENTATION, "slow", lambda: augment),
        component(Kind.OPTIMIZER, "slow", lambda params: SlowOptimizer(params, lr=0.1)),
        component(
            Kind.SCHEDULE, "slow", lambda optimizer, steps, epochs: SlowSchedule(optimizer, 1)
        ),
        clock=clock,
    ).measures
    assert measures["train_seconds"] == 2 * STEPS * 1.875
    assert measures["step_p50_ms"] == 1875
    # One call each when they are built, and three when they are warmed up; no schedule then.
    assert measures["setup_seconds"] == 2000 + 0.5 + 0.125
    assert measures["warmup_seconds"] == 40 + 3 * 0.75
    assert measures["eval_seconds"] == 400


@pytest.mark.parametrize(
    ("phase", "calls", "column"),
    [
        ("train", 8, "train_seconds"),
        ("warm-up", 4, "warmup_seconds"),
        ("evaluate", 4, "eval_seconds"),
    ],
)
def test_on_a_real_clock_a_sleep_shows_in_the_column_of_its_phase_only(
    phase: str, calls: int, column: str
) -> None:
    nap = 0.05

    class Sleepy(Costly):
        costs: ClassVar = dict.fromkeys(Costly.costs, 0.0) | {phase: nap}

    measures = train(model(lambda num_classes: Sleepy(num_classes, time.sleep))).measures
    seconds = {name: measures[name] for name in ("train_seconds", "warmup_seconds", "eval_seconds")}
    slept = seconds.pop(column)
    assert slept >= calls * nap
    assert max(seconds.values()) < slept / 2
    if phase == "train":
        assert measures["step_p50_ms"] >= nap * 1000
        assert measures["images_per_second"] <= 160 / (calls * nap)
    else:
        assert measures["step_p50_ms"] < nap * 1000
        assert measures["images_per_second"] > 160 / (calls * nap)


@pytest.mark.parametrize(
    ("times", "figures"),
    [
        # The 95th percentile of four is 0.85 of the way from the third to the fourth.
        ([4.0, 1.0, 2.0, 3.0], {"step_p50_ms": 2.5, "step_p95_ms": 3.85, "step_max_ms": 4.0}),
        ([7.0], {"step_p50_ms": 7.0, "step_p95_ms": 7.0, "step_max_ms": 7.0}),
        ([], {}),
    ],
)
def test_percentiles_of_step_times_are_those_computed_by_hand(
    times: list[float], figures: dict[str, float]
) -> None:
    assert training.step_times(times) == pytest.approx(figures)


# ---- Time to 99%


def improving(clock: FakeClock, errors: Sequence[int], at_test: int = 0) -> Component:
    """A model with so many `errors` in the evaluation after each epoch; a step takes 1 s."""

    class Improving(Oracle):
        calls = 0

        def watch(self, images: Tensor) -> None:
            if self.training:
                self.calls += 1
                clock.advance(1)
            epochs = (self.calls - warmup.CALLS) // STEPS
            is_test = min(numbers_of(denormalised(images))) < 0
            self.errors = 0 if self.training or epochs < 1 else errors[epochs - 1]
            if is_test:
                self.errors = at_test

    return model(Improving)


def time_to_99(errors: Sequence[int], **settings: Any) -> dict[str, Any]:
    """Train on 80 images, evaluate on 100 with so many `errors` after each epoch."""
    clock = FakeClock()
    settings = {"validation": 100, "epochs": len(errors)} | settings
    dataset = make_dataset(80 + settings["validation"], 100)
    measures = train(improving(clock, errors), clock=clock, dataset=dataset, **settings).measures
    return {name: value for name, value in measures.items() if "_to_99" in name}


def test_the_first_epoch_with_99_percent_counts_and_later_ones_change_nothing() -> None:
    assert time_to_99([2, 1, 50, 0]) == {
        "epochs_to_99": 2,
        "seconds_to_99": 2 * STEPS,
        "seconds_to_99_with_compile": 2 * STEPS,
    }


def test_a_job_that_stays_below_99_percent_has_no_time_to_it() -> None:
    assert time_to_99([2, 2, 2]) == {}


def test_without_validation_there_is_no_time_to_99_percent() -> None:
    clock = FakeClock()
    outcome = train(improving(clock, [0, 0]), clock=clock, validation=0, batch_size=25)
    assert outcome.measures["test_accuracy"] == 1
    assert not [name for name in outcome.measures if "_to_99" in name]
    for row in outcome.history:
        assert row["validation_loss"] is None
        assert row["validation_accuracy"] is None


def test_the_test_set_has_no_say_in_the_time_to_99_percent() -> None:
    clock = FakeClock()
    dataset = make_dataset(180, 100)
    settings = {"clock": clock, "dataset": dataset, "validation": 100}
    measures = train(improving(clock, [1, 1], at_test=30), **settings).measures
    assert (measures["test_accuracy"], measures["epochs_to_99"]) == (0.7, 1)
