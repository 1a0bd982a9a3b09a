"""The shipped schedules: the learning rate of every step, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mnistbench.components import Kind
from mnistbench.plugins import discover


def make(text: str, optimizer: torch.optim.Optimizer, steps: int, epochs: int) -> Any:
    registry = discover({"mnistbench"})
    (selection,) = registry.select(Kind.SCHEDULE, text)
    return registry.create(selection)(optimizer, steps, epochs)


def weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(1))


def rates(text: str, steps: int, epochs: int, lr: float = 0.1) -> list[float]:
    """Return the learning rate in each step of a training."""
    optimizer = torch.optim.SGD([weight()], lr=lr)
    schedule = make(text, optimizer, steps, epochs)
    result = []
    for _ in range(steps * epochs):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return result


def test_constant_is_no_schedule_at_all() -> None:
    optimizer = torch.optim.SGD([weight()], lr=0.1)
    assert make("constant", optimizer, 5, 2) is None
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_step_multiplies_the_rate_every_so_many_epochs() -> None:
    expected = [0.1] * 6 + [0.05] * 6 + [0.025] * 3
    assert rates("step[step_size=2,gamma=0.5]", 3, 5) == pytest.approx(expected)
    assert rates("step", 2, 11) == pytest.approx([0.1] * 20 + [0.01] * 2)


def test_cosine_goes_down_over_all_steps_from_the_rate_to_the_final_one() -> None:
    expected = [0.05 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert rates("cosine", 4, 2) == pytest.approx(expected)
    expected = [0.04 + 0.03 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert rates("cosine[final=0.04]", 2, 4) == pytest.approx(expected)


def test_onecycle_goes_up_to_the_rate_and_down_to_near_zero() -> None:
    # Of 20 steps the first 30% go up: from step 0 to step 5 there are five stages.
    start, peak, end = 0.1 / 25, 0.1, 0.1 / 25 / 1e4
    up = [start + (peak - start) * (1 - math.cos(math.pi * step / 5)) / 2 for step in range(6)]
    down = [end + (peak - end) * (1 + math.cos(math.pi * step / 14)) / 2 for step in range(1, 15)]
    assert rates("onecycle", 10, 2) == pytest.approx(up + down)


def test_onecycle_takes_its_parameters() -> None:
    text = "onecycle[pct_start=0.5,anneal=linear,div_factor=10,final_div_factor=2]"
    up = [0.01, 0.0325, 0.055, 0.0775, 0.1]
    down = [0.1 - 0.095 * step / 5 for step in range(1, 6)]
    assert rates(text, 5, 2) == pytest.approx(up + down)


def test_onecycle_leaves_the_momentum_alone_unless_asked() -> None:
    for text, moves in (("onecycle", False), ("onecycle[cycle_momentum=true]", True)):
        optimizer = torch.optim.SGD([weight()], lr=0.1, momentum=0.9)
        schedule = make(text, optimizer, 10, 1)
        momenta = set()
        for _ in range(10):
            momenta.add(optimizer.param_groups[0]["momentum"])
            optimizer.step()
            schedule.step()
        assert (momenta != {0.9}) is moves


@pytest.mark.parametrize("name", ["step", "cosine", "onecycle"])
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "RMSprop"])
def test_every_schedule_serves_every_optimizer_and_peaks_at_its_rate(
    name: str, optimizer: str
) -> None:
    built = getattr(torch.optim, optimizer)([weight()], lr=0.02)
    schedule = make(name, built, 10, 2)
    seen = []
    for _ in range(20):
        seen.append(built.param_groups[0]["lr"])
        built.step()
        schedule.step()
    assert max(seen) == pytest.approx(0.02)


@pytest.mark.parametrize("name", ["step", "cosine", "onecycle"])
def test_every_group_of_parameters_keeps_its_own_peak(name: str) -> None:
    groups = [{"params": [weight()], "lr": 0.2}, {"params": [weight()], "lr": 0.4}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedule = make(name, optimizer, 10, 2)
    seen = []
    for _ in range(20):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert [max(column) for column in zip(*seen, strict=True)] == pytest.approx([0.2, 0.4])


@pytest.mark.parametrize("name", ["step", "cosine", "onecycle"])
def test_a_single_step_is_enough(name: str) -> None:
    (rate,) = rates(name, 1, 1)
    assert 0 < rate <= 0.1
