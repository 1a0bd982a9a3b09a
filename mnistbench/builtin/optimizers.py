"""The shipped optimizers: torch's, with learning rates for MNIST-size work in batches of 64.

The rates were chosen on the validation split, over seeds, as the peak of the one-cycle schedule.

Each takes the fused kernel where torch has one for the device of the parameters: the same
arithmetic in one pass over the memory.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mnistbench.hookspecs import Register, hookimpl

FUSED_DEVICES = {"cpu", "cuda", "mps"}


def adam(
    params: Iterable[Tensor],
    *,
    lr: float = 3e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> torch.optim.Adam:
    """Adam (Kingma and Ba, 2015)."""
    params = list(params)
    return torch.optim.Adam(params, lr, betas, eps, weight_decay, amsgrad, fused=_fused(params))


def adamw(
    params: Iterable[Tensor],
    *,
    lr: float = 3e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
) -> torch.optim.AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    params = list(params)
    return torch.optim.AdamW(params, lr, betas, eps, weight_decay, amsgrad, fused=_fused(params))


def sgd(
    params: Iterable[Tensor],
    *,
    lr: float = 0.05,
    momentum: float = 0.9,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum (Sutskever et al., 2013)."""
    params = list(params)
    return torch.optim.SGD(
        params, lr, momentum, dampening, weight_decay, nesterov, fused=_fused(params)
    )


def rmsprop(
    params: Iterable[Tensor],
    *,
    lr: float = 2e-3,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
) -> torch.optim.RMSprop:
    """RMSprop (Tieleman and Hinton, 2012)."""
    return torch.optim.RMSprop(params, lr, alpha, eps, weight_decay, momentum, centered)


def _fused(params: list[Tensor]) -> bool:
    return bool(params) and all(
        param.device.type in FUSED_DEVICES and param.is_floating_point() for param in params
    )


@hookimpl
def register_optimizers(register: Register) -> None:
    """Register the shipped optimizers."""
    register("adam", adam)
    register("adamw", adamw)
    register("sgd", sgd)
    register("rmsprop", rmsprop)
