"""Runs jobs one after another in this very process: for debuggers, not for figures to publish."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

from mnistbench.events import Event, JobFinished, JobStarted
from mnistbench.executors.base import Executor, Task
from mnistbench.executors.work import perform
from mnistbench.records import Record, Status


class InProcessExecutor(Executor):
    """Yields the progress of a job when the job is over: nothing runs beside it."""

    isolation = "none"

    def run(self, tasks: Iterable[Task], stop: threading.Event) -> Iterator[Event]:
        """Run the tasks in this process; a keyboard interrupt ends the job and sets `stop`."""
        for task in tasks:
            if stop.is_set():
                return
            place = task.places[0]
            yield JobStarted(task.job, place)
            events: list[Event | Record] = []
            started = time.perf_counter()
            record = perform(task, place, events.append)
            record |= {
                "wall_seconds": time.perf_counter() - started,
                "jobs_on_device": 1,
                "jobs_on_machine": 1,
                "isolation": self.isolation,
            }
            yield from (event for event in events if isinstance(event, Event))
            if record["status"] == Status.INTERRUPTED:
                stop.set()
            yield JobFinished(task.job, record)
