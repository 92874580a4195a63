"""Work on several threads, and BLAS held to one thread meanwhile so that the two do not fight."""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from convcli.engine.shapes import is_count
from convcli.errors import ConvcliError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")
R = TypeVar("R")

PARTS_OF_SHARE = 4  # of a thread's share of the tasks that are left it takes one
KEPT_APART = 0.05  # seconds in which they are kept apart; the system has parted them by then

_BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def cores() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> float:
    """Bytes that this process could still take, as far as the system tells; infinite where it doesn't."""
    found = [math.inf]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024.0 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, ValueError):  # a container's own limit
        group = Path("/sys/fs/cgroup")
        found.append(float((group / "memory.max").read_text()) - float((group / "memory.current").read_text()))
    return max(0.0, min(found))


def check_threads(threads: int | None) -> int:
    """The number of threads asked for, or the cores."""
    if threads is None:
        return cores()
    if not is_count(threads):
        raise ConvcliError(f"threads must be a whole number from 1, not {threads!r}")
    return index(threads)


def reserve_cores() -> None:
    """Ask BLAS for one thread, unless the user said otherwise. Has an effect only before NumPy is imported."""
    for name in _BLAS_VARIABLES:
        os.environ.setdefault(name, "1")


def map_all(work: Callable[[T], R], tasks: Sequence[T], threads: int) -> Iterator[R]:
    """The results of ``work`` in the order of the tasks; the first exception of any is raised."""
    if threads <= 1 or len(tasks) <= 1:
        yield from map(work, tasks)
        return
    from concurrent.futures import ThreadPoolExecutor

    with single_blas, ThreadPoolExecutor(min(threads, len(tasks))) as pool:
        yield from pool.map(work, tasks)


def share(work: Callable[[Iterator[T]], None], tasks: Sequence[T], threads: int) -> None:
    """``work`` in this and other threads, no more than there are cores (or two), each taking the next few tasks as it
    gets to them.

    A few in a row while there are many, so that threads seldom write side by side: the first touch of a page of memory
    would cost both.
    """
    threads = min(threads, len(tasks), 1 + _most_helpers())
    if threads <= 1:
        with single_blas:
            work(iter(tasks))
        return
    from concurrent.futures import Future, wait

    queue = iter(_runs(tasks, threads))
    offer, others = [work], list[Future[None]]()
    with single_blas:
        places = _Places()
        try:
            with suppress(RuntimeError):  # no more threads can be started
                helpers, ids = _helpers()
                places.send(ids)
                for _ in range(threads - 1):
                    others.append(helpers.submit(_take, offer, queue, places))
            places.stay()
            work(places.freed(queue))
        finally:
            places.leave()
            deque(queue, maxlen=0)  # whoever comes now has nothing to do, also after a failure here
            begun = [other for other in others if not other.cancel()]
            wait(begun)
            offer.clear()  # those called off wait until a helper is free, and would keep the arrays
        for other in begun:
            other.result()


def _runs(tasks: Sequence[T], threads: int) -> list[Sequence[T]]:
    """Tasks in a row to be taken together: ever fewer, for all to end at about the same time."""
    runs, first = list[Sequence[T]](), 0
    while first < len(tasks):
        runs.append(tasks[first : first + max(1, (len(tasks) - first) // (threads * PARTS_OF_SHARE))])
        first += len(runs[-1])
    return runs


def _take(offer: Sequence[Callable[[Iterator[T]], None]], queue: Iterator[Sequence[T]], places: "_Places") -> None:
    for work in offer:
        work(places.freed(queue))


def _most_helpers() -> int:
    return max(1, cores() - 1)


@lru_cache(maxsize=1)
def _helpers() -> "tuple[ThreadPoolExecutor, list[int]]":
    """Threads that wait here for the next call, and the system's numbers of those that were started: to start one takes
    as long as a small picture.
    """
    from concurrent.futures import ThreadPoolExecutor

    ids = list[int]()
    return ThreadPoolExecutor(_most_helpers(), initializer=lambda: ids.append(threading.get_native_id())), ids


_job = threading.Lock()  # held by the one whose threads are told where to work


class _Places:
    """Where the threads of a job work at first: helpers on other processors than the caller, as far as the system lets
    them choose. Not while another job is under way, whose caller may be on the same processor.

    Linux may wake a thread on the processor of the one that wakes it, most of all in a virtual machine whose idle
    processors are halted, and part the two only some milliseconds later, when a small picture is done.
    """

    def __init__(self) -> None:
        here = _processor()
        self._here, self._allowed = {here}, set[int]() if here is None else os.sched_getaffinity(0)
        self._apart = self._here < self._allowed and _job.acquire(blocking=False)
        self._until, self._sent = time.monotonic() + KEPT_APART, list[int]()

    def send(self, helpers: Sequence[int]) -> None:
        """Have helpers wake up elsewhere; before they are called."""
        self._sent = list(helpers)
        for helper in self._sent:
            self._place(helper, self._allowed - self._here)

    def stay(self) -> None:
        """Keep the caller; after helpers were started, who would take over that."""
        self._place(0, self._here)

    def freed(self, queue: Iterator[Sequence[T]]) -> Iterator[T]:
        """The tasks for the calling thread, which goes where it likes after a while."""
        for tasks in queue:
            if time.monotonic() > self._until:
                self._place(0, self._allowed)
            yield from tasks

    def leave(self) -> None:
        """Let go of the caller and of every helper that was sent, also of those that had nothing to do."""
        for thread in (0, *self._sent):
            self._place(thread, self._allowed)
        if self._apart:
            _job.release()

    def _place(self, thread: int, processors: set[Any]) -> None:
        if self._apart:
            with suppress(OSError):  # the system forbids it
                os.sched_setaffinity(thread, processors)


def _processor() -> int | None:
    """The one that this thread runs on, if it can be told."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    with suppress(AttributeError, ImportError, OSError):  # no such C library
        return int(_c_library().sched_getcpu())
    return None


@lru_cache(maxsize=1)
def _c_library() -> Any:
    from ctypes import CDLL

    return CDLL(None)


def _begin_anew() -> None:
    """In a forked process, where helpers are no more, nor who held a lock or a state."""
    _helpers.cache_clear()
    if _job.locked():
        _job.release()
    single_blas.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class Shared:
    """A state of the whole process that threads may hold at the same time: the first takes it, the last gives it back.

    ``take()`` returns what ``give(...)`` needs to undo it.
    """

    def __init__(self, take: Callable[[], Any], give: Callable[[Any], None]) -> None:
        self._take, self._give = take, give
        self._lock, self._holders, self._taken = threading.Lock(), 0, list[Any]()

    def reset(self) -> None:
        """Give back what others took, who are no more."""
        self._lock, self._holders = threading.Lock(), 0
        self._give_back()

    def _give_back(self) -> None:
        for before in self._taken:
            self._give(before)
        self._taken = []

    def __enter__(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._taken = [self._take()]
            self._holders += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders = max(0, self._holders - 1)  # it may have been reset meanwhile
            if self._holders == 0:
                self._give_back()


def _limit_blas() -> list[int]:
    """How many threads each BLAS had before; none is touched where the user has limited it."""
    if all(os.environ.get(name) == "1" for name in _BLAS_VARIABLES):
        return []
    before = [library.get_num_threads() for library in _blas_libraries()]
    _set_blas([1] * len(before))
    return before


def _set_blas(counts: list[int]) -> None:
    """From whatever thread: threadpoolctl 3.8 heeds only the first that set a number, unless told to forget it."""
    for library, count in zip(_blas_libraries(), counts, strict=False):
        forget = getattr(library, "clear_controlling_thread", lambda **_: None)
        forget(force=True)
        library.set_num_threads(count)
        forget(force=True)


@lru_cache(maxsize=1)
def _blas_libraries() -> list[Any]:
    from threadpoolctl import ThreadpoolController  # searches the process for libraries, so once

    libraries: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries


single_blas = Shared(_limit_blas, _set_blas)
