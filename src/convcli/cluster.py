"""Who does the work of a batch: the workers of a Dask cluster that is there already.

Its scheduler gives a task whose worker is lost to another one, which is harmless: files are written whole, and what a
lost worker wrote is written again.
"""

import logging
import platform
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from convcli import __version__
from convcli.crew import CRASHED, Work, was_written, written_before
from convcli.errors import ConvcliError, one_line
from convcli.jobs import Result, tidy
from convcli.naming import Job
from convcli.places import below, forget, is_remote

Made = list[Result | None]

PATIENCE = 10  # seconds in which a scheduler, and one worker, must be there
LARGEST = 16  # jobs in a task: half a second for photographs
SHARE = 8  # tasks for each worker at least, so that none waits for the last one
# asked in a way that workers without convcli can answer, too
VERSIONS = "__import__('convcli').__version__, __import__('platform').python_version()"


class Cluster:
    """The workers at a scheduler's address; ``notice`` hears of it if none are left to wait for. Raises ConvcliError if
    there are none, or they can't do the work."""

    window = 1  # a task that waits behind one that kills its worker would be suspected as well
    shares_memory = False

    def __init__(
        self, address: str, work: Work, *, jobs: int | None, inputs: int, notice: Callable[[str], None]
    ) -> None:
        self._address, self._folder, self._notice = address, Path.cwd(), notice
        settings = work.settings
        trace = settings.trace and self._folder / settings.trace
        self._suspects: set[Job] = set()
        self._run = uuid4().hex
        self._gone = False
        self._in_place = settings.in_place
        self._losses = 0  # of workers
        self._present = set[str]()
        self._under_way: dict[Future[Made], int] = {}  # and how many there were when a task began
        with ExitStack() as stack:
            self._client = _connect(address, stack)
            slots = _slots(self._client, address)
            self.workers = min(jobs or slots, slots)
            self.task_size = 1 if settings.fail_fast else max(1, min(LARGEST, inputs // (SHARE * self.workers)))
            self._client.subscribe_topic("all", self._hear)
            self._present |= set(self._client.nthreads())
            self._work = work._replace(settings=settings._replace(trace=trace))
            self._sent = self._send()
            self._pool = self._client.get_executor(pure=False)
            self._closing = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False)
        self._closing.close()

    @property
    def lost(self) -> bool:
        """Whether there is no scheduler any more."""
        return self._gone or self._client.status != "running"

    def submit(self, jobs: Sequence[Job]) -> "Future[Made]":
        """Begin a task."""
        future: Future[Made] = self._pool.submit(_work_on, __version__, self._sent, jobs, self._folder, self._run)
        self._under_way[future] = self._losses
        return future

    def results(self, jobs: Sequence[Job], future: "Future[Made]", *, lost: bool = False) -> Iterator[Result]:
        """What came of a task. Jobs whose task was fatal for several workers, or whose results could not be had, are
        tried once more, each alone; of what a worker wrote that was ``lost`` then, no second result is made."""
        from distributed import KilledWorker

        lost = self._losses > self._under_way.pop(future) or lost
        gone = f"--cluster: the scheduler at {self._address} was lost"
        if self.lost and not future.done():  # nor will it be
            yield Result(jobs[0], "failed", error=gone, fatal=True)
            return
        try:
            found = future.result()
        except CancelledError:
            self._gone = True
            yield Result(jobs[0], "failed", error=gone, fatal=True)
        except Exception as error:
            killed = isinstance(error, KilledWorker)
            if set(jobs) <= self._suspects:
                words = CRASHED if killed else f"--cluster: a worker can't do this: {_words(error)}"
                yield Result(jobs[0], "failed", error=words, fatal=not killed)
                return
            if killed:
                wait(self._under_way)  # any of them may be to blame
                self._sent = self._send()  # which may have been lost, and suspected, as often
            self._suspects |= set(jobs)
            for job in jobs:
                yield from self._anew(job, lost=True)
        else:
            for job, result in zip(jobs, found, strict=True):
                yield from self._settled(job, result, lost)

    def abandon(self) -> None:
        """Drop what is under way."""
        self._pool.shutdown(wait=False)

    def _send(self) -> Any:
        """The work, once for all tasks: made by a task, since scattered data are lost with the worker that holds it."""
        return self._client.submit(_same, self._work, pure=False)

    def _settled(self, job: Job, result: Result | None, lost: bool) -> Iterator[Result]:
        """A result after a look at whether the work had been done by a worker that was ``lost``. None is the result of
        a worker that found a changed output; of an object only its store says that, and refuses it."""
        remote = job.output is not None and is_remote(job.output)
        found_one = result is None or (remote and result.status == "failed" and not job.before)
        if found_one and lost:  # the lost worker's
            if self._in_place:
                yield written_before(job)
            else:
                yield from self._anew(job._replace(renew=True, before=None))
        elif result is None:  # somebody else's
            yield from self._anew(job._replace(before=None))
        else:
            yield result

    def _anew(self, job: Job, *, lost: bool = False) -> Iterator[Result]:
        return self.results([job], self.submit([job]), lost=lost)

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        action, worker = event[1].get("action"), str(event[1].get("worker"))
        if action == "add-worker":
            self._present.add(worker)
        elif action == "remove-worker":
            self._losses += 1
            self._present.discard(worker)
            if not self._present:
                self._notice(f"--cluster: {self._address} has no workers any more; waiting for others")


def _connect(address: str, stack: ExitStack) -> Any:
    """A client, closed with the stack; what is wrong is said once, by us."""
    stack.callback(logging.disable, logging.root.manager.disable)
    logging.disable(logging.CRITICAL)
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    try:
        from distributed import Client
    except ImportError:
        raise ConvcliError("--cluster: needs Dask; pip install 'convcli[cluster]'") from None
    answer: Future[Any] = Future()

    def begin() -> None:
        try:
            answer.set_result(Client(address, timeout=PATIENCE, set_as_default=False))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=begin, daemon=True).start()  # a server of another kind may keep silent for ever
    try:
        client = answer.result(PATIENCE + 1)
    except (OSError, TimeoutError) as error:
        raise ConvcliError(f"--cluster: no scheduler answers at {address}: {_words(error) or 'silence'}") from None
    except Exception as error:
        raise ConvcliError(f"--cluster: {address} is not tcp://HOST:PORT of a scheduler: {_words(error)}") from None
    stack.callback(client.close, PATIENCE)
    return client


def _slots(client: Any, address: str) -> int:
    """How many tasks the workers take at a time, after a look at what they have installed."""
    nobody = ConvcliError(f"--cluster: {address} has no workers; start some with dask worker {address}")
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise nobody from None
    own = platform.python_version_tuple()[:2]
    for worker, found in client.run(eval, VERSIONS, on_error="return").items():
        if isinstance(found, BaseException):
            raise ConvcliError(f"--cluster: the worker {worker} has no convcli; install convcli {__version__} there")
        version, python = found
        if version != __version__:
            raise ConvcliError(f"--cluster: the worker {worker} has convcli {version}; install {__version__} there")
        if tuple(python.split(".")[:2]) != own:
            raise ConvcliError(f"--cluster: the worker {worker} runs Python {python}; this is {'.'.join(own)}")
    slots = sum(client.nthreads().values())
    if not slots:
        raise nobody
    return int(slots)


def _same(work: Work) -> Work:
    return work


_last_run = ""  # that this worker was of


def _work_on(version: str, work: Work, jobs: Sequence[Job], folder: Path, run: str) -> Made:
    """On a worker, whose own folder is another one. Results name files as the jobs do."""
    global _last_run
    if version != __version__:  # of a worker that came later
        raise ConvcliError(f"it has convcli {__version__}; install {version} there")
    if run != _last_run:
        _last_run = run
        forget()
        tidy.cache_clear()
    return [_done(work, _placed(job, folder), job, folder) for job in jobs]


def _done(work: Work, placed: Job, job: Job, folder: Path) -> Result | None:
    asked = work.settings.in_place or not (placed.output and is_remote(placed.output))  # else it would be a request
    if asked and not job.renew and was_written(placed, work.settings):
        return None
    return _as_named(work(placed), job, folder)


def _placed(job: Job, folder: Path) -> Job:
    source, output, chosen = job.source, job.output, job.chosen
    path, root = (one and below(folder, one) for one in (source.path, source.root))
    source = source._replace(path=path, root=root)
    return job._replace(source=source, output=output and below(folder, output), chosen=chosen and below(folder, chosen))


def _as_named(result: Result, job: Job, folder: Path) -> Result:
    if job.output is not None and not is_remote(job.output) and not job.output.is_absolute():
        error = result.error and result.error.replace(f"{folder}/", "")
        result = result._replace(outputs=tuple(path.relative_to(folder) for path in result.outputs), error=error)
    return result._replace(job=job)


def _words(error: Exception) -> str:
    return one_line(str(error).partition("\n")[0])
