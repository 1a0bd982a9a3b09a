"""What the documents show works, and what is generated is up to date."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Cli
from test_cli_run import rows_of

from benchmarks.digits import STYLES, draw

ROOT = Path(__file__).parents[1]
Install = Callable[..., dict[str, str]]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(page: str) -> list[list[str]]:
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    assert lines
    assert all(line.startswith("$ mnistbench ") for line in lines)
    return [shlex.split(line)[2:] for line in lines]


def run_all(cli: Cli, page: str, env: dict[str, str] | None = None) -> None:
    for arguments in commands(page):
        done = cli(*arguments, env=env)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"


def test_the_commands_of_the_readme_run_in_their_order(cli: Cli, tmp_path: Path) -> None:
    run_all(cli, "README.md")
    draw(STYLES[0], 7).save(tmp_path / "photo.jpg")
    (predict,) = (block for block in blocks("README.md", "sh") if "predict" in block)
    done = cli(*shlex.split(predict)[1:])
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "results.csv")
    assert len(rows) == 2 * 2 * 3
    assert {row["status"] for row in rows} == {"ok"}


def test_the_plugin_of_the_readme_is_whole(
    cli: Cli, tmp_path: Path, install_plugin: Install
) -> None:
    (source,) = blocks("README.md", "python")
    env = install_plugin("readme", source)
    done = cli("run", "--models", "linear", "--datasets", "mnist5k", "--quiet", env=env)
    assert done.returncode == 0, done.stderr
    assert [row["parameters"] for row in rows_of(tmp_path / "results.csv")] == ["7850"]


def test_the_plugin_of_the_tutorial_works(
    cli: Cli, tmp_path: Path, install_plugin: Install
) -> None:
    source, recipe = blocks("docs/plugins.md", "python")[:2]
    assert "acme_plugin" in source
    assert "acme-linear.toml" in recipe
    env = install_plugin("acme", f"{source}\n{recipe}")
    toml = next(block for block in blocks("docs/plugins.md", "toml") if "[settings]" in block)
    (Path(env["PYTHONPATH"]) / "acme-linear.toml").write_text(toml)
    run_all(cli, "docs/plugins.md", env=env)
    rows = rows_of(tmp_path / "results.csv")
    assert [row["model"] for row in rows] == ["linear", "linear[dropout=0.2]"]
    assert {row["status"] for row in rows} == {"ok"}


def test_the_commands_on_profiling_leave_what_they_say(cli: Cli, tmp_path: Path) -> None:
    run_all(cli, "docs/profiling.md")
    (operators,) = tmp_path.glob("results/*/operators.csv")
    assert "aten::addmm" in operators.read_text()
    (trace,) = tmp_path.glob("results/*/trace/*.pt.trace.json")
    assert "ProfilerStep" in trace.read_text()


def test_the_page_on_recipes_runs_in_its_order(cli: Cli, tmp_path: Path) -> None:
    (recipe,) = blocks("docs/recipes.md", "toml")
    (tmp_path / "mine.toml").write_text(recipe)
    run_all(cli, "docs/recipes.md")
    rows = rows_of(tmp_path / "results.csv")
    assert {row["recipe"] for row in rows} == {"tiny-network", "mnistnet", "./mine.toml"}
    assert {row["status"] for row in rows} == {"ok"}


def test_the_page_on_prediction_runs_and_its_examples_are_options_that_exist(
    cli: Cli, tmp_path: Path
) -> None:
    run_all(cli, "docs/prediction.md")
    (examples,) = blocks("docs/prediction.md", "sh")
    (checkpoint,) = tmp_path.glob("results/cnn-*/checkpoint.safetensors")
    for name in ("photo.jpg", "scan.png"):
        draw(STYLES[0], 7).save(tmp_path / name)
    lines = examples.replace("results/cnn-adam-.../checkpoint.safetensors", str(checkpoint))
    for line in lines.replace("*.png", "scan.png").splitlines():
        words = shlex.split(line, comments=True)[1:]
        done = cli(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}"


def test_the_page_on_pictures_draws_them(cli: Cli, tmp_path: Path) -> None:
    run_all(cli, "docs/pictures.md")
    assert list(tmp_path.glob("results/plots/curves.svg"))


def test_the_page_on_deployment_exports_and_its_python_runs(cli: Cli, tmp_path: Path) -> None:
    run_all(cli, "docs/deploy.md")
    (source,) = blocks("docs/deploy.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_generated_pages_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for path, text in generate.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: run make docs"


@pytest.mark.parametrize("path", [ROOT / "README.md", *(ROOT / "docs").glob("*.md")], ids=str)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
