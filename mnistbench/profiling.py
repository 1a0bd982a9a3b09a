"""A torch.profiler trace of a few training steps, for Perfetto, TensorBoard and a table."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule, tensorboard_trace_handler

WARMUP_STEPS, ACTIVE_STEPS = 3, 5
OPERATOR_COLUMNS = (
    "operator",
    "calls",
    "self_cpu_ms",
    "cpu_ms",
    "self_device_ms",
    "device_ms",
    "self_memory_bytes",
    "flops",
    "input_shapes",
)


def record(
    steps: Iterable[Callable[[], object]], device: torch.device, folder: Path, worker: str
) -> None:
    """Run a few of `steps` under the profiler.

    Leaves the trace in `folder` as `worker.TIME.pt.trace.json`, the name that TensorBoard's
    plugin looks for, and the time of each operator, summed over the active steps, in
    `operators.csv` beside `folder`.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    profiler = profile(
        activities=activities,
        schedule=schedule(wait=0, warmup=WARMUP_STEPS, active=ACTIVE_STEPS, repeat=1),
        on_trace_ready=tensorboard_trace_handler(str(folder), worker_name=worker),
        record_shapes=True,
        profile_memory=True,
        with_flops=True,
        acc_events=True,
    )
    with profiler:
        for step in islice(steps, WARMUP_STEPS + ACTIVE_STEPS):
            step()
            profiler.step()
    on_device = device.type == "cuda"
    with (folder.parent / "operators.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(OPERATOR_COLUMNS)
        for operator in profiler.key_averages(group_by_input_shape=True):
            if operator.key.startswith("ProfilerStep"):
                continue
            memory = operator.self_device_memory_usage if on_device else 0
            writer.writerow(
                (
                    operator.key,
                    operator.count,
                    operator.self_cpu_time_total / 1e3,
                    operator.cpu_time_total / 1e3,
                    operator.self_device_time_total / 1e3,
                    operator.device_time_total / 1e3,
                    memory or operator.self_cpu_memory_usage,
                    operator.flops or "",
                    operator.input_shapes,
                )
            )
