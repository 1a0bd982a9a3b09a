"""Reading results files: what is ours is read as it was written, what is not is one line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_helpers import record, write

from mnistbench.errors import RecordsError
from mnistbench.records import COLUMN_NAMES, COLUMNS, read_records

HEADER = ",".join(COLUMN_NAMES) + "\n"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def test_every_column_has_its_type(results: Path) -> None:
    frame = read_records([write(results, [record()])])
    assert tuple(frame) == COLUMN_NAMES
    assert [str(dtype) for dtype in frame.dtypes] == [column.type for column in COLUMNS]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.25", 0.25),
        ("1e-300", 1e-300),
        ("inf", math.inf),
        ("-inf", -math.inf),
        ("nan", math.nan),
        ("NaN", math.nan),
        ("", math.nan),
    ],
)
def test_a_float_column_reads_what_floats_print_as(results: Path, text: str, value: float) -> None:
    (read,) = read_records([write(results, [record(test_loss=text)])])["test_loss"]
    assert read == value or (math.isnan(read) and math.isnan(value))


def test_one_nan_does_not_make_text_of_its_column(results: Path) -> None:
    rows = [record(seed=seed, test_loss=loss) for seed, loss in enumerate(["0.5", "nan", "0.25"])]
    losses = read_records([write(results, rows)])["test_loss"]
    assert losses.dtype == "float64"
    assert losses.sum() == 0.75


@pytest.mark.parametrize("name", ["none", "nan", "NULL", "NA", "true", "007", "1e3", 'a,"b"'])
def test_a_label_that_looks_like_something_else_stays_a_label(results: Path, name: str) -> None:
    assert read_records([write(results, [record(model=name)])])["model"].tolist() == [name]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1))
def test_any_line_of_text_is_read_as_it_was_written(results: Path, text: str) -> None:
    assert read_records([write(results, [record(reason=text)])])["reason"].tolist() == [text]


def test_a_header_alone_has_no_records(results: Path) -> None:
    results.write_text(HEADER)
    frame = read_records([results])
    assert frame.empty
    assert tuple(frame) == COLUMN_NAMES


def test_a_writer_killed_in_the_header_has_left_no_records(results: Path) -> None:
    results.write_text(HEADER[:-10])
    frame = read_records([results])
    assert frame.empty
    assert frame.attrs["torn"] == [str(results)]


def test_a_torn_last_line_is_left_out_and_named(results: Path) -> None:
    write(results, [record(seed=0), record(seed=1)])
    results.write_bytes(results.read_bytes()[:-20])
    frame = read_records([results])
    assert frame["seed"].tolist() == [0]
    assert frame.attrs["torn"] == [str(results)]


def test_the_last_row_of_a_job_counts(results: Path) -> None:
    rows = [record(test_accuracy=0.1), record(seed=1), record(test_accuracy=0.9)]
    frame = read_records([write(results, rows)])
    assert dict(zip(frame["seed"], frame["test_accuracy"], strict=True)) == {0: 0.9, 1: 0.97}


def test_a_file_named_twice_or_copied_counts_once(results: Path, tmp_path: Path) -> None:
    write(results, [record()])
    copy = write(tmp_path / "copy.csv", [record()])
    assert len(read_records([results, results, copy])) == 1


def test_the_same_job_measured_again_counts_again(results: Path, tmp_path: Path) -> None:
    write(results, [record()])
    again = write(tmp_path / "again.csv", [record(started_at="2026-01-02T00:00:00+00:00")])
    assert len(read_records([results, again])) == 2


def test_files_of_other_versions_are_read_beside_ours(results: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.csv"
    older.write_text("key,configuration,status,fashion\nold-s0,old,ok,bellbottoms\n")
    frame = read_records([older, write(results, [record()])])
    assert frame["key"].tolist() == ["old-s0", "fcn-adam-cpu-s0"]
    assert [str(dtype) for dtype in frame.dtypes] == [column.type for column in COLUMNS]
    assert frame["parameters"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: b"\xef\xbb\xbf" + content, id="byte-order mark"),
        pytest.param(lambda content: content.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(lambda content: content + b"\n\n", id="blank lines"),
        pytest.param(lambda content: content.replace(b",109386,", b",109386.0,"), id="109386.0"),
    ],
)
def test_what_spreadsheets_and_editors_do_to_a_file_does_no_harm(results: Path, change) -> None:
    write(results, [record()])
    before, content = read_records([results]), results.read_bytes()
    assert change(content) != content
    results.write_bytes(change(content))
    assert read_records([results]).equals(before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a,b\n1,2\n", "is not a results file of mnistbench"),
        (b"key,status\nk,ok\n", "is not a results file of mnistbench"),
        (bytes(range(256)), "is not a results file of mnistbench"),
        (HEADER.replace(",", ";").encode(), "is not a results file of mnistbench"),
        (b"key,configuration,status,key\nk,c,ok,k\n", "line 1 names a column twice"),
        (b"key,configuration,status,seed\nk,c,ok,0\nk,c\nk,c,ok,1\n", "line 3 has 2 fields, not 4"),
        (b"key,configuration,status,seed\nk,c,ok,0,1\n", "line 2 has 5 fields, not 4"),
        (b"key,configuration,status,seed\nk,c,ok,0\nk,c,ok,0,1\n", "line 3 has 5 fields, not 4"),
        (b'key,configuration,status,seed\n"k,c,ok,0\nk,c,ok,1\n', "line 2 has 1 fields, not 4"),
        (b"key,configuration,status,seed\nk,c,ok,0\n\0\0\0\0\n", "line 3 has 1 fields, not 4"),
        (b"key,configuration,status,seed\nk,c,,0\n", "line 2 has no status"),
        (
            b"key,configuration,status,seed\nk,c,ok,one\n",
            "line 2 has 'one' for seed, a whole number",
        ),
        (
            b"key,configuration,status,seed\nk,c,ok,1.5\n",
            "line 2 has '1.5' for seed, a whole number",
        ),
        (
            b"key,configuration,status,test_loss\nk,c,ok,1\nk,c,ok,x\n",
            "line 3 has 'x' for test_loss",
        ),
        (b"key,configuration,status,seed\nk,c,ok,1\n\xe9,c,ok,1\n", "line 3 is not UTF-8"),
        # Two files that were put together with `cat`.
        (2 * b"key,configuration,status,seed\nk,c,ok,1\n", "line 3 has 'seed' for seed"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_that_says_where(
    results: Path, content: bytes, message: str
) -> None:
    results.write_bytes(content)
    with pytest.raises(RecordsError) as caught:
        read_records([results])
    assert str(caught.value).startswith(f"{results} ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_what_is_no_file_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordsError, match=r"cannot read .*: (No such file|Is a directory)"):
        read_records([tmp_path / name])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_cut_anywhere_gives_whole_records_or_one_line(results: Path, data) -> None:
    rows = [record(seed=seed, reason='with a "quote", and a comma') for seed in range(3)]
    write(results, rows)
    content = results.read_bytes()
    cut = data.draw(st.integers(1, len(content)))
    results.write_bytes(content[:cut])
    seeds = read_records([results])["seed"].tolist()
    assert seeds == list(range(max(0, content[:cut].count(b"\n") - 1)))
