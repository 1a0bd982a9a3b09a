"""How long do `mnistbench --help` and `mnistbench report` on 10,000 rows take, as processes?

    python benchmarks/report_speed.py [ROWS]

Prints the median of five wall times of each, beside what bare Python and `import pandas` cost
here, below which no report can get. Wanted: 0.3 s for `--help`, 1.5 s for the reports.
"""

from __future__ import annotations

import csv
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mnistbench.records import COLUMN_NAMES, COLUMNS, read_records

SEEDS = 10
REPEATS = 5


def write_results(path: Path, rows: int) -> None:
    """Write `rows` records as a grid of 10 seeds leaves them, formatted as `RecordStore` does."""
    draw = random.Random(0)
    # In bulk: the store sees every row to the disk, which is not what is measured here.
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMN_NAMES)
        for number in range(rows):
            values = _record(number, draw)
            writer.writerow([values[name] for name in COLUMN_NAMES])


def _record(number: int, draw: random.Random) -> dict[str, str]:
    configuration, seed = divmod(number, SEEDS)
    model, optimizer = f"cnn[width={configuration // 10}]", f"sgd[lr=0.{configuration % 10}]"
    # Every number is one of some width, every text as long as it may well be.
    values = {
        column.name: f"{draw.uniform(0.1, 100):.10g}" if column.type == "float64" else "1"
        for column in COLUMNS
    }
    parameters = json.dumps({"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005})
    values |= {name: parameters for name in COLUMN_NAMES if name.endswith("_parameters")}
    values |= {
        "key": f"cnn-sgd-{configuration:010x}-s{seed}",
        "configuration": f"{configuration:010x}",
        "seed": str(seed),
        "dataset": "mnist",
        "model": model,
        "optimizer": optimizer,
        "device": "cpu",
        "status": "diverged" if number % 100 == 99 else "ok",
        "reason": "the loss is nan after step 12" if number % 100 == 99 else "",
        "started_at": f"2026-01-01T00:00:00.{number:06d}+00:00",
        "test_accuracy": f"{draw.uniform(0.9, 1):.10g}",
        "device_name": "AMD EPYC 7B13 64-Core Processor",
        "cpu_name": "AMD EPYC 7B13 64-Core Processor",
        "torch_version": "2.15.0",
        "plugin_versions": json.dumps({"mnistbench": "0.1.0"}),
    }
    return values


def seconds(command: list[str]) -> float:
    """Return the median wall time of `command`, after one that warms the caches."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Write the results, time the commands, print a line for each."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.csv"
        write_results(path, rows)
        assert len(read_records([path])) == rows
        python, report = [sys.executable], [sys.executable, "-m", "mnistbench", "report", str(path)]
        size = path.stat().st_size / 1e6
        print(f"{rows:,} rows, {size:.1f} MB; median of {REPEATS} processes, in seconds")
        for name, command in (
            ("python -c pass", [*python, "-c", "pass"]),
            ("python -c 'import pandas'", [*python, "-c", "import pandas"]),
            ("mnistbench --help", [*python, "-m", "mnistbench", "--help"]),
            ("mnistbench report", report),
            ("mnistbench report --by model", [*report, "--by", "model"]),
            ("mnistbench report --format markdown", [*report, "--format", "markdown"]),
            ("mnistbench report --format csv", [*report, "--format", "csv"]),
        ):
            print(f"{name:<36} {seconds(command):6.2f}")


if __name__ == "__main__":
    main()
