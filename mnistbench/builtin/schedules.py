"""The shipped learning-rate schedules; the peak is always the optimizer's own learning rate."""

from __future__ import annotations

from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from mnistbench.hookspecs import Register, hookimpl


def constant(optimizer: Optimizer, steps_per_epoch: int, epochs: int) -> None:
    """The optimizer's learning rate throughout."""


def onecycle(
    optimizer: Optimizer,
    steps_per_epoch: int,
    epochs: int,
    *,
    pct_start: float = 0.3,
    anneal: Literal["cos", "linear"] = "cos",
    cycle_momentum: bool = False,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> LRScheduler:
    """One cycle: up to the optimizer's learning rate, then down to near zero (Smith, 2018)."""
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=steps_per_epoch * epochs,
        pct_start=pct_start,
        anneal_strategy=anneal,
        cycle_momentum=cycle_momentum,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
    )


def step(
    optimizer: Optimizer,
    steps_per_epoch: int,
    epochs: int,
    *,
    step_size: int = 10,
    gamma: float = 0.1,
) -> LRScheduler:
    """The learning rate times `gamma` every `step_size` epochs."""
    return StepLR(optimizer, step_size * steps_per_epoch, gamma)


def cosine(
    optimizer: Optimizer, steps_per_epoch: int, epochs: int, *, final: float = 0.0
) -> LRScheduler:
    """Half a cosine from the learning rate down to `final` (Loshchilov and Hutter, 2017)."""
    return CosineAnnealingLR(optimizer, steps_per_epoch * epochs, eta_min=final)


def plateau(
    optimizer: Optimizer,
    steps_per_epoch: int,
    epochs: int,
    *,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    cooldown: int = 0,
    min_lr: float = 0.0,
) -> LRScheduler:
    """The learning rate times `factor` where the loss has not fallen for `patience` epochs.

    The loss is that on the validation split, or the training loss where there is no split.
    """
    return ReduceLROnPlateau(
        optimizer,
        factor=factor,
        patience=patience,
        threshold=threshold,
        cooldown=cooldown,
        min_lr=min_lr,
    )


@hookimpl
def register_schedules(register: Register) -> None:
    """Register the shipped schedules."""
    register("constant", constant)
    register("onecycle", onecycle)
    register("step", step)
    register("cosine", cosine)
    register("plateau", plateau)
