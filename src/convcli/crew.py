"""Who does the work of a batch: processes of this machine.

A :class:`Crew` takes tasks of a few jobs and gives back futures, so that one loop serves it and a cluster. Processes
rather than threads: a decoder that crashes takes its own process along and no more.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from convcli.engine.threads import cores
from convcli.errors import ConvcliError
from convcli.jobs import Result, Settings, plan_job, run_job
from convcli.naming import Job
from convcli.places import is_remote, state_of

if TYPE_CHECKING:
    from convcli.recipe import Recipe

CRASHED = "crashed the process that worked on it, and was left alone"
PAUSE = 0.2  # seconds between two looks at whether the parent is alive


class Work(NamedTuple):
    """What is done to every job."""

    recipe: "Recipe"
    settings: Settings

    def __call__(self, job: Job) -> Result:
        """The result of a job."""
        return run_job(job, self.recipe, self.settings)

    def memory(self, job: Job) -> int:
        """About how many bytes a job takes at most, as far as its header tells."""
        with suppress(ConvcliError, OSError):
            planned = None if job.source.problem else plan_job(job, *self)
            return planned.memory if planned else 0
        return 0


class Crew(Protocol):
    """Workers: how many, how many jobs make a task, how many tasks are under way for each of them, and whether they are
    all on this machine."""

    workers: int
    task_size: int
    window: int
    shares_memory: bool

    @property
    def lost(self) -> bool:
        """Whether nothing more will come of them."""

    def submit(self, jobs: Sequence[Job]) -> "Future[Any]":
        """Begin a task."""

    def results(self, jobs: Sequence[Job], future: "Future[Any]") -> Iterator[Result]:
        """What came of a task that is done. A job whose worker died is tried again."""

    def abandon(self) -> None:
        """Drop what is under way."""


class Processes:
    """Processes on this machine. They share what has been imported, where a ``fork`` is safe: not beside the threads
    of an object store's library."""

    task_size = 1
    window = 2  # none waits for work, and few tasks are lost
    shares_memory = True
    lost = False

    def __init__(self, work: Work, workers: int, *, fork: bool = True) -> None:
        import convcli.produce  # noqa: F401 - here once rather than in every process

        self.workers, self._work = workers, work
        self._method = "fork" if fork and sys.platform == "linux" else "spawn"
        self._pool = self._new_pool(workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, jobs: Sequence[Job]) -> "Future[list[Result]]":
        """Begin a task."""
        with _unsignalled():  # a process may begin here
            try:
                return self._pool.submit(_work_on, jobs)
            except BrokenExecutor:  # by a task before
                self._pool.shutdown(wait=False)
                self._pool = self._new_pool(self.workers)
                return self._pool.submit(_work_on, jobs)

    def results(self, jobs: Sequence[Job], future: "Future[list[Result]]") -> Iterator[Result]:
        """What came of a task. All tasks that were under way die with a process: each job is tried again alone, and
        is the one that failed if it does so again."""
        try:
            yield from future.result()
        except BrokenExecutor:
            yield from map(self._alone, jobs)

    def abandon(self) -> None:
        """Drop what is under way."""
        kill_workers()

    def _alone(self, job: Job) -> Result:
        if was_written(job, self._work.settings):
            if self._work.settings.in_place:  # the input is the result by now
                return written_before(job)
            job = job._replace(renew=True)
        with self._new_pool(1) as pool:
            try:
                return pool.submit(_work_on, [job]).result()[0]
            except BrokenExecutor:
                return Result(job, "failed", error=CRASHED)

    def _new_pool(self, workers: int) -> Executor:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        context = multiprocessing.get_context(self._method)
        return ProcessPoolExecutor(workers, context, _begin, (self._work, os.getpid()))


@contextmanager
def _unsignalled() -> Iterator[None]:
    """Processes that begin here never see a Ctrl-C; this one sees it later."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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


def _work_on(jobs: Sequence[Job]) -> list[Result]:
    assert _current is not None
    return [_current(job) for job in jobs]


def was_written(job: Job, settings: Settings) -> bool:
    """Whether the output of a job has changed since that was handed out."""
    if job.before is None:
        return False
    path = job.path(channel=0, frame=0)
    now = state_of(path, exact=True)
    if is_remote(path) and not settings.in_place:
        return bool(now) != bool(job.before)
    return now != job.before


def written_before(job: Job) -> Result:
    """The result of a job whose worker wrote and died."""
    return Result(job, "written", outputs=(job.path(channel=0, frame=0),))


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
