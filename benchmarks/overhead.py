"""What a job costs beyond its own work: grids of 20 one-epoch fcn jobs on mnist5k.

    python benchmarks/overhead.py [GRIDS]

For each grid prints, per job: the time that the whole command took beyond the sum of the jobs'
`wall_seconds` (the cost of the grid), and the part of `wall_seconds` that is not set-up, warm-up,
training or evaluation (the cost of a clean process). The first is taken without the start of the
command itself, which is that of a grid with nothing to run.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

JOBS = 20
OWN = ["setup_seconds", "warmup_seconds", "compile_seconds", "train_seconds", "eval_seconds"]


def timed(folder: str, output: str) -> float:
    """Run the grid into `output` and return the seconds that the command took."""
    command = ["run", "--models", "fcn", "--datasets", "mnist5k", "--seeds", str(JOBS), "--quiet"]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "mnistbench", *command, "--output", output], cwd=folder, check=True
    )
    return time.perf_counter() - started


def main() -> None:
    """Run the grids and print the table."""
    grids = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(grids):
            output = f"{number}.csv"
            whole = timed(folder, output)
            start = timed(folder, output)  # everything is done: what is left is the start
            records = pd.read_csv(Path(folder) / output)
            wall, own = records["wall_seconds"].sum(), records[OWN].to_numpy().sum()
            rows.append(
                {
                    "whole (s)": whole,
                    "start (s)": start,
                    "sum of wall (s)": wall,
                    "sum of own work (s)": own,
                    "grid, per job (s)": (whole - start - wall) / JOBS,
                    "process, per job (s)": (wall - own) / JOBS,
                    "all but own work, per job (s)": (whole - own) / JOBS,
                }
            )
    frame = pd.DataFrame(rows)
    print(frame.round(3).to_string(index=False))
    medians = {name: statistics.median(frame[name]) for name in frame}
    print("median:", ", ".join(f"{name} {value:.3f}" for name, value in medians.items()))


if __name__ == "__main__":
    main()
