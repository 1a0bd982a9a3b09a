"""Runs jobs one after another in this very process: for debuggers, not for figures to publish."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

from mnistbench.events import Event, JobFinished, JobStarted
from mnistbench.executors.base import NO_ISOLATION, Executor, Task
from mnistbench.executors.work import perform
from mnistbench.records import Record, Status


class InProcessExecutor(Executor):
    """Yields the progress of a job when the job is over: nothing runs beside it."""

    def run(self, tasks: Iterable[Task], stop: threading.Event) -> Iterator[Event]:
        """Run the tasks in this process; a keyboard interrupt ends the job and sets `stop`."""
        for task in tasks:
            if stop.is_set():
                return
            task.clear_folder()
            yield JobStarted(task.job, task.places[0])
            events: list[Event] = []
            record: Record = {}
            started = time.perf_counter()

            def emit(
                message: Event | Record,
                record: Record = record,
                events: list[Event] = events,
                started: float = started,
            ) -> None:
                if isinstance(message, Event):
                    events.append(message)
                elif "status" in message:
                    record.update(message, wall_seconds=time.perf_counter() - started)

            try:
                perform(task, task.places[0], emit, isolation=NO_ISOLATION)
            except KeyboardInterrupt:
                if not record:
                    raise
                stop.set()  # the job itself was over
            yield from events
            if record["status"] == Status.INTERRUPTED:
                stop.set()
            yield JobFinished(task.job, {**record, "jobs_on_device": 1, "jobs_on_machine": 1})
