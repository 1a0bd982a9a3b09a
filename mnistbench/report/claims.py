"""Measured beside claimed: what the sources of recipes say, and what came out here.

A verdict is `met` or `not met` only where like is compared with like: the recipe as it stands, and
for times the device that the claim names. All else is `not comparable`, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnistbench import summary as summaries
from mnistbench.grid import AXES
from mnistbench.plugins import Registry
from mnistbench.recipes import Claim, Range, Recipe, find_recipe, format_range, read_recipe
from mnistbench.report.formats import Table
from mnistbench.settings import build_grid, with_defaults

if TYPE_CHECKING:
    import pandas as pd

NOTHING = "–"
MET, NOT_MET, NOT_COMPARABLE = "met", "not met", "not comparable"
# Where a job ran, and not what it did.
_PLACE = ("device", "threads_asked")
_COMPARED = tuple(axis for axis in AXES if axis not in _PLACE)
_ACCURACIES = {
    "test_accuracy": "test accuracy (%)",
    "train_accuracy": "train accuracy, running (%)",
    "baseline_accuracy": "untrained accuracy (%)",
}
_HEADINGS = ("recipe", "configuration", "n", "what", "claimed", "measured", "verdict", "remark")


class Row(NamedTuple):
    """One claim of a recipe beside what a configuration of it measured."""

    recipe: str
    configuration: str
    n: int
    what: str
    claimed: str
    measured: str
    verdict: str
    remark: str


MakeRow = Callable[..., Row]


def claims_table(records: pd.DataFrame, registry: Registry) -> Table:
    """Return the table of all claims of the recipes that `records` hold jobs of.

    These are the recipes that asked for a job, and the shipped ones of which a job was run
    without asking. Raises `UsageError` for a recipe that asked for a job and cannot be found.
    """
    rows = compare(records, registry)
    several = len({(row.recipe, row.configuration) for row in rows}) > len(
        {row.recipe for row in rows}
    )
    shown = [row if several else row._replace(configuration="") for row in rows]
    kept = [place for place, name in enumerate(_HEADINGS) if several or name != "configuration"]
    notes = ["accuracies and times: mean ± standard deviation over n seeds; times are wall_seconds"]
    if any(row.n == 1 for row in rows):
        notes.append("n=1: differences may be noise (--seeds 3 repeats every configuration)")
    return Table(
        caption="measured beside claimed",
        headings=tuple(_HEADINGS[place] for place in kept),
        right=tuple(_HEADINGS[place] == "n" for place in kept),
        rows=tuple(tuple(str(row[place]) for place in kept) for row in shown),
        notes=tuple(notes),
    )


def compare(records: pd.DataFrame, registry: Registry) -> list[Row]:
    """Return a row for each claim, recipe by recipe in the order of their names."""
    best = {
        recipe.name: summaries.summarise(rows)
        for recipe, expected, rows in _by_recipe(records, registry)
    }
    result = []
    for recipe, expected, rows in _by_recipe(records, registry):
        labels = summaries.summarise(rows, also=["device_name", "device_used"])
        for group in labels.to_dict("records"):
            result += list(_compare(recipe, expected, group, best))
    return result


def _by_recipe(
    records: pd.DataFrame, registry: Registry
) -> Iterator[tuple[Recipe, list[dict[str, str]], pd.DataFrame]]:
    """Yield each recipe with the axes of its jobs, and the records that are its own."""
    asked = sorted(set(records["recipe"].dropna()))
    found = [find_recipe(name, registry) for name in asked]
    for name, files in sorted(registry.recipes.items()):
        if len(files) == 1 and name not in asked:
            found.append(read_recipe(files[0]))
    axes = records[[*_COMPARED]].astype("string")
    for recipe in sorted(found, key=lambda recipe: recipe.name):
        expected = _axes_of(recipe, registry)
        same = np.array([row in expected for row in axes.to_dict("records")], dtype=bool)
        asked_for = records["recipe"].eq(recipe.name).fillna(False).to_numpy(dtype=bool)
        mine = records[asked_for | same]
        if not mine.empty:
            yield recipe, expected, mine.reset_index(drop=True)


def _axes_of(recipe: Recipe, registry: Registry) -> list[dict[str, str]]:
    """Return what each job of the recipe as it stands is, as records say it."""
    settings = with_defaults({}, recipe.settings)
    datasets = "mnist" if settings["datasets"] == "auto" else settings["datasets"]
    jobs = build_grid({**settings, "datasets": datasets}, registry, ["cpu"]).jobs()
    return [{axis: str(job.axes[axis]) for axis in _COMPARED} for job in jobs]


def _compare(
    recipe: Recipe,
    expected: Sequence[dict[str, str]],
    group: dict[Any, Any],
    others: dict[str, pd.DataFrame],
) -> Iterator[Row]:
    claim, n = recipe.claim, int(group["n"])
    differs = _difference(group, expected)
    name = f"{group['model']} · {group['optimizer']}"

    def row(what: str, claimed: str, measured: str, verdict: str, remark: str = "") -> Row:
        return Row(recipe.name, name, n, what, claimed, measured, verdict, remark)

    if not n:
        yield row("", "", "failed", NOT_COMPARABLE, _failed(int(group["failed"])))
        return
    for measure, what in _ACCURACIES.items():
        wanted: Range | None = getattr(claim, measure)
        mean, text = group[f"{measure}_mean"], _spread(group, measure, 100, 2)
        if measure == "test_accuracy" and claim.better_than is not None:
            yield _better_than(row, claim, differs, mean, text, others)
        elif wanted is not None:
            verdict, remark = _unless(differs, MET if mean >= wanted[0] else NOT_MET)
            if measure == "baseline_accuracy":
                # What an untrained network gets is chance, and nobody promises it.
                verdict, remark = NOTHING, ""
            yield row(what, f"{format_range(wanted, 100)} %", text, verdict, remark)
        elif measure == "test_accuracy":
            yield row(what, "none stated", text, NOTHING, differs)
    if claim.baseline_loss is not None:
        text = _spread(group, "baseline_loss", 1, 3)
        yield row("untrained loss (nats)", format_range(claim.baseline_loss), text, NOTHING)
    yield _time(row, claim, differs, group)


def _failed(count: int) -> str:
    return f"{count} job{'s' if count != 1 else ''} failed"


def _better_than(
    row: MakeRow,
    claim: Claim,
    differs: str,
    mean: float,
    text: str,
    others: dict[str, pd.DataFrame],
) -> Row:
    claimed = f"better than {claim.better_than}"
    other = others.get(claim.better_than or "")
    if other is None or not other["n"].gt(0).any():
        remark = f"no job of {claim.better_than} here"
        return row("test accuracy (%)", claimed, text, NOT_COMPARABLE, remark)
    level = float(other["test_accuracy_mean"].max())
    verdict, remark = _unless(differs, MET if mean > level else NOT_MET)
    told = f"{claim.better_than}: {100 * level:.2f}"
    return row("test accuracy (%)", claimed, text, verdict, remark or told)


def _time(row: MakeRow, claim: Claim, differs: str, group: dict[Any, Any]) -> Row:
    minutes = group["wall_seconds_mean"] / 60
    here = f"on {group['device_name']}"
    text = _spread(group, "wall_seconds", 1 / 60, 2 if minutes >= 0.1 else 4)
    if claim.minutes is None:
        return row("time (min)", "none stated", text, NOTHING, here)
    device = claim.device or "a device not stated"
    claimed = f"{format_range(claim.minutes)} on {device}"
    is_gpu = not str(group["device_used"]).startswith("cpu")
    same = (claim.device == "GPU" and is_gpu) or (
        claim.device is not None and claim.device.lower() in str(group["device_name"]).lower()
    )
    if differs:
        verdict, remark = NOT_COMPARABLE, f"{differs}; {here}"
    elif not same:
        verdict, remark = NOT_COMPARABLE, here
    elif group["timed_shared"]:
        verdict, remark = NOT_COMPARABLE, f"timed beside other jobs, {here}"
    else:
        verdict, remark = (MET if minutes <= claim.minutes[1] else NOT_MET), here
    return row("time (min)", claimed, text, verdict, remark)


def _unless(differs: str, verdict: str) -> tuple[str, str]:
    return (NOT_COMPARABLE, differs) if differs else (verdict, "")


def _difference(group: dict[Any, Any], expected: Sequence[dict[str, str]]) -> str:
    """Return in which axes the group is another than the recipe's nearest job; empty: in none."""
    differences = [
        [axis for axis in _COMPARED if str(group[axis]) != axes[axis]] for axes in expected
    ]
    least = min(differences, key=len)
    nearest = expected[differences.index(least)]
    return ", ".join(f"{axis} {group[axis]} instead of {nearest[axis]}" for axis in least)


def _spread(group: dict[Any, Any], measure: str, scale: float, digits: int) -> str:
    mean, std = (scale * float(group[f"{measure}_{kind}"]) for kind in ("mean", "std"))
    if mean != mean:
        return NOTHING
    return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if std == std else "")
