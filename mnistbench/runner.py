"""From a grid to records: skips what is done, prepares data, feeds the executor, stores rows.

Prints nothing: it yields events, which the CLI shows.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnistbench import contract, data
from mnistbench.environment import default_threads, find_fault, places_of
from mnistbench.errors import DataError, DeviceError, MnistbenchError
from mnistbench.events import Event, GridFinished, GridStarted, Healed, JobFinished
from mnistbench.executors.base import Executor, Task
from mnistbench.executors.local import call_in_process
from mnistbench.grid import Job
from mnistbench.plugins import Registry
from mnistbench.records import RecordStore, Status
from mnistbench.selection import Selection

DATA_FOLDER = ".data"


@dataclass(frozen=True)
class Options:
    """How a grid is run; none of it is part of a job's identity."""

    data_dir: Path | None = None
    workers: int = 1
    timeout: float | None = None
    profile: bool = False
    retry_failed: bool = False
    force: bool = False
    fail_fast: bool = False


def check_devices(jobs: Sequence[Job]) -> None:
    """Raise `DeviceError`, naming the cells, where a device cannot do what a job asks of it."""
    combinations = {(job.device, job.amp, job.compile): None for job in jobs}
    faults = []
    for device, amp, compile_mode in combinations:
        if amp == compile_mode == "off":
            continue
        reason = call_in_process(find_fault, device, amp, compile_mode)
        if reason:
            faults.append(f"device={device} amp={amp} compile={compile_mode}: {reason}")
    if faults:
        raise DeviceError(f"these cells of the grid cannot be run: {'; '.join(faults)}")


def jobs_to_run(
    jobs: Sequence[Job], statuses: dict[str, Status], *, retry_failed: bool, force: bool
) -> list[Job]:
    """Return the jobs that have no record yet, or whose record does not count as done."""
    again = {Status.INTERRUPTED}
    if retry_failed:
        again |= set(Status) - {Status.OK}
    return [job for job in jobs if force or job.key not in statuses or statuses[job.key] in again]


def run_grid(
    jobs: Sequence[Job],
    registry: Registry,
    store: RecordStore,
    executor: Executor,
    options: Options,
    stop: threading.Event,
) -> Iterator[Event]:
    """Run what is missing of `jobs` and append a record for each to the open `store`.

    Raises before anything is started where a dataset cannot be had or a device cannot do a job.
    Setting `stop` ends the jobs under way; their rows say that they were interrupted.
    """
    if store.healed is not None:
        yield Healed(store.healed)
    todo = jobs_to_run(
        jobs, store.statuses(), retry_failed=options.retry_failed, force=options.force
    )
    check_devices(todo)
    finished = bad = 0
    try:
        prepared = prepare_datasets(todo, registry, options.data_dir, store.folder / DATA_FOLDER)
        tasks = [_task(job, prepared, store.folder, options) for job in todo]
        yield GridStarted(len(jobs), len(todo))
        for event in executor.run(_with_empty_folders(tasks), stop):
            if isinstance(event, JobFinished):
                finished += 1
                bad += event.record["status"] != Status.OK
                # The folder first: a row that is there may be relied upon.
                _publish(store.folder, event.job, Status(event.record["status"]))
                store.append(event.record)
                if bad and options.fail_fast:
                    stop.set()
            yield event
    finally:
        shutil.rmtree(store.folder / DATA_FOLDER, ignore_errors=True)
    yield GridFinished(finished, bad, len(todo) - finished)


def prepare_datasets(
    jobs: Sequence[Job], registry: Registry, data_dir: Path | None, folder: Path
) -> dict[Selection, Path]:
    """Load each dataset once and lay it down for the jobs to map. Raises `DataError`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result: dict[Selection, Path] = {}
    for selection in dict.fromkeys(job.dataset for job in jobs):
        try:
            dataset = registry.create(selection)(data_dir)
            contract.check_dataset(selection, dataset)
        except MnistbenchError:
            raise
        except Exception as error:
            raise DataError(
                f"dataset {selection.label} of {selection.distribution} fails to load: "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error
        for job in jobs:
            if job.dataset == selection:
                data.validation_size(job.validation, len(dataset.train_labels))
        result[selection] = folder / f"{len(result)}.pt"
        data.prepare(dataset, result[selection])
    return result


def _task(job: Job, prepared: dict[Selection, Path], folder: Path, options: Options) -> Task:
    return Task(
        job=job,
        data=prepared[job.dataset],
        folder=_part_folder(folder, job),
        places=tuple(places_of(job.device)),
        threads=job.threads or max(1, default_threads() // options.workers),
        timeout=options.timeout,
        profile=options.profile,
    )


def _with_empty_folders(tasks: Sequence[Task]) -> Iterator[Task]:
    for task in tasks:
        shutil.rmtree(task.folder, ignore_errors=True)
        task.folder.mkdir(parents=True)
        yield task


def _part_folder(folder: Path, job: Job) -> Path:
    return folder / f"{job.key}.part"


def _publish(folder: Path, job: Job, status: Status) -> None:
    """Put the finished job's files where its key says; they were written aside until now."""
    part, whole = _part_folder(folder, job), folder / job.key
    if status is Status.INTERRUPTED and whole.exists():
        shutil.rmtree(part, ignore_errors=True)  # the files of an earlier, finished run stay
        return
    shutil.rmtree(whole, ignore_errors=True)
    part.replace(whole)
