"""The writing side of the results file: nothing finished is lost, nothing foreign is touched."""

from __future__ import annotations

import csv
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.columns import COLUMN_NAMES
from mnistbench.errors import RecordsError, UsageError
from mnistbench.records import RecordStore, Status

HEADER = (",".join(COLUMN_NAMES) + "\n").encode()


def record(key: str, status: str = "ok", **more: Any) -> dict[str, Any]:
    return {"key": key, "configuration": "c0", "seed": 0, "status": status, **more}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


HOLD = """
import sys
from pathlib import Path
from mnistbench.records import RecordStore

with RecordStore(Path(sys.argv[1])) as store:
    store.append({"key": "held", "configuration": "c0", "status": "ok"})
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the results file open, until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_new_file_begins_with_the_header_and_every_record_is_a_line(path: Path) -> None:
    with RecordStore(path) as store:
        store.append(record("a", test_accuracy=0.5))
        store.append(record("b", "error", reason="no luck"))
    content = path.read_bytes()
    assert content.startswith(HEADER)
    assert content.count(b"\n") == 3
    first, second = rows_of(path)
    filled = {name: value for name, value in first.items() if value}
    assert filled == {
        "key": "a",
        "configuration": "c0",
        "seed": "0",
        "status": "ok",
        "test_accuracy": "0.5",
    }
    assert (second["key"], second["status"], second["reason"]) == ("b", "error", "no luck")


def test_a_record_is_in_the_file_as_soon_as_it_is_appended(path: Path) -> None:
    with RecordStore(path) as store:
        assert path.read_bytes() == HEADER
        for number in range(3):
            store.append(record(f"job{number}"))
            assert [row["key"] for row in rows_of(path)] == [f"job{n}" for n in range(number + 1)]


def test_a_file_that_is_opened_again_is_appended_to(path: Path) -> None:
    with RecordStore(path) as store:
        store.append(record("a"))
    before = path.read_bytes()
    with RecordStore(path) as store:
        assert store.healed is None
        store.append(record("b"))
    assert path.read_bytes().startswith(before)
    assert [row["key"] for row in rows_of(path)] == ["a", "b"]


def test_opening_a_whole_file_and_writing_nothing_leaves_it_as_it_was(path: Path) -> None:
    with RecordStore(path) as store:
        store.append(record("a"))
    before = path.read_bytes()
    with RecordStore(path) as store:
        assert store.statuses() == {"a": Status.OK}
    assert path.read_bytes() == before


def test_a_store_into_which_nothing_is_written_leaves_nothing_behind(
    path: Path, tmp_path: Path
) -> None:
    with RecordStore(path):
        assert path.exists()
    assert list(tmp_path.iterdir()) == []


def test_missing_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "results.csv"
    with RecordStore(path) as store:
        assert store.folder == tmp_path / "deep" / "er" / "results"
        store.append(record("a"))
    assert [row["key"] for row in rows_of(path)] == ["a"]


def test_of_several_records_of_a_job_the_last_tells_its_status(path: Path) -> None:
    with RecordStore(path) as store:
        assert store.statuses() == {}
        store.append(record("a", "crashed"))
        store.append(record("b"))
        store.append(record("a"))
        assert store.statuses() == {"a": Status.OK, "b": Status.OK}
        store.append(record("b", "timeout"))
        assert store.statuses() == {"a": Status.OK, "b": Status.TIMEOUT}


def test_a_column_that_does_not_exist_is_a_bug(path: Path) -> None:
    with RecordStore(path) as store, pytest.raises(AssertionError, match="colour"):
        store.append(record("a", colour="red"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (0.1, "0.1"),
        (1 / 3, "0.3333333333"),
        (1e-12, "1e-12"),
        (math.inf, "inf"),
        (12345678901, "12345678901"),
        (Status.OOM, "oom"),
        ("  two  spaces ", "  two  spaces "),
        ("two\n  lines\r\n", "two lines"),
    ],
)
def test_a_value_is_written_as_plain_text(value: object, text: str, path: Path) -> None:
    with RecordStore(path) as store:
        store.append(record("a", reason=value))
    assert rows_of(path)[0]["reason"] == text


REASONS = st.text() | st.text(alphabet="a,\"'\n\r\t;\\\0\u2028\x85é€")


@given(reasons=st.lists(REASONS, min_size=1, max_size=3))
def test_whatever_a_reason_holds_it_is_one_field_of_one_line(
    reasons: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("reasons") / "results.csv"
    with RecordStore(path) as store:
        for number, reason in enumerate(reasons):
            store.append(record(f"job{number}", "error", reason=reason))
        assert list(store.statuses()) == [f"job{n}" for n in range(len(reasons))]
    assert path.read_bytes().count(b"\n") == 1 + len(reasons)
    for number, (row, reason) in enumerate(zip(rows_of(path), reasons, strict=True)):
        assert row["key"] == f"job{number}"
        broken = "\n" in reason or "\r" in reason
        assert row["reason"] == (" ".join(reason.split()) if broken else reason)


def test_bytes_of_a_file_name_that_are_no_text_do_not_cost_the_record(path: Path) -> None:
    with RecordStore(path) as store:
        store.append(record("a", "error", reason="no such file: caf\udce9"))
    assert rows_of(path)[0]["reason"] == "no such file: caf\\udce9"


def test_a_second_process_is_refused_while_the_file_is_open(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    before = path.read_bytes()
    with pytest.raises(RecordsError) as caught, RecordStore(path):
        pass
    assert str(caught.value) == (
        f"another mnistbench run is writing to {path}: wait for it, or choose another --output"
    )
    assert path.read_bytes() == before


def test_the_file_is_free_again_when_the_other_process_has_closed_it(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.communicate(timeout=30)
    with RecordStore(path) as store:
        assert store.statuses() == {"held": Status.OK}


def test_the_file_is_free_again_when_the_other_process_is_killed(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.send_signal(signal.SIGKILL)
    assert holder.wait(timeout=30) == -signal.SIGKILL
    with RecordStore(path) as store:
        assert store.statuses() == {"held": Status.OK}
        assert store.healed is None
        store.append(record("next"))
    assert [row["key"] for row in rows_of(path)] == ["held", "next"]


def test_another_file_in_the_same_folder_is_not_locked(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with RecordStore(tmp_path / "other.csv") as store:
        store.append(record("a"))


def test_a_file_that_was_refused_is_not_locked_afterwards(path: Path) -> None:
    path.write_text("not,ours\n")
    for _ in range(2):
        with pytest.raises(RecordsError, match="not a results file"), RecordStore(path):
            pass


def test_a_torn_last_line_is_healed_wherever_it_was_torn(path: Path) -> None:
    with RecordStore(path) as store:
        store.append(record("first", "error", reason='said "no", often'))
        store.append(record("second", test_accuracy=0.25, reason="é"))
        before_third = path.read_bytes()
        store.append(record("third"))
    third = path.read_bytes().removeprefix(before_third)
    header, first, second = before_third.splitlines(keepends=True)
    ends = [0, len(header), len(header + first), len(header + first + second)]
    for cut in range(len(before_third) + 1):
        path.write_bytes(before_third[:cut])
        with RecordStore(path) as store:
            healed = store.healed
            store.append(record("third"))
        whole = max(end for end in ends if end <= cut)
        torn = before_third[whole:cut].decode("utf-8", "replace")
        assert healed == (torn or None), cut
        assert path.read_bytes() == (before_third[:whole] or HEADER) + third, cut


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        b"a,b\n1,2",
        b"a,b",
        b"x",
        b"\n",
        b"\xff\xfe\x00\n",
        b"\x89PNG\r\n\x1a\n",
        HEADER[:-1] + b",one_more\n",
        HEADER[:-1] + b"x",
        HEADER.replace(b"seed", b"sead"),
        b"x" * 200_000 + b"\n",
    ],
    ids=lambda content: content[:12].hex(),
)
def test_a_file_that_is_not_ours_is_refused_and_stays_as_it_was(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(RecordsError, match=r"^[^\n]+: choose another"), RecordStore(path):
        pass
    assert path.read_bytes() == content


def test_a_file_with_the_columns_of_another_version_is_refused_and_named_as_such(
    path: Path,
) -> None:
    content = b"key,configuration,seed,status\nfcn-s0,c0,0,ok\n"
    path.write_bytes(content)
    with pytest.raises(RecordsError) as caught, RecordStore(path):
        pass
    assert str(caught.value) == (
        f"{path} was written by a version of mnistbench with other columns: choose another "
        "--output (mnistbench report reads both)"
    )
    assert path.read_bytes() == content


def test_an_empty_file_becomes_ours(path: Path) -> None:
    path.touch()
    with RecordStore(path) as store:
        assert store.healed is None
        store.append(record("a"))
    assert [row["key"] for row in rows_of(path)] == ["a"]


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda row: b"junk\n", f"line 2 has 1 fields, not {len(COLUMN_NAMES)}"),
        (lambda row: row.replace(b",ok,", b",fine,"), "line 2 has 'fine' for status"),
        (lambda row: row.replace(b",ok,", b",,"), "line 2 has no status"),
        (lambda row: row.replace(b"fcn", b""), "line 2 has no key"),
        (lambda row: row.replace(b"fcn", b"\xe9"), "line 2 is not UTF-8"),
        (
            lambda row: row.replace(b"fcn", b"x" * 200_000),
            "line 2: field larger than field limit (131072)",
        ),
    ],
    ids=["shape", "status", "no status", "no key", "encoding", "size"],
)
def test_a_row_that_somebody_has_damaged_is_named_by_its_line(
    damage: Callable[[bytes], bytes], cause: str, path: Path
) -> None:
    with RecordStore(path) as store:
        store.append(record("fcn"))
        store.append(record("other"))
    header, row, other = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + damage(row) + other)
    with RecordStore(path) as store, pytest.raises(RecordsError) as caught:
        store.statuses()
    assert str(caught.value) == f"{path} is damaged: {cause}; mend or delete that line"


@pytest.mark.parametrize("name", ["results", "results.txt", "results.csv.gz", ".csv"])
def test_a_path_that_is_no_csv_is_wrong_usage(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        RecordStore(tmp_path / name)
    assert str(caught.value) == (
        f"--output {tmp_path / name} must end in .csv, as in --output results.csv"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("block", "cause"),
    [
        (lambda folder: (folder / "out").touch(), "Not a directory"),
        (lambda folder: (folder / "out" / "results.csv").mkdir(parents=True), "Is a directory"),
        (
            lambda folder: ((folder / "out").mkdir(), (folder / "out" / "results").touch()),
            "File exists",
        ),
    ],
    ids=["folder is a file", "file is a folder", "folder of the jobs is a file"],
)
def test_a_path_that_cannot_be_written_is_one_line_with_the_cause(
    block: Callable[[Path], object], cause: str, tmp_path: Path
) -> None:
    block(tmp_path)
    path = tmp_path / "out" / "results.csv"
    with pytest.raises(RecordsError) as caught, RecordStore(path):
        pass
    assert str(caught.value) == f"cannot write {path} ({cause}): choose another --output"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_permission_to_write_is_one_line_too(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RecordsError, match="Permission denied"), RecordStore(tmp_path / "r.csv"):
        pass


def test_a_disk_that_is_full_costs_the_record_and_tears_no_line(path: Path) -> None:
    with RecordStore(path) as store:
        store.append(record("a"))
        before = path.read_bytes()
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Room for a part of the next line only.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, unlimited[1]))
        try:
            with pytest.raises(RecordsError) as caught:
                store.append(record("b"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert str(caught.value) == f"cannot write {path}: File too large"
        assert path.read_bytes() == before
        store.append(record("c"))
    assert [row["key"] for row in rows_of(path)] == ["a", "c"]
