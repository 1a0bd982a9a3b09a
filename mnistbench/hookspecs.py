"""The hooks that a plugin may implement, and the two markers. One screen, on purpose.

A plugin is a module named by an entry point of the group `mnistbench`. It implements any of the
hooks below and calls `register(name, factory)` once for each component that it brings. What a
factory takes and returns is told in `mnistbench.components`, what a recipe's file holds in
`mnistbench.recipes`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pluggy

PROJECT = "mnistbench"

Register = Callable[[str, Callable[..., Any]], None]
RegisterRecipe = Callable[[str, Path], None]

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_models(register: Register) -> None:
    """Register models: `factory(num_classes, **parameters) -> torch.nn.Module`."""


@hookspec
def register_optimizers(register: Register) -> None:
    """Register optimizers: `factory(params, **parameters) -> torch.optim.Optimizer`."""


@hookspec
def register_augmentations(register: Register) -> None:
    """Register augmentations: `factory(**parameters) -> callable(images) -> images`."""


@hookspec
def register_schedules(register: Register) -> None:
    """Register schedules: `factory(optimizer, steps_per_epoch, epochs, **parameters)`."""


@hookspec
def register_datasets(register: Register) -> None:
    """Register datasets: `factory(data_dir, **parameters) -> mnistbench.ImageDataset`."""


@hookspec
def register_recipes(register: RegisterRecipe) -> None:
    """Register recipes: `register(name, path)` with the path of a TOML file."""
