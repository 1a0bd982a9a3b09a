"""Warm-up: every shape of batch that is to come, and no trace left of it."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn
from training_helpers import CPU, FakeClock, Linear, make_dataset

from mnistbench import data
from mnistbench.steps import Parts
from mnistbench.warmup import CALLS, batch_sizes, warm_up


@pytest.fixture
def split() -> data.Split:
    """45 training images, which in batches of 20 leave one of 5."""
    return data.split(make_dataset(45, 5), 0, CPU)[0]


def parts_of(model: nn.Module) -> Parts:
    optimizer = torch.optim.SGD(model.parameters(), lr=1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Parts(model, model, optimizer, scaler, contextlib.nullcontext)


def warm(parts: Parts, split: data.Split, *, compiled: bool = False, clock: FakeClock) -> float:
    # Sets of 1,003 and of 3 images are evaluated in batches of 1,000 and 3, and of 3.
    return warm_up(parts, split, 20, [1003, 3], None, compiled=compiled, clock=clock)


class Stateful(Linear):
    """Keeps running figures in every way that models do."""

    counts: Tensor
    average: Tensor
    hidden: Tensor

    def __init__(self) -> None:
        super().__init__(16)
        self.norm = nn.BatchNorm1d(16)
        self.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)
        self.register_buffer("counts", torch.zeros(2))
        self.register_buffer("average", torch.zeros(16))
        self.register_buffer("hidden", torch.zeros(1), persistent=False)
        # Four times the same memory, to which torch does not write.
        self.register_buffer("expanded", torch.arange(3.0).expand(4, 3))

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        if self.training:
            self.counts += 1
            self.hidden += 1
            self.frozen.data += 1
            # Not in place: from here on the buffer is another tensor.
            self.average = 0.9 * self.average + 0.1 * logits.detach().mean(0)
        output: Tensor = self.norm(logits)
        return output


def test_parameters_and_buffers_are_what_they_were(split: data.Split) -> None:
    model = Stateful()

    def state() -> dict[str, Tensor]:
        return dict([*model.named_parameters(), *model.named_buffers()])

    before = {name: tensor.detach().clone() for name, tensor in state().items()}
    tensors = state()
    parts = parts_of(model)
    warm(parts, split, clock=FakeClock())
    # The optimizer of the warm-up has seen steps, so there was something to undo.
    assert all(
        float(entry["momentum_buffer"].abs().sum()) > 0 for entry in parts.optimizer.state.values()
    )
    assert state().keys() == before.keys() >= {"average", "hidden", "norm.running_mean"}
    for name, tensor in state().items():
        assert torch.equal(tensor, before[name]), name
        assert tensor is tensors[name], name
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_shape_is_trained_and_evaluated_that_will_come(split: data.Split) -> None:
    calls: list[tuple[bool, int]] = []

    class Watching(Linear):
        def watch(self, images: Tensor) -> None:
            calls.append((self.training, len(images)))

    warm(parts_of(Watching()), split, clock=FakeClock())
    assert calls == [
        *[(True, 20)] * CALLS,
        *[(True, 5)] * CALLS,
        (False, 1000),
        (False, 3),
    ]


@pytest.mark.parametrize(
    ("compiled", "look", "seconds"),
    # A compiled model looks as often as it steps: its CUDA graphs are recorded in later calls.
    [(True, [1, 7, 7, 2, 7, 7], 10 + 1000 + 1 + 2), (False, [1, 2], 0)],
)
def test_the_first_call_of_every_shape_is_what_compiling_takes(
    split: data.Split, compiled: bool, look: list[int], seconds: float
) -> None:
    clock = FakeClock()
    costs = iter([10, 7, 7, 1000, 7, 7, *look])

    class Costly(Linear):
        def watch(self, images: Tensor) -> None:
            clock.advance(next(costs))

    assert warm(parts_of(Costly()), split, compiled=compiled, clock=clock) == seconds
    assert next(costs, None) is None


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(45, 20, [20, 5]), (40, 20, [20]), (20, 20, [20]), (5, 20, [5]), (1, 1, [1])],
)
def test_images_fall_into_batches_of_at_most_two_sizes(
    count: int, batch_size: int, sizes: list[int]
) -> None:
    assert batch_sizes(count, batch_size) == sizes
