"""convcli beside OpenCV in one process: dense kernels on 12 MP, milliseconds and their ratio.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/peers.py

Two threads each, the two in turn, medians of seven after one warm-up. Let nothing else run meanwhile.
"""

import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np

import convcli

THREADS, RUNS = 2, 7


def milliseconds(calls: list[Callable[[], object]]) -> list[float]:
    """Median times of calls made in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(RUNS + 1):
        for call, mine in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            mine.append(1000 * (time.perf_counter() - start))
    return [statistics.median(mine[1:]) for mine in times]


def show(name: str, picture: np.ndarray, kernel: np.ndarray, dtype: type | None) -> None:
    """One line of the table."""
    ours, theirs = milliseconds(
        [
            lambda: convcli.filter2d(picture, kernel, dtype=dtype, threads=THREADS),
            lambda: cv2.filter2D(picture, -1, kernel),
        ]
    )
    print(f"{name:24} convcli {ours:7.1f}  OpenCV {theirs:7.1f}  ratio {ours / theirs:5.2f}", flush=True)


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(THREADS)
    rng = np.random.default_rng(0)
    gray = rng.random((3000, 4000), dtype=np.float32)
    for size in (3, 5, 7, 11):
        show(f"float32 {size}x{size}", gray, rng.standard_normal((size, size)).astype(np.float32), None)
    rgb = rng.integers(0, 256, (3000, 4000, 3), np.uint8)
    show("uint8 RGB edge", rgb, convcli.kernel("edge").astype(np.float32), np.uint8)


if __name__ == "__main__":
    main()
