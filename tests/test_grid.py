"""The grid and its jobs: the product, the order, and the keys that records go by."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.components import Kind
from mnistbench.errors import UsageError
from mnistbench.grid import (
    AXES,
    Grid,
    Job,
    find_job,
    parse_choices,
    parse_counts,
    parse_seeds,
)
from mnistbench.selection import Selection


def selection(kind: Kind, name: str, label: str | None = None, **parameters: Any) -> Selection:
    return Selection(kind, name, "acme", tuple(parameters.items()), label or name)


JOB = Job(
    dataset=selection(Kind.DATASET, "mnist"),
    model=selection(Kind.MODEL, "fcn", hidden=(128, 64)),
    optimizer=selection(Kind.OPTIMIZER, "sgd", lr=0.05),
    schedule=selection(Kind.SCHEDULE, "constant"),
    augmentation=selection(Kind.AUGMENTATION, "none"),
    device="cpu",
    amp="off",
    compile="off",
    batch_size=64,
    epochs=1,
    normalisation=None,
    validation=None,
    patience=None,
    keep="last",
    threads=None,
    seed=0,
)

GRID = Grid(
    datasets=[JOB.dataset],
    models=[JOB.model],
    optimizers=[JOB.optimizer],
    schedules=[JOB.schedule],
    augmentations=[JOB.augmentation],
    devices=["cpu"],
    amp=["off"],
    compile=["off"],
    batch_sizes=[64],
    epochs=[1],
    seeds=[0],
)


def test_a_grid_of_one_value_on_every_axis_is_one_job() -> None:
    assert GRID.jobs() == [JOB]


def test_a_grid_is_the_product_of_its_axes_one_seed_after_another() -> None:
    cnn = selection(Kind.MODEL, "cnn")
    grid = dataclasses.replace(
        GRID, models=[JOB.model, cnn], batch_sizes=[64, 128], seeds=[3, 1], threads=2
    )
    assert [(job.seed, job.model.name, job.batch_size) for job in grid.jobs()] == [
        (3, "fcn", 64),
        (3, "fcn", 128),
        (3, "cnn", 64),
        (3, "cnn", 128),
        (1, "fcn", 64),
        (1, "fcn", 128),
        (1, "cnn", 64),
        (1, "cnn", 128),
    ]
    assert {job.threads for job in grid.jobs()} == {2}


def test_every_axis_multiplies() -> None:
    def two(kind: Kind) -> list[Selection]:
        return [selection(kind, "a"), selection(kind, "b")]

    grid = Grid(
        datasets=two(Kind.DATASET),
        models=two(Kind.MODEL),
        optimizers=two(Kind.OPTIMIZER),
        schedules=two(Kind.SCHEDULE),
        augmentations=two(Kind.AUGMENTATION),
        devices=["cpu", "cuda"],
        amp=["off", "bf16"],
        compile=["off", "default"],
        batch_sizes=[64, 128],
        epochs=[1, 2],
        seeds=[0, 1],
        normalisations=[None, (0.5, 0.5)],
    )
    jobs = grid.jobs()
    assert len(jobs) == 2**12
    assert len({job.key for job in jobs}) == 2**12
    assert len({job.configuration for job in jobs}) == 2**11


def test_a_job_named_twice_is_in_the_grid_once() -> None:
    grid = dataclasses.replace(
        GRID, models=[JOB.model, JOB.model], batch_sizes=[64, 64], seeds=[0, 1, 0]
    )
    assert grid.jobs() == [JOB, dataclasses.replace(JOB, seed=1)]


def test_the_key_of_a_job_stays_the_same_for_ever() -> None:
    # Records of earlier versions are found by it: whoever changes it has results run anew.
    assert JOB.key == "fcn-sgd-690f3acacb-s0"
    text = (
        '{"amp": "off", "augmentation": ["acme", "none", {}], "batch_size": 64, "compile": "off", '
        '"dataset": ["acme", "mnist", {}], "device": "cpu", "epochs": 1, '
        '"model": ["acme", "fcn", {"hidden": [128, 64]}], '
        '"optimizer": ["acme", "sgd", {"lr": 0.05}], '
        '"schedule": ["acme", "constant", {}], "threads_asked": "auto", "validation": "auto"}'
    )
    assert JOB.configuration == hashlib.sha256(text.encode()).hexdigest()[:10]


CHANGES = {
    "dataset": selection(Kind.DATASET, "mnist5k"),
    "model": selection(Kind.MODEL, "fcn", hidden=(128, 65)),
    "optimizer": selection(Kind.OPTIMIZER, "sgd", lr=0.050001),
    "schedule": selection(Kind.SCHEDULE, "step"),
    "augmentation": selection(Kind.AUGMENTATION, "affine"),
    "device": "cuda",
    "amp": "bf16",
    "compile": "default",
    "batch_size": 65,
    "epochs": 2,
    "normalisation": (0.5, 0.5),
    "validation": 0,
    "patience": 2,
    "keep": "best",
    "threads": 1,
    "seed": 1,
}


def test_every_field_of_a_job_is_tried_below() -> None:
    assert set(CHANGES) == {field.name for field in dataclasses.fields(Job)}


@pytest.mark.parametrize("field", CHANGES)
def test_the_key_differs_by_any_axis_and_the_configuration_by_any_but_the_seed(
    field: str,
) -> None:
    other = dataclasses.replace(JOB, **{field: CHANGES[field]})
    assert other.key != JOB.key
    assert (other.configuration == JOB.configuration) is (field == "seed")


def test_the_key_does_not_depend_on_the_order_of_the_parameters_nor_on_the_label() -> None:
    one = selection(Kind.MODEL, "fcn", "fcn[a=1]", a=1, b=2)
    other = selection(Kind.MODEL, "fcn", "fcn", b=2, a=1)
    assert dataclasses.replace(JOB, model=one).key == dataclasses.replace(JOB, model=other).key


@given(
    names=st.tuples(*[st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-/:]*", fullmatch=True)] * 2),
    seed=st.integers(min_value=0),
)
def test_the_key_is_safe_as_the_name_of_a_folder(names: tuple[str, str], seed: int) -> None:
    job = dataclasses.replace(
        JOB,
        model=selection(Kind.MODEL, names[0]),
        optimizer=selection(Kind.OPTIMIZER, names[1]),
        seed=seed,
    )
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", job.key)
    assert (Path("results") / job.key).resolve().parent == Path("results").resolve()


def test_the_axes_show_labels_and_say_auto_where_mnistbench_chooses() -> None:
    labelled = selection(Kind.OPTIMIZER, "sgd", "sgd[lr=0.05]", lr=0.05)
    job = dataclasses.replace(JOB, optimizer=labelled, threads=4)
    assert job.axes == {
        "dataset": "mnist",
        "model": "fcn",
        "optimizer": "sgd[lr=0.05]",
        "schedule": "constant",
        "augmentation": "none",
        "device": "cpu",
        "amp": "off",
        "compile": "off",
        "batch_size": 64,
        "epochs": 1,
        "normalisation": "dataset",
        "validation": "auto",
        "patience": "off",
        "keep": "last",
        "threads_asked": 4,
    }
    assert tuple(job.axes) == AXES


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"schedule": selection(Kind.SCHEDULE, "onecycle")}, "fcn · sgd · mnist · cpu · seed 0"),
        ({"seed": 7}, "fcn · sgd · constant · mnist · cpu · seed 7"),
        (
            {"augmentation": CHANGES["augmentation"], "amp": "bf16", "compile": "default"},
            "fcn · sgd · constant · affine · amp=bf16 · compile=default · mnist · cpu · seed 0",
        ),
    ],
)
def test_the_title_says_what_is_not_the_usual(changes: dict[str, Any], title: str) -> None:
    assert dataclasses.replace(JOB, **changes).title == title


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("1", [0]),
        ("3", [0, 1, 2]),
        (" 2 ", [0, 1]),
        ("7,", [7]),
        ("0,", [0]),
        ("7,3, 11", [7, 3, 11]),
        ("7,7", [7]),
    ],
)
def test_seeds_are_a_number_of_them_or_a_list(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--seeds is empty: give at least one value"),
        (",", "--seeds is empty: give at least one value"),
        ("0", "--seeds must be at least 1, not 0"),
        ("-1,", "--seeds must be at least 0, not -1"),
        ("many", "--seeds takes integers, not 'many'; for example --seeds 64,128"),
        ("1.5", "--seeds takes integers, not '1.5'; for example --seeds 64,128"),
        ("9" * 5000, f"--seeds takes integers, not '{'9' * 40}...'; for example --seeds 64,128"),
        ("20261121", "--seeds 20261121 is that many seeds; the one seed is --seeds 20261121,"),
    ],
)
def test_seeds_that_are_none_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_seeds(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "least", "counts"),
    [
        ("64", 1, [64]),
        ("64,128", 1, [64, 128]),
        (" 64 , 128 ,", 1, [64, 128]),
        ("64,64", 1, [64]),
        ("+64", 1, [64]),
        ("0", 0, [0]),
    ],
)
def test_counts_are_a_comma_list_of_integers(text: str, least: int, counts: list[int]) -> None:
    assert parse_counts("--epochs", text, least=least) == counts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--epochs is empty: give at least one value"),
        ("0", "--epochs must be at least 1, not 0"),
        ("1,-2", "--epochs must be at least 1, not -2"),
        ("1e3", "--epochs takes integers, not '1e3'; for example --epochs 64,128"),
        ("1 2", "--epochs takes integers, not '1 2'; for example --epochs 64,128"),
    ],
)
def test_counts_that_are_none_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_counts("--epochs", text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("off", ["off"]),
        ("bf16, off", ["bf16", "off"]),
        ("off,off,", ["off"]),
        ("all", ["off", "bf16", "fp16"]),
    ],
)
def test_choices_are_a_comma_list_of_known_words(text: str, choices: list[str]) -> None:
    assert parse_choices("--amp", text, ("off", "bf16", "fp16")) == choices


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--amp is empty: give at least one value"),
        ("off,fp8", "--amp 'fp8' is unknown; valid: off, bf16"),
        ("OFF", "--amp 'OFF' is unknown; valid: off, bf16"),
    ],
)
def test_choices_that_are_unknown_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_choices("--amp", text, ("off", "bf16"))
    assert str(caught.value) == message


KEYS = ["fcn-adam-01-s0", "fcn-adam-01-s01", "fcn-sgd-02-s0", "cnn-sgd-03-s0"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("cnn-sgd-03-s0", "cnn-sgd-03-s0"),
        ("cnn", "cnn-sgd-03-s0"),
        ("fcn-s", "fcn-sgd-02-s0"),
        # Whole, and the beginning of another.
        ("fcn-adam-01-s0", "fcn-adam-01-s0"),
    ],
)
def test_a_job_is_found_by_its_key_or_the_beginning_of_it(text: str, key: str) -> None:
    assert find_job(iter(KEYS), text) == key


@pytest.mark.parametrize(
    ("keys", "text", "message"),
    [
        (KEYS[:2], "cnn", "no job 'cnn' here; the jobs: fcn-adam-01-s0, fcn-adam-01-s01"),
        ([], "cnn", "no job 'cnn' here; the jobs: none"),
        (
            KEYS,
            "fcn",
            "'fcn' stands for 3 jobs: fcn-adam-01-s0, fcn-adam-01-s01, fcn-sgd-02-s0",
        ),
        (
            [f"j{n}" for n in range(8)],
            "j",
            "'j' stands for 8 jobs: j0, j1, j2, j3, j4, j5, and 2 more",
        ),
    ],
)
def test_a_job_that_is_not_there_or_is_several_is_refused_with_the_jobs(
    keys: list[str], text: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        find_job(keys, text)
    assert str(caught.value) == message
