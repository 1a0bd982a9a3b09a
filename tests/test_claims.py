"""Measured beside claimed: like with like, and a reason where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from record_helpers import frame, record

from mnistbench.plugins import RecipeFile, Registry, discover
from mnistbench.report.claims import Row, claims_table, compare

RECIPE = """
[claim]
test_accuracy = [0.97, 0.98]
minutes = [2, 3]
device = "GPU"

[settings]
datasets = "mnist"
models = "fcn"
optimizers = "adam"
epochs = 5
"""
OWN = {"recipe": "mine", "epochs": 5, "normalisation": "dataset", "patience": "off", "keep": "last"}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = discover({"mnistbench"})
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    registry.recipes = {"mine": [RecipeFile("mine", path, "acme", "1.0")]}
    other = tmp_path / "better.toml"
    other.write_text(
        '[claim]\nbetter_than = "mine"\n'
        '[settings]\ndatasets = "mnist"\nmodels = "cnn"\nepochs = 5\n'
    )
    registry.add_recipe(RecipeFile("better", other, "acme", "1.0"))
    return registry


def rows_of(registry: Registry, *records: dict[str, Any]) -> dict[tuple[str, str], Row]:
    return {(row.recipe, row.what): row for row in compare(frame(records), registry)}


def mine(**given: Any) -> dict[str, Any]:
    return record(**{**OWN, **given})


@pytest.mark.parametrize(
    ("accuracies", "measured", "verdict"),
    [
        ((0.975,), "97.50", "met"),
        ((0.97,), "97.00", "met"),
        ((0.99,), "99.00", "met"),
        ((0.9699,), "96.99", "not met"),
        ((0.96, 0.98), "97.00 ± 1.41", "met"),
        ((0.96, 0.979), "96.95 ± 1.34", "not met"),
    ],
)
def test_an_accuracy_is_met_where_the_mean_over_seeds_reaches_it(
    accuracies: tuple[float, ...], measured: str, verdict: str, registry: Registry
) -> None:
    records = [mine(seed=seed, test_accuracy=value) for seed, value in enumerate(accuracies)]
    row = rows_of(registry, *records)["mine", "test accuracy (%)"]
    assert (row.n, row.claimed, row.measured, row.verdict, row.remark) == (
        len(accuracies), "97–98 %", measured, verdict, "",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({"epochs": 3}, "epochs 3 instead of 5"),
        ({"dataset": "mnist5k"}, "dataset mnist5k instead of mnist"),
        ({"amp": "bf16", "keep": "best"}, "amp bf16 instead of off, keep best instead of last"),
    ],
)
def test_a_recipe_that_was_changed_is_not_comparable(
    changes: dict[str, Any], remark: str, registry: Registry
) -> None:
    rows = rows_of(registry, mine(test_accuracy=0.99, **changes))
    row = rows["mine", "test accuracy (%)"]
    assert (row.verdict, row.remark) == ("not comparable", remark)
    time = rows["mine", "time (min)"]
    assert (time.verdict, time.remark) == ("not comparable", f"{remark}; on AMD EPYC")


def test_the_device_and_the_threads_do_not_change_a_recipe(registry: Registry) -> None:
    rows = rows_of(registry, mine(device="cuda", threads_asked="4"))
    assert rows["mine", "test accuracy (%)"].verdict == "met"


@pytest.mark.parametrize(
    ("device", "used", "name", "seconds", "verdict"),
    [
        ("GPU", "cuda:0", "NVIDIA H200", 150, "met"),
        ("GPU", "cuda:0", "NVIDIA H200", 180, "met"),
        ("GPU", "cuda:0", "NVIDIA H200", 181, "not met"),
        ("GPU", "cpu", "AMD EPYC", 10, "not comparable"),
        ("RTX 2080", "cuda:0", "NVIDIA GeForce RTX 2080", 10, "met"),
        ("RTX 2080", "cuda:0", "NVIDIA H200", 10, "not comparable"),
        (None, "cpu", "AMD EPYC", 10, "not comparable"),
    ],
)
def test_a_time_is_compared_on_the_device_that_it_was_claimed_on_only(
    device: str | None, used: str, name: str, seconds: float, verdict: str, registry: Registry
) -> None:
    path = registry.recipes["mine"][0].path
    said = f'device = "{device}"' if device else ""
    path.write_text(RECIPE.replace('device = "GPU"', said))
    row = rows_of(registry, mine(device_used=used, device_name=name, wall_seconds=seconds))
    time = row["mine", "time (min)"]
    assert time.verdict == verdict
    assert time.claimed == f"2–3 on {device or 'a device not stated'}"
    assert time.measured.startswith(f"{seconds / 60:.2f}")
    assert time.remark == f"on {name}"


def test_a_time_taken_beside_other_jobs_is_not_comparable(registry: Registry) -> None:
    shared = mine(device_used="cuda:0", jobs_on_device=2, wall_seconds=60)
    row = rows_of(registry, shared)["mine", "time (min)"]
    assert (row.verdict, row.remark) == (
        "not comparable", "timed beside other jobs, on AMD EPYC",
    )  # fmt: skip


def test_better_than_another_recipe_is_a_claim_too(registry: Registry) -> None:
    def better(level: float, *others: dict[str, Any]) -> tuple[str, str]:
        it = mine(recipe="better", model="cnn", test_accuracy=level)
        row = rows_of(registry, it, *others)["better", "test accuracy (%)"]
        assert row.claimed == "better than mine"
        return row.verdict, row.remark

    assert better(0.98, mine(test_accuracy=0.97)) == ("met", "mine: 97.00")
    assert better(0.97, mine(test_accuracy=0.97)) == ("not met", "mine: 97.00")
    assert better(0.98) == ("not comparable", "no job of mine here")


def test_a_job_that_was_run_without_its_recipe_counts_as_well(registry: Registry) -> None:
    same, other = mine(recipe=None), mine(recipe=None, epochs=4, seed=1)
    rows = compare(frame([same, other]), registry)
    assert {(row.recipe, row.n) for row in rows} == {("mine", 1)}


def test_a_recipe_that_failed_says_so(registry: Registry) -> None:
    (row,) = compare(frame([mine(status="oom", reason="no memory", test_accuracy=None)]), registry)
    assert (row.measured, row.verdict, row.remark) == ("failed", "not comparable", "1 job failed")


def test_every_claim_of_a_recipe_has_a_row(registry: Registry) -> None:
    path = registry.recipes["mine"][0].path
    path.write_text(
        "[claim]\ntest_accuracy=0.95\ntrain_accuracy=0.98\nbaseline_accuracy=0.13\n"
        "baseline_loss=2.29\n[settings]\ndatasets='mnist'\nepochs = 5\n"
    )
    measured = mine(
        train_accuracy=0.99, baseline_accuracy=0.0902, baseline_loss=2.31, wall_seconds=9
    )
    rows = compare(frame([measured]), registry)
    assert [(row.what, row.claimed, row.measured, row.verdict) for row in rows] == [
        ("test accuracy (%)", "95 %", "97.00", "met"),
        ("train accuracy, running (%)", "98 %", "99.00", "met"),
        ("untrained accuracy (%)", "13 %", "9.02", "–"),
        ("untrained loss (nats)", "2.29", "2.310", "–"),
        ("time (min)", "none stated", "0.15", "–"),
    ]


def test_the_table_names_configurations_only_where_a_recipe_has_several(registry: Registry) -> None:
    one = claims_table(frame([mine()]), registry)
    assert "configuration" not in one.headings
    assert any(note.startswith("n=1") for note in one.notes)
    two = claims_table(frame([mine(), mine(model="tiny")]), registry)
    assert [row[1] for row in two.rows] == ["fcn · adam"] * 2 + ["tiny · adam"] * 2
