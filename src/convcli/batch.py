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
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from convcli.crew import Crew, Work, kill_workers
from convcli.jobs import Result, Settings, run_job
from convcli.naming import Job, free_name
from convcli.places import is_remote, is_there, list_once, state_of
from convcli.words import Existing

if TYPE_CHECKING:
    from convcli.images.picture import Frames

BUFFER = 64  # tasks whose results may wait for a slow one before them
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


class Begun(NamedTuple):
    """Some jobs under way, and about how much memory they take."""

    jobs: Sequence[Job]
    future: "Future[Any]"
    memory: float


def run_jobs(jobs: Iterable[Job], crew: Crew, stop: Stop, work: Work) -> Generator[Result]:
    """The results in the order of the jobs. No more tasks are under way than a window and the memory have room for,
    nor wait for a slow one before them than fit into a buffer."""
    waiting, most = _tasks(jobs, crew, work), work.settings.max_memory
    hasty = work.settings.fail_fast
    window, longest = (crew.workers, crew.workers) if hasty else (crew.window * crew.workers, BUFFER)
    queue: deque[Begun] = deque()
    taken: set[Path] = set()  # names that --existing rename gave
    following = next(waiting, None)
    while True:
        under_way = [task for task in queue if not task.future.done()]
        while following and not stop.enough and len(under_way) < window and len(queue) < max(longest, window):
            task, memory = following
            if under_way and memory + sum(one.memory for one in under_way) > most:
                break
            task = [_handed_out(job, work.settings, taken) for job in task]
            queue.append(Begun(task, crew.submit(task), memory))
            under_way.append(queue[-1])
            following = next(waiting, None)
        if not queue:
            return
        if queue[0].future.done():
            done, future, _ = queue.popleft()
            if not (stop.enough and (future.cancelled() or future.exception())):
                yield from crew.results(done, future)
                if crew.lost:
                    return
        else:
            wait([task.future for task in under_way], PAUSE, FIRST_COMPLETED)
            if stop.impatient():
                crew.abandon()
                return
            if crew.lost:
                done, future, _ = queue.popleft()
                yield from crew.results(done, future)
                return


def _tasks(jobs: Iterable[Job], crew: Crew, work: Work) -> Iterator[tuple[list[Job], float]]:
    """Jobs as many at a time as the crew takes, and the memory that they need, where that is limited and shared."""
    limited = crew.shares_memory and work.settings.max_memory < math.inf
    waiting = iter(jobs)
    while task := list(islice(waiting, crew.task_size)):
        yield task, sum(map(work.memory, task)) if limited else 0.0


def _handed_out(job: Job, settings: Settings, taken: set[Path]) -> Job:
    """The job with what is at its output now: by that it shows later whether a worker that died had written it."""
    if job.output is None or (is_remote(job.output) and settings.existing is Existing.OVERWRITE):
        return job
    list_once(job.output.parent)
    anew = job.split or job.renew or settings.in_place
    if settings.existing is Existing.RENAME and not anew:
        wanted = job.output
        if is_there(wanted) or wanted in taken:
            wanted = free_name(wanted, taken)
            job = job._replace(chosen=wanted)
        taken.add(wanted)
    return job._replace(before=state_of(job.path(channel=0, frame=0), exact=settings.in_place))
