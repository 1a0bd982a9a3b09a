"""Records: one flat row per finished job, and the CSV file that holds them.

The file is the product's interface. `COLUMNS` is the one place that says what a column holds and
in which unit; `docs/records.md` is generated from it.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import filelock

from mnistbench.errors import RecordsError, UsageError
from mnistbench.grid import AXES

if TYPE_CHECKING:
    import pandas as pd

Record = dict[str, Any]


class Status(StrEnum):
    """How a job ended."""

    OK = "ok"
    DIVERGED = "diverged"
    OOM = "oom"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    ERROR = "error"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Column:
    """One column: `type` is the pandas dtype to read it as, `unit` is empty for plain text."""

    name: str
    type: str
    unit: str
    meaning: str


def _columns() -> tuple[Column, ...]:
    text, whole, real = "string", "Int64", "float64"
    kinds = ("dataset", "model", "optimizer", "schedule", "augmentation")
    return tuple(
        Column(*row)
        for row in (
            ("key", text, "", "name of the job and of its folder"),
            ("configuration", text, "", "hash of the job without its seed; equal for repetitions"),
            ("seed", whole, "", "seed of the weights, of the order of the data, of the rest"),
            *((kind, text, "", f"{kind}, as a selection") for kind in kinds),
            ("device", text, "", "device that was asked for"),
            ("amp", text, "", "automatic mixed precision: off, bf16 or fp16"),
            ("compile", text, "", "mode of torch.compile, or off"),
            ("batch_size", whole, "images", "images in a training step (the last may have fewer)"),
            ("epochs", whole, "", "epochs that were asked for"),
            ("validation", text, "images", "size of the validation split that was asked for"),
            ("threads_asked", text, "", "threads that were asked for, or auto"),
            *(
                (f"{kind}_parameters", text, "JSON", f"every parameter of the {kind}, resolved")
                for kind in kinds
            ),
            ("status", text, "", f"one of {', '.join(Status)}"),
            ("reason", text, "", "why the job did not end ok, in a line"),
            ("parameters", whole, "", "trainable parameters of the model"),
            (
                "flops_per_image",
                whole,
                "FLOP",
                "one forward pass of one image; a multiply-add counts as two; convolutions and "
                "matrix products are counted, other operations are not",
            ),
            ("test_accuracy", real, "0-1", "share of the test images classified rightly"),
            ("test_loss", real, "nats", "mean cross-entropy on the test images"),
            ("validation_accuracy", real, "0-1", "after the last epoch, on the validation split"),
            ("validation_loss", real, "nats", "after the last epoch, on the validation split"),
            ("train_accuracy", real, "0-1", "running, over the training steps of the last epoch"),
            ("train_loss", real, "nats", "running, over the training steps of the last epoch"),
            ("epochs_done", whole, "", "epochs that were trained"),
            ("train_images", whole, "images", "training images of an epoch"),
            ("validation_images", whole, "images", "images of the validation split"),
            ("test_images", whole, "images", "images of the test set"),
            (
                "images_per_second",
                real,
                "images/s",
                "training throughput in the steady state: images trained over train_seconds, "
                "which starts after warm-up and compilation",
            ),
            ("step_p50_ms", real, "ms", "median time of a training step"),
            ("step_p95_ms", real, "ms", "95th percentile of the time of a training step"),
            ("step_max_ms", real, "ms", "longest training step"),
            (
                "train_seconds",
                real,
                "s",
                "all training steps, shuffling and augmentation included, and nothing else",
            ),
            (
                "compile_seconds",
                real,
                "s",
                "first calls of the compiled model in the warm-up, one for each batch shape and "
                "mode; 0 where compile is off",
            ),
            ("warmup_seconds", real, "s", "warm-up steps before training, less compile_seconds"),
            ("eval_seconds", real, "s", "all evaluations: validation split and test set"),
            ("setup_seconds", real, "s", "building the job: components, data to the device"),
            ("wall_seconds", real, "s", "whole job, from the start of its process to its end"),
            ("epochs_to_99", whole, "epochs", "first epoch with 99% validation accuracy"),
            ("seconds_to_99", real, "s", "train_seconds up to the end of that epoch"),
            ("seconds_to_99_with_compile", real, "s", "the same, compile_seconds included"),
            ("peak_device_bytes", whole, "bytes", "most memory that torch held on a CUDA device"),
            ("peak_rss_bytes", whole, "bytes", "largest resident set of the job's process"),
            (
                "jobs_on_device",
                whole,
                "jobs",
                "most jobs of this grid on this device at once while the job ran; 1 is alone",
            ),
            ("jobs_on_machine", whole, "jobs", "the same for the whole machine"),
            ("isolation", text, "", "process: a clean process of its own; none: --in-process"),
            ("memory_format", text, "", "layout of images and weights on the device"),
            ("threads", whole, "", "threads of torch on the CPU"),
            ("started_at", text, "ISO 8601", "start of the job, UTC"),
            ("device_used", text, "", "device that the job ran on"),
            ("device_name", text, "", "its name: that of the GPU, or of the CPU"),
            ("cpu_name", text, "", "CPU of the machine"),
            ("cpu_count", whole, "", "CPUs that the process may use"),
            ("machine", text, "", "host name"),
            ("os", text, "", "operating system"),
            ("python_version", text, "", "version of Python"),
            ("torch_version", text, "", "version of torch"),
            ("cuda_version", text, "", "version of CUDA that torch uses, on a CUDA device"),
            ("mnistbench_version", text, "", "version of mnistbench"),
            ("plugin_versions", text, "", "distribution and version of each component's plugin"),
        )
    )


COLUMNS = _columns()
COLUMN_NAMES = tuple(column.name for column in COLUMNS)
assert set(AXES) <= set(COLUMN_NAMES)

# What makes a CSV one of ours, and a row a record.
_NEVER_EMPTY = ("key", "configuration", "status")


def folder_of(path: Path) -> Path:
    """Return the folder beside the results file `path` that holds the jobs' own files."""
    return path.with_suffix("")


class RecordStore:
    """The results file of one grid, open for appending and locked against a second writer.

    A context manager. `healed` is the torn last line that a killed writer left and that was cut
    off, or None. Raises `RecordsError` when the file is not ours, cannot be written, or is open
    in another process, and `UsageError` for a path that is no CSV.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix != ".csv":
            raise UsageError(f"--output {path} must end in .csv, as in --output results.csv")
        self.path = path
        self.folder = folder_of(path)
        self.healed: str | None = None
        self._lock = filelock.FileLock(self.folder / ".lock", blocking=False)

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            raise RecordsError(
                f"another mnistbench run is writing to {self.path}: wait for it, or choose "
                "another --output"
            ) from None
        except OSError as error:
            raise RecordsError(
                f"cannot write {self.path} ({error.strerror}): choose another --output"
            ) from None
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._lock.release()

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record and see it to the disk."""
        unknown = set(record) - set(COLUMN_NAMES)
        assert not unknown, f"no such columns: {sorted(unknown)}"
        self._write([_to_text(record.get(name)) for name in COLUMN_NAMES])

    def statuses(self) -> dict[str, Status]:
        """Return the status of the latest record of every key in the file."""
        with self.path.open(encoding="utf-8", newline="") as file:
            return {row["key"]: Status(row["status"]) for row in csv.DictReader(file)}

    def _open(self) -> None:
        try:
            self._file = self.path.open("r+b" if self.path.exists() else "x+b", buffering=0)
        except OSError as error:
            raise RecordsError(
                f"cannot write {self.path} ({error.strerror}): choose another --output"
            ) from None
        try:
            self._heal()
        except BaseException:
            self._file.close()
            raise

    def _heal(self) -> None:
        """Cut off a torn last line, check that the file is ours, and go to its end."""
        content = self._file.read()
        complete = content.rfind(b"\n") + 1
        # A file of another kind must stay as it is, so the header is checked before the cut.
        header = _header_of(content) if complete else None
        if complete and header != list(COLUMN_NAMES):
            raise not_ours(self.path, header or [])
        if not complete and not _csv_line(COLUMN_NAMES).startswith(content):
            raise not_ours(self.path, [])
        if complete < len(content):
            self.healed = content[complete:].decode("utf-8", "replace")
            self._file.truncate(complete)
        self._file.seek(0, os.SEEK_END)
        if not complete:
            self._file.seek(0)
            self._write(COLUMN_NAMES)

    def _write(self, values: Sequence[str]) -> None:
        try:
            # One write call for one line: a reader meanwhile sees all of it or none.
            self._file.write(_csv_line(values))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RecordsError(f"cannot write {self.path}: {error.strerror}") from error


def read_records(paths: Sequence[Path]) -> pd.DataFrame:
    """Read results files into one frame with the columns and dtypes of `COLUMNS`.

    Of several rows with one key in a file the last counts. A torn last line is left out: the
    attribute `torn` of the frame names the files that had one. Raises `RecordsError` for a file
    that is not there, not ours, or damaged elsewhere than in its last line.
    """
    import pandas as pd

    frames, torn = [], []
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RecordsError(f"cannot read {path}: {error.strerror}") from None
        if not content:
            raise RecordsError(f"{path} is empty: choose another file")
        content = content.removeprefix(codecs.BOM_UTF8)  # spreadsheets add one
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            torn.append(str(path))
        if not complete and _csv_line(COLUMN_NAMES).startswith(content):
            content, complete = _csv_line(COLUMN_NAMES), len(_csv_line(COLUMN_NAMES))
        header = _header_of(content) if complete else None
        if header is None or not set(_NEVER_EMPTY) <= set(header):
            raise not_ours(path, header or [])
        frame = _read_rows(path, content[:complete], header)
        frame = frame.drop_duplicates("key", keep="last").reindex(columns=[*COLUMN_NAMES])
        frames.append(frame.astype({column.name: column.type for column in COLUMNS}))
    result = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    # The same file named twice, or a copy of it, adds nothing.
    result = result.drop_duplicates(["key", "started_at", "machine"], ignore_index=True)
    result.attrs["torn"] = torn
    return result


def _read_rows(path: Path, content: bytes, header: list[str]) -> pd.DataFrame:
    import pandas as pd

    known = [column for column in COLUMNS if column.name in header]
    dtypes: Any = {column.name: column.type for column in known}
    # The empty field is the only missing value: a component may be called "none" or "nan".
    missing = {name: [""] for name in header}
    missing |= {column.name: ["", "nan", "NaN"] for column in known if column.type == "float64"}
    try:
        frame = pd.read_csv(
            io.BytesIO(content), dtype=dtypes, keep_default_na=False, na_values=missing
        )
    except (ValueError, TypeError) as error:  # pandas' ParserError is a ValueError
        cause = _ragged_line(content, header) or _mistyped_line(content) or _one_line(str(error))
        raise _damaged(path, cause) from None
    # pandas fills up a row that is too short, and makes an index of what is too much in the first.
    ragged = not isinstance(frame.index, pd.RangeIndex) or bool(frame[header[-1]].isna().any())
    if ragged or bool(frame[[*_NEVER_EMPTY]].isna().any(axis=None)):
        found = _ragged_line(content, header)
        if found:
            raise _damaged(path, found)
    return frame


def _damaged(path: Path, cause: str) -> RecordsError:
    return RecordsError(f"{path} is damaged: {cause}; mend or delete that line")


def _ragged_line(content: bytes, header: list[str]) -> str | None:
    """Return what is wrong with the shape of the first line that does not fit, or None."""
    try:
        reader = csv.reader(io.StringIO(content.decode(), newline=""))
    except UnicodeDecodeError as error:
        return "line {} is not UTF-8".format(content.count(b"\n", 0, error.start) + 1)
    if len(set(header)) < len(header):
        return "line 1 names a column twice"
    needed = [(name, header.index(name)) for name in _NEVER_EMPTY]
    line = 1
    for fields in reader:
        if fields and len(fields) != len(header):
            return f"line {line} has {len(fields)} fields, not {len(header)}"
        for name, position in needed:
            if fields and not fields[position]:
                return f"line {line} has no {name}"
        line = reader.line_num + 1
    return None


def _mistyped_line(content: bytes) -> str | None:
    """Return what is wrong with the first number that is none, or None."""
    numbers = {column.name: column.type for column in COLUMNS if column.type != "string"}
    reader = csv.DictReader(io.StringIO(content.decode(), newline=""))
    for row in reader:
        for name, kind in numbers.items():
            field = row.get(name) or "0"
            try:
                number = float(field)
                fits = kind != "Int64" or number.is_integer()
            except ValueError:
                fits = False
            if not fits:
                wanted = "whole number" if kind == "Int64" else "number"
                return f"line {reader.line_num} has {field[:40]!r} for {name}, a {wanted}"
    return None


def not_ours(path: Path, header: Sequence[str]) -> RecordsError:
    """Return the error for a file whose header is not that of `COLUMNS`."""
    if {"key", "configuration", "status"} <= set(header):
        return RecordsError(
            f"{path} was written by a version of mnistbench with other columns: choose another "
            "--output (mnistbench report reads both)"
        )
    return RecordsError(f"{path} is not a results file of mnistbench: choose another file")


def _header_of(content: bytes) -> list[str] | None:
    try:
        line = content[: content.index(b"\n") + 1].decode("utf-8")
    except (ValueError, UnicodeDecodeError):
        return None
    return next(csv.reader([line]), None)


def _csv_line(values: Sequence[str]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue().encode()


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    # A row is a line: that is what makes a torn one easy to tell.
    return _one_line(str(value))


def _one_line(text: str) -> str:
    return " ".join(text.split()) if any(character in text for character in "\r\n") else text
