"""Work on several threads, and BLAS held to one thread meanwhile so that the two do not fight."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from operator import index
from pathlib import Path
from threading import Lock, get_native_id
from typing import TYPE_CHECKING, Any, TypeVar

from convcli.errors import ConvcliError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")
R = TypeVar("R")

RUNS_PER_THREAD = 4  # of tasks in a row: threads of unequal speed even out

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
    if not hasattr(threads, "__index__") or index(threads) < 1:
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
    """``work`` in this and other threads, no more than there are cores, each taking the next few tasks as it gets to
    them.

    A few in a row where there are many, so that threads seldom write side by side: the first touch of a page of memory
    would cost both.
    """
    threads = min(threads, len(tasks), 1 + _most_helpers())
    if threads <= 1:
        with single_blas:
            work(iter(tasks))
        return
    from concurrent.futures import Future, wait

    run = max(1, len(tasks) // (threads * RUNS_PER_THREAD))
    queue = iter([tasks[first : first + run] for first in range(0, len(tasks), run)])
    offer, others = [work], list[Future[None]]()
    with single_blas:
        try:
            with _apart() as stay:
                with suppress(RuntimeError):  # no more threads can be started
                    for _ in range(threads - 1):
                        others.append(_helpers().submit(_take, offer, queue))
                stay()
                work(chain.from_iterable(queue))
        finally:
            deque(queue, maxlen=0)  # whoever comes now has nothing to do, also after a failure here
            begun = [other for other in others if not other.cancel()]
            wait(begun)
            offer.clear()  # those called off wait until a helper is free, and would keep the arrays
        for other in begun:
            other.result()


def _take(offer: Sequence[Callable[[Iterator[T]], None]], queue: Iterator[Sequence[T]]) -> None:
    for work in offer:
        work(chain.from_iterable(queue))


def _most_helpers() -> int:
    return max(1, cores() - 1)


@lru_cache(maxsize=1)
def _helpers() -> "ThreadPoolExecutor":
    """Threads that wait here for the next call: to start one takes as long as a small picture."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_most_helpers(), initializer=lambda: _helper_ids.append(get_native_id()))


_helper_ids: list[int] = []


@contextmanager
def _apart() -> Iterator[Callable[[], None]]:
    """Helpers on other processors than this thread's, as far as the system lets threads choose; a call of what comes
    with it keeps this thread where it is, after helpers have started, who would take over that.

    Linux may wake a thread on the processor of the one that wakes it, most of all in a virtual machine whose idle
    processors are halted, and part the two only some milliseconds later, when a small picture is done.
    """
    processor = _processor()
    allowed = os.sched_getaffinity(0) if processor is not None else set[int]()
    if processor not in allowed or len(allowed) == 1:
        yield lambda: None
        return
    _place(allowed - {processor}, *_helper_ids)
    try:
        yield lambda: _place({processor}, 0)
    finally:
        _place(allowed, 0, *_helper_ids)


def _place(processors: set[int], *threads: int) -> None:
    for thread in threads:
        with suppress(OSError):  # the system forbids it
            os.sched_setaffinity(thread, processors)


def _processor() -> int | None:
    """The one that this thread runs on, if it can be told."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    with suppress(AttributeError):  # of the C library
        return int(_c_library().sched_getcpu())
    return None


@lru_cache(maxsize=1)
def _c_library() -> Any:
    from ctypes import CDLL

    return CDLL(None)


def _forget_helpers() -> None:
    _helpers.cache_clear()
    _helper_ids.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)  # there they are no more


class Shared:
    """A state of the whole process that threads may hold at the same time: the first takes it, the last gives it back.

    ``take()`` returns what ``give(...)`` needs to undo it.
    """

    def __init__(self, take: Callable[[], Any], give: Callable[[Any], None]) -> None:
        self._take, self._give = take, give
        self._lock, self._holders, self._before = Lock(), 0, None

    def __enter__(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._before = self._take()
            self._holders += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._give(self._before)


def _limit_blas() -> Any:
    if all(os.environ.get(name) == "1" for name in _BLAS_VARIABLES):
        return None
    return _blas_controller().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _blas_controller() -> Any:
    from threadpoolctl import ThreadpoolController  # searches the process for libraries, so once

    return ThreadpoolController()


single_blas = Shared(_limit_blas, lambda limiter: limiter and limiter.restore_original_limits())
