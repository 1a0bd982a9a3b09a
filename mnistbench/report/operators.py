"""The operators of a profiled job, from the `operators.csv` that `run --profile` leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mnistbench.errors import RecordsError
from mnistbench.report.formats import Table

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "operators.csv"
SHOWN = 20
_TIMES = ("self_device_ms", "device_ms", "self_cpu_ms", "cpu_ms")
_NUMBERS = ("calls", *_TIMES, "self_memory_bytes", "flops")


def read_operators(path: Path) -> pd.DataFrame:
    """Return the operators in the file `path`, the most expensive first.

    One row for each operator (and shapes of its inputs, where they were recorded), sorted by
    `sort_column`; the added column `share` is its part of the sum, 0-1. Times are in ms. Raises
    `RecordsError` when the file is not there, which tells how to make it, or cannot be read.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(
            path,
            dtype={"operator": "string", "input_shapes": "string"},
            keep_default_na=False,
            # An operator without a known count of its operations has an empty field.
            na_values={name: [""] for name in _NUMBERS},
        )
    except FileNotFoundError:
        raise RecordsError(
            f"{path.parent.name} was not profiled: run it again with "
            "mnistbench run --profile --force"
        ) from None
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise RecordsError(f"cannot read {path}: {cause}") from None
    damaged = [name for name in ("operator", *_NUMBERS) if name not in frame]
    damaged = damaged or [name for name in _NUMBERS if frame[name].dtype.kind not in "iuf"]
    if damaged and not (len(frame) == 0 and set(damaged) <= set(frame)):
        raise RecordsError(
            f"{path} is damaged ({', '.join(damaged)}): run the job again with --profile --force"
        )
    frame = frame.fillna(dict.fromkeys(_NUMBERS, 0)).astype({"calls": "int64", "flops": "int64"})
    column = sort_column(frame)
    total = frame[column].sum()
    frame.insert(1, "share", frame[column] / total if total else 0.0)
    return frame.sort_values(column, ascending=False, kind="stable", ignore_index=True)


def sort_column(frame: pd.DataFrame) -> str:
    """Return the time that ranks operators: on the device, or on the CPU if there was no other."""
    return "self_device_ms" if frame["self_device_ms"].gt(0).any() else "self_cpu_ms"


def operators_table(path: Path) -> Table:
    """Return the table of the most expensive operators in the file `path`; see `read_operators`."""
    frame = read_operators(path)
    column = sort_column(frame)
    where = "device" if column == "self_device_ms" else "CPU"
    top = frame.head(SHOWN)
    columns: dict[str, list[str]] = {
        "operator": list(top["operator"]),
        f"share of self {where} time (%)": [f"{100 * share:.1f}" for share in top["share"]],
        "calls": [f"{calls:,}" for calls in top["calls"]],
    }
    for name in _TIMES:
        # A job on the CPU has no device times to show.
        if frame[name].any():
            title = f"{name.removesuffix('_ms').replace('_', ' ').replace('cpu', 'CPU')} (ms)"
            columns[title] = [f"{value:,.3f}" for value in top[name]]
    if frame["self_memory_bytes"].any():
        columns["self memory (MiB)"] = [f"{v / 2**20:,.2f}" for v in top["self_memory_bytes"]]
    if frame["flops"].any():
        columns["MFLOP"] = [f"{value / 1e6:,.1f}" for value in top["flops"]]
    if "input_shapes" in frame and frame["input_shapes"].ne("").any():
        columns["input shapes"] = [_shortened(shapes) for shapes in top["input_shapes"]]
    count = f"top {SHOWN} of {len(frame)}" if len(frame) > SHOWN else f"all {len(frame)}"
    return Table(
        caption=f"{path.parent.name} · {count} operators by their own time on the {where}",
        headings=tuple(columns),
        right=tuple(name not in ("operator", "input shapes") for name in columns),
        rows=tuple(zip(*columns.values(), strict=True)),
    )


def _shortened(shapes: str) -> str:
    """Return the shapes without the empty ones at their end: those of what is no tensor."""
    while shapes.endswith(", []]"):
        shapes = shapes.removesuffix(", []]") + "]"
    return "" if shapes in ("[]", "[[]]") else shapes
