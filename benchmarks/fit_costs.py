"""Measure the cost constants of ``src/convcli/engine/costs.py`` and print them as they stand there.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/fit_costs.py

Each method runs alone on one thread, forced, on 2 MP of float32 with dense kernels of several sizes; its constants are
the least-squares fit of its time to the counts of work that its ``cost`` multiplies them with. Medians of five.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import statistics
import time

import numpy as np

from convcli.engine.conv import picture_filter
from convcli.engine.correlate import correlate
from convcli.engine.methods import banded
from convcli.engine.problem import Problem
from convcli.engine.store import Store

SIZES = (3, 4, 5, 7, 9, 11)
RUNS = 5
PICTURE = np.random.default_rng(0).random((1000, 2000), dtype=np.float32)


def seconds(method: str, size: int) -> tuple[Problem, float]:
    """The problem of a dense kernel, and the median time of a method on it."""
    kernel = np.random.default_rng(size).standard_normal((size, size))
    ask = picture_filter(PICTURE, kernel, padding="valid", boundary="zero")
    out = np.empty(ask.shape, np.float32)
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        correlate(ask, Store(out), method=method, threads=1)
        times.append(time.perf_counter() - start)
    return ask.problem(), statistics.median(times[1:])


def main() -> None:
    """Print the table."""
    plain = [seconds("shift-add", size) for size in SIZES]
    taps = [time / (one.values * one.taps * one.itemsize) for one, time in plain]
    work, times = [], []
    for one, time_ in (seconds("banded-gemm", size) for size in SIZES):
        kw = one.window.kernel[1]
        products = one.values * one.channels * kw * banded.tall_of(one, banded.rows_of(one))
        work.append([products * one.itemsize, one.values * kw * one.itemsize])
        times.append(time_)
    (product, value), *_ = np.linalg.lstsq(np.array(work), np.array(times), rcond=None)
    print(f'    "shift_add.tap": {statistics.median(taps):.1e},')
    print(f'    "gemm.product": {max(product, 1e-13):.1e},')
    print(f'    "sum.value": {max(value, 1e-13):.1e},')


if __name__ == "__main__":
    main()
