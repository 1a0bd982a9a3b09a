"""The shipped recipes: published tutorial systems, each as its source trains it."""

from __future__ import annotations

from pathlib import Path

from mnistbench.hookspecs import RegisterRecipe, hookimpl


@hookimpl
def register_recipes(register: RegisterRecipe) -> None:
    """Register every TOML file of this folder under its name."""
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        register(path.stem, path)
