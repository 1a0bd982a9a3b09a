"""Discovery of plugins, guarded, and the registry of the components that they bring.

There is one pluggy PluginManager. The shipped components come through the same hooks as those
of third parties, from modules named by their dotted paths, so this module imports nothing above
it. A plugin that fails is kept as a `BrokenPlugin`, with its distribution and the cause, and
everything else works.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.metadata
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pluggy

import mnistbench
from mnistbench import hookspecs
from mnistbench.components import Component, Kind
from mnistbench.errors import PluginError, SelectionError, UsageError, nearest
from mnistbench.selection import Selection, parse_selections, select

ENTRY_POINT_GROUP = "mnistbench"
BUILTIN_DISTRIBUTION = "mnistbench"
BUILTIN_MODULES = (
    "mnistbench.builtin.models",
    "mnistbench.builtin.optimizers",
    "mnistbench.builtin.schedules",
    "mnistbench.builtin.augmentations",
    "mnistbench.builtin.datasets",
    "mnistbench.builtin.recipes",
)
NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/]*")


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that could not be used: the entry point, who brought it, and why."""

    entry_point: str
    distribution: str
    version: str
    cause: str


@dataclass(frozen=True)
class RecipeFile:
    """The TOML file of a recipe, its name, and who brought it."""

    name: str
    path: Path
    distribution: str
    version: str


@dataclass
class Registry:
    """The components of all plugins by kind and name, and their recipes by name.

    A name may have several claimants.
    """

    components: dict[Kind, dict[str, list[Component]]] = field(
        default_factory=lambda: {kind: {} for kind in Kind}
    )
    recipes: dict[str, list[RecipeFile]] = field(default_factory=dict)
    broken: list[BrokenPlugin] = field(default_factory=list)

    def add(self, component: Component) -> None:
        """Add a component. Raises `PluginError` for a name that is no name, or is taken twice."""
        self._check(component)
        self.components[component.kind].setdefault(component.name, []).append(component)

    def merge(self, other: Registry) -> None:
        """Add every component of `other`, or none: raises `PluginError` as `add` does."""
        for component in other:
            self._check(component)
        for files in other.recipes.values():
            for file in files:
                self._check_recipe(file)
        for component in other:
            self.add(component)
        for files in other.recipes.values():
            for file in files:
                self.add_recipe(file)

    def add_recipe(self, file: RecipeFile) -> None:
        """Add a recipe. Raises `PluginError` for a bad name, or a file that is not there."""
        self._check_recipe(file)
        self.recipes.setdefault(file.name, []).append(file)

    def _check_recipe(self, file: RecipeFile) -> None:
        if not NAME_PATTERN.fullmatch(file.name) or file.name.endswith(".toml"):
            raise PluginError(
                f"{file.name!r} is no name for a recipe: use letters, digits, _ . - and /"
            )
        if not file.path.is_file():
            raise PluginError(f"the file of recipe {file.name} is not there: {file.path}")
        if any(
            file.distribution == other.distribution for other in self.recipes.get(file.name, ())
        ):
            raise PluginError(f"recipe {file.name} is registered twice by {file.distribution}")

    def get_recipe(self, name: str) -> RecipeFile:
        """Return the recipe called `name` or `distribution:name`. Raises `UsageError`."""
        distribution, _, bare = name.rpartition(":")
        found = self.recipes.get(bare, [])
        if distribution:
            found = [file for file in found if file.distribution == distribution]
        if len(found) == 1:
            return found[0]
        if found:
            choices = " or ".join(f"{file.distribution}:{name}" for file in found)
            raise UsageError(f"recipe {name} is claimed by two plugins; write {choices}")
        raise UsageError(
            f"unknown recipe {name!r}; {nearest(bare, self.recipes)}; a file's name ends in .toml"
        )

    def _check(self, component: Component) -> None:
        if not NAME_PATTERN.fullmatch(component.name) or component.name == "all":
            raise PluginError(
                f"{component.name!r} is no name for a {component.kind}: use letters, digits, "
                "_ . - and /"
            )
        if not callable(component.factory):
            raise PluginError(f"the factory of {component.kind} {component.name} is not callable")
        component.parameters  # noqa: B018 - a signature that cannot be read is found here
        claimants = self.components[component.kind].get(component.name, [])
        if any(other.distribution == component.distribution for other in claimants):
            raise PluginError(
                f"{component.kind} {component.name} is registered twice by {component.distribution}"
            )

    def __iter__(self) -> Iterator[Component]:
        """Every component, by kind, then by name."""
        for kind in Kind:
            for name in sorted(self.components[kind]):
                yield from self.components[kind][name]

    def get(self, kind: Kind, name: str) -> Component:
        """Return the component called `name` or `distribution:name`.

        Raises `SelectionError` for an unknown name, with the nearest ones, and for a bare name
        that two distributions claim, with both.
        """
        by_name = self.components[kind]
        distribution, colon, bare = name.partition(":")
        if colon:
            found = [c for c in by_name.get(bare, []) if c.distribution == distribution]
        else:
            found = by_name.get(name, [])
        if len(found) == 1:
            return found[0]
        if found:
            choices = " or ".join(f"{c.distribution}:{name}" for c in found)
            raise SelectionError(f"{kind} {name} is claimed by two plugins; write {choices}")
        broken = "; ".join(f"{plugin.distribution} is broken" for plugin in self.broken)
        hint = f" ({broken}: see mnistbench plugins)" if broken else ""
        raise SelectionError(f"unknown {kind} {name!r}; {nearest(name, self.labels(kind))}{hint}")

    def labels(self, kind: Kind) -> list[str]:
        """Return the names to select by: bare, or with the distribution where ambiguous."""
        return [
            name if len(claimants) == 1 else f"{component.distribution}:{name}"
            for name, claimants in self.components[kind].items()
            for component in claimants
        ]

    def select(self, kind: Kind, text: str) -> list[Selection]:
        """Return what a comma list of selections stands for, each once, in the order typed."""
        result: dict[Selection, None] = {}
        for pattern in parse_selections(text):
            if pattern.is_glob:
                labels = sorted(self.labels(kind))
                glob = "*" if pattern.name == "all" else pattern.name
                names = [label for label in labels if fnmatch.fnmatchcase(label, glob)]
                if not names:
                    raise SelectionError(
                        f"no {kind} matches {pattern.name!r}; valid: {', '.join(labels)}"
                    )
            else:
                names = [pattern.name]
            for name in names:
                component = self.get(kind, name)
                if len(self.components[kind][component.name]) == 1:
                    name = component.name  # one job, however its component was named
                result |= dict.fromkeys(select(pattern, name, component))
        return list(result)

    def create(self, selection: Selection) -> Callable[..., Any]:
        """Return the selection's factory with its parameters bound: what is left are the
        arguments that mnistbench passes."""
        component = self.get(selection.kind, f"{selection.distribution}:{_bare(selection.name)}")
        parameters = {
            key: list(value)
            if isinstance(value, tuple) and component.parameters[key].takes_list
            else value
            for key, value in selection.parameters
        }

        def build(*arguments: Any) -> Any:
            return component.factory(*arguments, **parameters)

        return build

    def version_of(self, selection: Selection) -> str:
        """Return the version of the distribution that brings the selection."""
        return self.get(selection.kind, f"{selection.distribution}:{_bare(selection.name)}").version


def discover(only: Collection[str] | None = None) -> Registry:
    """Return the registry of all installed plugins, or of the distributions named in `only`.

    Nothing that a plugin does wrong at import or in its hooks raises here.
    """
    registry = Registry()
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    if only is None or BUILTIN_DISTRIBUTION in only:
        for path in BUILTIN_MODULES:
            manager.register(importlib.import_module(path), name=path)
            _collect(manager, path, BUILTIN_DISTRIBUTION, mnistbench.__version__, registry)
    for entry_point, distribution, version in _entry_points():
        if only is not None and distribution not in only:
            continue
        name = f"{distribution}:{entry_point.name}"
        brought = Registry()
        try:
            manager.register(entry_point.load(), name=name)
            manager.check_pending()  # hooks that no specification knows: misspelled ones
            _collect(manager, name, distribution, version, brought)
            registry.merge(brought)
        except (Exception, SystemExit) as error:
            if manager.has_plugin(name):
                manager.unregister(name=name)
            cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            registry.broken.append(
                BrokenPlugin(entry_point.value, distribution, version, " ".join(cause.split()))
            )
    return registry


def _collect(
    manager: pluggy.PluginManager, name: str, distribution: str, version: str, registry: Registry
) -> None:
    """Call the hooks of the one plugin `name` and put what it registers into `registry`."""
    others = [plugin for other, plugin in manager.list_name_plugin() if other != name]
    for kind in Kind:

        def register(name: str, factory: Callable[..., Any], *, kind: Kind = kind) -> None:
            registry.add(Component(kind, name, factory, distribution, version))

        manager.subset_hook_caller(f"register_{kind.plural}", others)(register=register)

    def register_recipe(name: str, path: Path) -> None:
        registry.add_recipe(RecipeFile(name, Path(path), distribution, version))

    manager.subset_hook_caller("register_recipes", others)(register=register_recipe)


def _entry_points() -> Iterator[tuple[importlib.metadata.EntryPoint, str, str]]:
    """Yield each entry point of our group with its distribution's name and version.

    Of a distribution that lies twice on sys.path the first one counts: importlib sees to that.
    """
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        distribution = entry_point.dist.name if entry_point.dist else "unknown"
        version = (entry_point.dist.version or "") if entry_point.dist else ""
        yield entry_point, distribution, version


def _bare(name: str) -> str:
    return name.rpartition(":")[2]
