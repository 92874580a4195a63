"""Many jobs at once: a window of them on an executor, results as they come, nothing lost when a worker dies.

An executor is whatever has the interface of ``concurrent.futures.Executor``. Processes rather than threads: a decoder
that crashes takes its own process along and no more.
"""

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager, suppress
from itertools import islice
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from convcli.engine.threads import cores
from convcli.jobs import Result, Settings, run_job
from convcli.naming import Job

if TYPE_CHECKING:
    from convcli.images.picture import Frames
    from convcli.recipe import Recipe

BUFFER = 64  # results that may wait for a slow one before them
WINDOW = 2  # tasks under way for each worker: none waits for work, and few are lost
PAUSE = 0.2  # seconds between two looks at whether there was a signal, or the parent is alive
GRACE = 2.0  # seconds that running jobs have to finish after Ctrl-C


class Work(NamedTuple):
    """What is done to every job."""

    recipe: "Recipe"
    settings: Settings

    def __call__(self, job: Job) -> Result:
        """The result of a job."""
        return run_job(job, self.recipe, self.settings)


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


def run_jobs(jobs: Iterable[Job], work: Work, workers: int, stop: Stop) -> Generator[Result]:
    """The results in the order of the jobs, from so many processes. A job whose process dies is tried again alone, and
    is the one that failed if it does so again."""
    waiting = iter(jobs)
    window = (workers, workers) if work.settings.fail_fast else (WINDOW * workers, BUFFER)
    while not stop.enough:
        queue: deque[tuple[Job, Future[Result]]] = deque()
        with local_pool(work, workers) as pool:
            try:
                yield from _in_order(pool, waiting, queue, window, stop)
                return
            except BrokenExecutor:
                pass
        for job, future in queue:
            if future.done() and not future.cancelled() and future.exception() is None:
                yield future.result()
            elif not stop.enough:
                yield _alone(job, work)


def _in_order(
    pool: Executor, jobs: Iterator[Job], queue: "deque[tuple[Job, Future[Result]]]", window: tuple[int, int], stop: Stop
) -> Iterator[Result]:
    """Results. The window is how many jobs may be under way, and how many in the queue, not handed out yet."""
    while True:
        under_way = [future for _, future in queue if not future.done()]
        room = min(window[0] - len(under_way), window[1] - len(queue))
        for job in islice(jobs, 0 if stop.enough else room):
            again = _second_try(job)
            queue.append((again, Future()))  # stays, if the pool breaks
            queue[-1] = again, pool.submit(_work_on, job)
        if not queue:
            return
        if queue[0][1].done():
            result = queue[0][1].result()
            queue.popleft()
            yield result
        else:
            wait([future for _, future in queue if not future.done()], PAUSE, FIRST_COMPLETED)
            if stop.impatient():
                kill_workers()
                return


def _second_try(job: Job) -> Job:
    """The job for the case that its process dies: with what may have been written by then, if nothing is there now."""
    return (
        job
        if job.output is None
        else job._replace(renew=job.renew or not os.path.lexists(job.path(channel=0, frame=0)))
    )


def _alone(job: Job, work: Work) -> Result:
    with local_pool(work, 1) as pool:
        try:
            return pool.submit(_work_on, job).result()
        except BrokenExecutor:
            return Result(job, "failed", error="crashed the process that worked on it, and was left alone")


@contextmanager
def local_pool(work: Work, workers: int) -> Iterator[Executor]:
    """Processes on this machine. They share what has been imported, where a fork is safe."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    import convcli.produce  # noqa: F401 - here once rather than in every process

    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (work, os.getpid()))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_current: Work | None = None  # of a worker process: sent once, since a recipe's weights may be large


def _begin(work: Work, parent: int) -> None:
    global _current
    _current = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Workers would wait for ever for the work of a process that was killed."""
    while os.getppid() == parent:
        time.sleep(PAUSE)
    os._exit(1)


def _work_on(job: Job) -> Result:
    assert _current is not None
    return _current(job)


def kill_workers() -> None:
    """End the children of this process at once."""
    import multiprocessing

    for child in multiprocessing.active_children():
        with suppress(OSError):
            child.kill()


def share_cores(jobs: int | None, inputs: int, threads: int | None) -> tuple[int, int]:
    """How many workers there are, and how many threads each has for its picture."""
    workers = max(1, min(jobs or cores(), inputs))
    return workers, threads or max(1, cores() // workers)
