"""Many jobs at once: a window of tasks on a crew, results in order as they come, until there is a reason to stop."""

import math
import os
import signal
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from itertools import islice
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from convcli.crew import Crew, Work, kill_workers
from convcli.jobs import Result, run_job
from convcli.naming import Job
from convcli.places import is_remote, is_there, list_once

if TYPE_CHECKING:
    from convcli.images.picture import Frames

BUFFER = 64  # tasks whose results may wait for a slow one before them
WINDOW = 2  # tasks under way for each worker: none waits for work, and few are lost
PAUSE = 0.2  # seconds between two looks at whether there was a signal
GRACE = 2.0  # seconds that running jobs have to finish after Ctrl-C


class Stop:
    """When no more work is to be taken: ``enough`` was done, or there was a signal. After the first Ctrl-C what is
    running soon ends, after the second everything does at once."""

    def __init__(self) -> None:
        self.enough = False
        self.signal: int | None = None
        self._since = 0.0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Heed a signal."""
        if self.signal is not None:
            kill_workers()
            os._exit(128 + number)
        self.enough, self.signal, self._since = True, number, time.monotonic()

    def impatient(self) -> bool:
        """Whether what is running has had its time to finish."""
        return self.signal is not None and time.monotonic() - self._since > GRACE


@contextmanager
def heeding_signals() -> Iterator[Stop]:
    """A :class:`Stop` that SIGINT and SIGTERM reach."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_here(jobs: Iterable[Job], work: Work, stop: Stop, reading: "Future[Frames] | None" = None) -> Generator[Result]:
    """The results, one after another in this process; the first input may be being read already."""
    for job in jobs:
        if stop.enough:
            return
        yield run_job(job, *work, reading)
        reading = None


class Task(NamedTuple):
    """Some jobs under way, as they would be tried again, and about how much memory they take."""

    again: Sequence[Job]
    future: "Future[list[Result]]"
    memory: float


def run_jobs(jobs: Iterable[Job], crew: Crew, stop: Stop, work: Work) -> Generator[Result]:
    """The results in the order of the jobs. No more tasks are under way than a window and the memory have room for,
    nor wait for a slow one before them than fit into a buffer."""
    waiting, most = _tasks(jobs, crew, work), work.settings.max_memory
    window, longest = (WINDOW * crew.workers, BUFFER) if not work.settings.fail_fast else (crew.workers, crew.workers)
    queue: deque[Task] = deque()
    following = next(waiting, None)
    while True:
        under_way = [task for task in queue if not task.future.done()]
        while following and not stop.enough and len(under_way) < window and len(queue) < max(longest, window):
            task, memory = following
            if under_way and memory + sum(one.memory for one in under_way) > most:
                break
            task = [_looked_up(job) for job in task]
            queue.append(Task([_second_try(job) for job in task], crew.submit(task), memory))
            under_way.append(queue[-1])
            following = next(waiting, None)
        if not queue:
            return
        if queue[0].future.done():
            again, future, _ = queue.popleft()
            if not (stop.enough and (future.cancelled() or future.exception())):
                yield from crew.results(again, future)
        else:
            wait([task.future for task in under_way], PAUSE, FIRST_COMPLETED)
            if stop.impatient():
                crew.abandon()
                return


def _tasks(jobs: Iterable[Job], crew: Crew, work: Work) -> Iterator[tuple[list[Job], float]]:
    """Jobs as many at a time as the crew takes, and the memory that they need, where that is limited and shared."""
    limited = crew.shares_memory and work.settings.max_memory < math.inf
    waiting = iter(jobs)
    while task := list(islice(waiting, crew.task)):
        yield task, sum(map(work.memory, task)) if limited else 0.0


def _looked_up(job: Job) -> Job:
    """The job with what a listing of its remote folder tells, so that no worker has to ask for each object."""
    if job.output is None or not is_remote(job.output) or job.split:
        return job
    list_once(job.output.parent)
    return job._replace(there=is_there(job.output))


def _second_try(job: Job) -> Job:
    """The job for the case that its worker dies: with what may have been written by then, if nothing is there now."""
    if job.output is None:
        return job
    there = is_there(job.path(channel=0, frame=0)) if job.there is None else job.there
    return job._replace(renew=job.renew or not there, there=None)
