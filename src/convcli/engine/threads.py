"""Bands of a picture on several threads, and BLAS held to one thread meanwhile so that the two do not fight."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar

from convcli.errors import ConvcliError

T = TypeVar("T")
R = TypeVar("R")

_BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def cores() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(threads: int | None) -> int:
    """The number of threads asked for, or the cores."""
    if threads is None:
        return cores()
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ConvcliError(f"threads must be a whole number from 1, not {threads!r}")
    return threads


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

    with single_blas(), ThreadPoolExecutor(min(threads, len(tasks))) as pool:
        yield from pool.map(work, tasks)


def run_all(work: Callable[[T], None], tasks: Sequence[T], threads: int) -> None:
    """``work`` on every task, on several threads."""
    for _ in map_all(work, tasks, threads):
        pass


@contextmanager
def single_blas() -> Iterator[None]:
    """BLAS held to one thread inside, counted so that calls from several threads restore it only once."""
    if all(os.environ.get(name) == "1" for name in _BLAS_VARIABLES):
        yield
        return
    _hold(1)
    try:
        yield
    finally:
        _hold(-1)


_lock = Lock()
_holders = 0
_limiter: Any = None


def _hold(step: int) -> None:
    global _holders, _limiter
    with _lock:
        _holders += step
        if _holders == 1 and step == 1:
            _limiter = _blas().limit(limits=1, user_api="blas")
        elif _holders == 0:
            _limiter.restore_original_limits()


@lru_cache(maxsize=1)
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController  # searches the process for libraries, so once

    return ThreadpoolController()
