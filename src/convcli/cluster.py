"""Who does the work of a batch: the workers of a Dask cluster that is there already.

Its scheduler gives a task whose worker is lost to another one, which is harmless: files are written whole, and what a
lost worker wrote is written again.
"""

import logging
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from convcli import __version__
from convcli.crew import CRASHED, Work
from convcli.errors import ConvcliError, one_line, unexpected
from convcli.jobs import Result
from convcli.naming import Job
from convcli.places import below

PATIENCE = 10  # seconds in which a scheduler, and one worker, must be there
LARGEST = 16  # jobs in a task: half a second for photographs
SHARE = 8  # tasks for each worker at least, so that none waits for the last one


class Cluster:
    """The workers at a scheduler's address. Raises ConvcliError if there are none, or they can't do the work."""

    shares_memory = False

    def __init__(self, address: str, work: Work, *, jobs: int | None, inputs: int) -> None:
        self._address, self._folder = address, Path.cwd()
        settings = work.settings
        trace = settings.trace and self._folder / settings.trace
        self._lost = False
        with ExitStack() as stack:
            self._client = _connect(address, stack)
            slots = sum(_threads_of(self._client, address).values())
            self.workers = min(jobs or slots, slots)
            self.task = 1 if settings.fail_fast else max(1, min(LARGEST, inputs // (SHARE * self.workers)))
            self._client.subscribe_topic("all", self._hear)
            # a task that makes it, not scattered data: those would be lost with the worker that holds them
            self._work = self._client.submit(_same, work._replace(settings=settings._replace(trace=trace)), pure=False)
            self._pool = self._client.get_executor(pure=False)
            self._closing = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False)
        self._closing.close()

    def submit(self, jobs: Sequence[Job]) -> "Future[list[Result]]":
        """Begin a task."""
        future: Future[list[Result]] = self._pool.submit(_work_on, self._work, jobs, self._folder)
        return future

    def results(self, jobs: Sequence[Job], future: "Future[list[Result]]") -> Iterator[Result]:
        """What came of a task. Jobs whose task was fatal for several workers are tried one by one; one that failed
        after a worker was lost is tried again, since it may have found what that one had written already."""
        from distributed import KilledWorker

        try:
            found = future.result()
        except KilledWorker:
            if len(jobs) == 1:
                yield Result(jobs[0], "failed", error=CRASHED)
            else:
                for job in jobs:
                    yield from self.results([job], self.submit([job]))
        except CancelledError:
            yield Result(jobs[0], "failed", error=f"--cluster: the scheduler at {self._address} was lost", fatal=True)
        except Exception as error:
            yield Result(jobs[0], "failed", error=f"--cluster: a worker can't do this: {_words(error)}", fatal=True)
        else:
            for job, result in zip(jobs, found, strict=True):
                if result.status == "failed" and job.renew and self._lost:
                    yield from self._again(job, result)
                else:
                    yield result

    def abandon(self) -> None:
        """Drop what is under way."""
        self._pool.shutdown(wait=False)

    def _again(self, job: Job, before: Result) -> Iterator[Result]:
        try:
            yield self.submit([job]).result()[0]
        except Exception:
            yield before

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        self._lost = self._lost or event[1].get("action") == "remove-worker"


def _connect(address: str, stack: ExitStack) -> Any:
    """A client, closed with the stack; what is wrong is said once, by us."""
    warned = logging.root.manager.disable
    stack.callback(logging.disable, warned)
    logging.disable(logging.CRITICAL)
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    try:
        from distributed import Client
    except ImportError:
        raise ConvcliError("--cluster: needs Dask; pip install 'convcli[cluster]'") from None
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
        stack.callback(client.close, PATIENCE)
    except (OSError, TimeoutError) as error:
        raise ConvcliError(f"--cluster: no scheduler answers at {address}: {_words(error)}") from None
    except Exception as error:
        raise ConvcliError(f"--cluster: {address} is not tcp://HOST:PORT of a scheduler: {_words(error)}") from None
    return client


def _threads_of(client: Any, address: str) -> dict[str, int]:
    """How many tasks each worker takes at a time, after a look at what they have installed."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise ConvcliError(f"--cluster: {address} has no workers; start some with dask worker {address}") from None
    own = platform.python_version_tuple()[:2]
    for worker, found in client.get_versions(packages=["convcli"])["workers"].items():
        python, version = found["packages"]["python"], found["packages"]["convcli"]
        if version is None:
            raise ConvcliError(f"--cluster: the worker {worker} has no convcli; install convcli {__version__} there")
        if version != __version__:
            raise ConvcliError(f"--cluster: the worker {worker} has convcli {version}; install {__version__} there")
        if tuple(python.split(".")[:2]) != own:
            raise ConvcliError(f"--cluster: the worker {worker} runs Python {python}; this is {'.'.join(own)}")
    return dict(client.nthreads())


def _same(work: Work) -> Work:
    return work


def _work_on(work: Work, jobs: Sequence[Job], folder: Path) -> list[Result]:
    """On a worker, whose own folder is another one. Results name files as the jobs do."""
    return [_as_named(work(_placed(job, folder)), job, folder) for job in jobs]


def _placed(job: Job, folder: Path) -> Job:
    source = job.source
    source = source._replace(path=source.path and below(folder, source.path))
    return job._replace(source=source, output=job.output and below(folder, job.output))


def _as_named(result: Result, job: Job, folder: Path) -> Result:
    if job.output is not None and not job.output.is_absolute():
        error = result.error and result.error.replace(f"{folder}/", "")
        result = result._replace(outputs=tuple(path.relative_to(folder) for path in result.outputs), error=error)
    return result._replace(job=job)


def _words(error: Exception) -> str:
    return one_line(str(error).partition("\n")[0]) or unexpected(error)
