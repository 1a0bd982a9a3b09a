"""What the tests share: real MNIST, the command line as a real process, plugins without pip."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import pytest
from mnist_helpers import read_plainly

from mnistbench import mnist
from mnistbench.errors import DataError

# Tests run beside each other, and torch's threads wait for each other: with more of them than idle
# cores a job takes many times as long. Before torch is imported, here and in what is started.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# On a busy machine any example may take its time.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the four files of MNIST, fetched if need be."""
    location = mnist.find()
    try:
        location = location or mnist.fetch()
    except DataError as error:
        pytest.skip(f"MNIST cannot be had here: {error}")
    return location.directory


@pytest.fixture(scope="session")
def unpacked(mnist_dir: Path) -> dict[str, bytes]:
    return {name: read_plainly(mnist_dir, name) for name in mnist.FILES}


@pytest.fixture(scope="session")
def packed(unpacked: dict[str, bytes]) -> dict[str, bytes]:
    return {name: gzip.compress(content, 1) for name, content in unpacked.items()}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run `mnistbench ARGUMENTS...` in the folder of the test; `env` adds to the environment."""

    def run(
        *arguments: str, env: dict[str, str] | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mnistbench", *arguments],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def install_plugin(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Lay down a distribution with a plugin, as pip would, without pip.

    `install_plugin("acme", source)` writes the module `acme_plugin` and the metadata of the
    distribution `acme` 1.0, and returns the environment in which it is found.
    """
    site = tmp_path / "site"

    def install(
        distribution: str,
        source: str,
        *,
        entry_points: Sequence[str] | None = None,
        version: str = "1.0",
    ) -> dict[str, str]:
        module = f"{distribution.replace('-', '_')}_plugin"
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        lines = entry_points or [f"{module} = {module}"]
        (info / "entry_points.txt").write_text("[mnistbench]\n" + "\n".join(lines) + "\n")
        return {"PYTHONPATH": str(site)}

    return install
