"""The trace of some steps of a job, and the table of its operators."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from training_helpers import CPU, Outcome, train

from mnistbench.profiling import ACTIVE_STEPS, OPERATOR_COLUMNS, WARMUP_STEPS, record

BATCH = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job that was profiled."""
    folder = tmp_path_factory.mktemp("job")
    train(trace_folder=folder / "trace", batch_size=BATCH, epochs=1)
    return folder


def read_trace(folder: Path) -> list[dict[str, Any]]:
    (path,) = (folder / "trace").iterdir()
    events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return events


def read_operators(folder: Path) -> list[dict[str, str]]:
    with (folder / "operators.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_trace_has_the_name_that_tensorboard_looks_for(folder: Path) -> None:
    (path,) = (folder / "trace").iterdir()
    assert path.name.startswith("fcn-sgd-")
    assert path.name.endswith(".pt.trace.json")


def test_the_trace_holds_the_active_steps_and_their_operators(folder: Path) -> None:
    events = read_trace(folder)
    steps = [event for event in events if event.get("name", "").startswith("ProfilerStep#")]
    numbers = sorted({int(event["name"].partition("#")[2]) for event in steps})
    assert numbers == [*range(WARMUP_STEPS, WARMUP_STEPS + ACTIVE_STEPS)]
    products = [event for event in events if event.get("name") == "aten::addmm"]
    assert len(products) == 2 * ACTIVE_STEPS  # the model has two dense layers
    assert all(event["ph"] == "X" and event["dur"] > 0 for event in products)
    assert "Input Dims" in products[0]["args"]


def test_the_operators_are_summed_by_the_shapes_of_their_inputs(folder: Path) -> None:
    rows = read_operators(folder)
    assert tuple(rows[0]) == OPERATOR_COLUMNS
    products = [row for row in rows if row["operator"] == "aten::addmm"]
    # A product of [20, 784] and [784, 16] has 2 x 20 x 784 x 16 FLOP.
    flops = {2 * BATCH * 784 * 16 * ACTIVE_STEPS, 2 * BATCH * 16 * 10 * ACTIVE_STEPS}
    assert {int(float(row["flops"])) for row in products} == flops
    for row in products:
        assert int(row["calls"]) == ACTIVE_STEPS
        assert 0 < float(row["self_cpu_ms"]) <= float(row["cpu_ms"])
        assert float(row["self_device_ms"]) == 0
        assert "[784, 16]" in row["input_shapes"] or "[16, 10]" in row["input_shapes"]
    assert not [row for row in rows if row["operator"].startswith("ProfilerStep")]


def test_memory_is_what_an_operator_has_allocated(folder: Path) -> None:
    (row,) = (
        row
        for row in read_operators(folder)
        if row["operator"] == "aten::addmm" and "[784, 16]" in row["input_shapes"]
    )
    # The result of each call is [20, 16] of four bytes.
    assert int(row["self_memory_bytes"]) == ACTIVE_STEPS * BATCH * 16 * 4


def figures(**settings: Any) -> Outcome:
    return train(epochs=1, model="fcn[hidden=16,dropout=0.5]", **settings)


def test_profiling_changes_no_figure(tmp_path: Path) -> None:
    assert figures(trace_folder=tmp_path / "trace").figures == figures().figures


def test_a_job_of_few_and_large_batches_is_profiled_over_several_epochs(tmp_path: Path) -> None:
    figures(trace_folder=tmp_path / "trace", batch_size=80)
    names = {event.get("name") for event in read_trace(tmp_path)}
    assert {f"ProfilerStep#{WARMUP_STEPS}", f"ProfilerStep#{WARMUP_STEPS + 4}"} <= names


def test_no_more_steps_are_run_than_are_wanted(tmp_path: Path) -> None:
    done = []

    def step() -> None:
        done.append(torch.ones(3) + 1)

    record([step] * 50, CPU, tmp_path / "trace", "worker")
    assert len(done) == WARMUP_STEPS + ACTIVE_STEPS
