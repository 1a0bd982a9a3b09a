"""The tutorials' recipes on the full MNIST, measured beside claimed: writes benchmarks/recipes.md.

    python benchmarks/recipes.py [--output RESULTS.csv] [--full]

On a CPU `improved-cnn` runs for three epochs instead of ten, and the table says so; `--full` runs
it as it stands. What is done already is not run again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).with_suffix(".md")
IN_FULL = ["simple-cnn", "convolutional", "fully-connected", "feed-forward"]
IN_FULL += ["mnistnet", "tiny-network"]
ON_CPU = ["--recipe", "improved-cnn", "--epochs", "3"]
SEEDS = ["--seeds", "3"]
# What feed-forward's network reaches in as many epochs under mnistbench's own defaults.
OWN = ["--models", "mlp", "--optimizers", "sgd", "--epochs", "15", *SEEDS]
SHOWN = "n,epochs_done,test_accuracy,baseline_accuracy,images_per_second,train_seconds,wall_seconds"


def mnistbench(*arguments: str) -> str:
    """Run the command line and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "mnistbench", *arguments], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def main() -> None:
    """Run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="recipes.csv")
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    short = ON_CPU[:2] if options.full else ON_CPU
    runs = [["--recipe", ",".join(IN_FULL), *SEEDS], [*short, *SEEDS]]
    for run in runs:
        print(mnistbench("run", *run, "--save", "--output", options.output))
    own = str(Path(options.output).with_name("own.csv"))
    print(mnistbench("run", *OWN, "--output", own))
    beaten = mnistbench("report", own, "--format", "markdown")
    claims = mnistbench("report", options.output, "--claims", "--format", "markdown")
    table = mnistbench(
        *("report", options.output, "--by", "recipe,model", "--columns", SHOWN),
        *("--format", "markdown"),
    )
    commands = "\n".join(
        f"mnistbench run {' '.join(run)} --save --output recipes.csv" for run in runs
    )
    PAGE.write_text(
        "# The tutorials' recipes: measured beside claimed\n\n"
        "Written by `python benchmarks/recipes.py`, which runs, on the full MNIST:\n\n"
        f"```sh\n{commands}\nmnistbench report recipes.csv --claims\n```\n\n"
        f"## Claims\n\n{claims}\n## What was measured\n\n{table}\n"
        "## The claim of feed-forward, with another schedule\n\n"
        "The same network and as many epochs, with mnistbench's own defaults for SGD: one cycle\n"
        "that peaks at 0.05 instead of a constant 0.003.\n\n"
        f"```sh\nmnistbench run {' '.join(OWN)}\n```\n\n{beaten}",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
