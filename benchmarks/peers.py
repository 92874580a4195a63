"""convcli beside OpenCV, SciPy and PyTorch in one process: the table of docs/performance.md.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/peers.py [--rest] [SECTION ...]

Two threads each, but for SciPy, which has one; taken in turn, medians of seven after one warm-up, where no other number
of runs is given below. Let nothing else run meanwhile. Without PyTorch its sections are left out. The sections are the
functions below. With --rest there is a pause before each call.
"""

import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product

import cv2
import numpy as np
from scipy import ndimage

import convcli

THREADS, RUNS = 2, 7
PAUSE = 0.02 if "--rest" in sys.argv else 0.0  # seconds in which the threads of whoever came before go to sleep
RNG = np.random.default_rng(0)
Call = Callable[[], object]


def seconds(*calls: Call, runs: int = RUNS) -> list[float]:
    """Median times of calls made in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs + 1):
        for call, mine in zip(calls, times, strict=True):
            time.sleep(PAUSE)
            start = time.perf_counter()
            call()
            mine.append(time.perf_counter() - start)
    return [statistics.median(mine[1:]) for mine in times]


def table(peer: str, rows: dict[str, tuple[Call, Call]], runs: int = RUNS) -> None:
    """A line for each row, and the geometric mean and the worst of their ratios."""
    print(f"\n| {peer} | convcli, ms | peer, ms | ratio |\n|---|---:|---:|---:|")
    ratios = []
    for name, (ours, theirs) in rows.items():
        mine, other = seconds(ours, theirs, runs=runs)
        ratios.append(mine / other)
        print(f"| {name} | {1e3 * mine:.1f} | {1e3 * other:.1f} | {ratios[-1]:.2f} |", flush=True)
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    print(f"| **geometric mean; worst** | | | **{mean:.2f}; {max(ratios):.2f}** |")


def gray() -> np.ndarray:
    """12 megapixels of float32."""
    return RNG.random((3000, 4000), dtype=np.float32)


def rgb() -> np.ndarray:
    """12 megapixels of 8-bit colour, smooth enough to be a photograph."""
    return cv2.resize(RNG.integers(0, 256, (375, 500, 3), np.uint8), (4000, 3000), interpolation=cv2.INTER_CUBIC)


def dense(size: int) -> np.ndarray:
    """A kernel without any structure."""
    return RNG.standard_normal((size, size)).astype(np.float32)


def opencv() -> None:
    """Dense float32 kernels."""
    picture = gray()

    def row(size: int) -> tuple[Call, Call]:
        kernel = dense(size)
        return (lambda: convcli.filter2d(picture, kernel, threads=THREADS), lambda: cv2.filter2D(picture, -1, kernel))

    sizes = (3, 5, 7, 9, 11, 13, 15, 21, 31, 63)
    table("OpenCV filter2D, float32", {f"{size}x{size}": row(size) for size in sizes})


def smaller() -> None:
    """Dense float32 kernels over smaller pictures. OpenCV lays results of up to 32 MB in memory that was used before,
    and its time for 12 megapixels is in part that of fresh memory.
    """
    sides = {"0.3": (480, 640), "2": (1080, 1920), "8": (2160, 3840)}

    def row(shape: tuple[int, int], size: int) -> tuple[Call, Call]:
        picture, kernel = RNG.random(shape, dtype=np.float32), dense(size)
        return (lambda: convcli.filter2d(picture, kernel, threads=THREADS), lambda: cv2.filter2D(picture, -1, kernel))

    rows = {f"{size}x{size}, {many} MP": row(shape, size) for many, shape in sides.items() for size in (3, 7, 15, 31)}
    table("OpenCV filter2D, float32, smaller pictures", rows)


def bytes_() -> None:
    """8-bit colour in and out."""
    picture = rgb()
    kernels: dict[str, np.ndarray] = {
        name: convcli.kernel(name).astype(np.float32) for name in ("edge", "sobel-x", "gaussian:sigma=1,size=5")
    }
    kernels |= {f"{size}x{size} dense": dense(size) / size for size in (9, 31)}

    def row(kernel: np.ndarray) -> tuple[Call, Call]:
        return (
            lambda: convcli.filter2d(picture, kernel, dtype=np.uint8, threads=THREADS),
            lambda: cv2.filter2D(picture, -1, kernel),
        )

    table("OpenCV filter2D, uint8 RGB", {name: row(kernel) for name, kernel in kernels.items()})


def gaussian() -> None:
    """Gaussians of 8-bit colour."""
    picture = rgb()

    def row(sigma: int) -> tuple[Call, Call]:
        size = 6 * sigma + 1
        return (
            lambda: convcli.filter2d(picture, f"gaussian:{sigma}", dtype=np.uint8, threads=THREADS),
            lambda: cv2.GaussianBlur(picture, (size, size), sigma),
        )

    table("OpenCV GaussianBlur, uint8 RGB", {f"sigma {sigma}": row(sigma) for sigma in (1, 3, 10, 50)}, 3)


def scipy() -> None:
    """The small dense kernels once more."""
    picture = gray()

    def row(size: int) -> tuple[Call, Call]:
        kernel = dense(size)
        return (
            lambda: convcli.filter2d(picture, kernel, threads=THREADS),
            lambda: ndimage.correlate(picture, kernel, mode="mirror"),
        )

    table("SciPy ndimage.correlate, float32", {f"{size}x{size}": row(size) for size in (3, 5, 7, 9, 11, 13, 15)}, 1)


def layers() -> None:
    """Layers, (channels in, channels out, height and width, kernel)."""
    import torch

    def row(c_in: int, c_out: int, size: int, kernel: int) -> tuple[Call, Call]:
        x = RNG.random((1, c_in, size, size), dtype=np.float32)
        weight = RNG.standard_normal((c_out, c_in, kernel, kernel)).astype(np.float32)
        tensors = torch.from_numpy(x), torch.from_numpy(weight)
        return (lambda: convcli.conv2d(x, weight, threads=THREADS), lambda: torch.conv2d(*tensors))

    shapes = [(1, 1, 1024, 3), (3, 3, 1024, 3), (3, 16, 1024, 3), (3, 64, 512, 7), (16, 32, 512, 3), (64, 64, 256, 3)]
    shapes += [(3, 8, 1024, 1), (64, 256, 256, 1)]
    table("PyTorch conv2d", {str(shape): row(*shape) for shape in shapes})


def pools() -> None:
    """Pools of 12 megapixels, window / stride."""
    import torch

    x = gray()[None, None]
    tensor = torch.from_numpy(x)

    def row(ours: Callable[..., object], theirs: Callable[..., object], size: int, stride: int) -> tuple[Call, Call]:
        return (lambda: ours(x, size, stride=stride), lambda: theirs(tensor, size, stride=stride))

    steps = [(2, 2), (3, 1), (3, 2), (7, 1)]
    kinds: dict[str, tuple[Callable[..., object], Callable[..., object]]] = {
        "max": (convcli.max_pool2d, torch.nn.functional.max_pool2d),
        "average": (convcli.avg_pool2d, torch.nn.functional.avg_pool2d),
    }
    for name, (ours, theirs) in kinds.items():
        table(f"PyTorch {name} pooling, float32", {f"{k} / {s}": row(ours, theirs, k, s) for k, s in steps})


def strides() -> None:
    """A stride or dilation beside stride 1, and stride 4 beside OpenCV at stride 1."""
    picture = gray()

    def ours(kernel: np.ndarray, stride: int = 1, dilation: int = 1) -> Call:
        return lambda: convcli.filter2d(picture, kernel, threads=THREADS, stride=stride, dilation=dilation)

    def theirs(kernel: np.ndarray) -> Call:
        return lambda: cv2.filter2D(picture, -1, kernel)

    kernels = {f"{size}x{size}": dense(size) for size in (3, 7)}
    rows = {}
    for name, kernel in kernels.items():
        for step in (2, 4):
            rows[f"{name} stride {step}"] = ours(kernel, stride=step), ours(kernel)
            rows[f"{name} dilation {step}"] = ours(kernel, dilation=step), ours(kernel)
    table("itself at 1, float32", rows)
    rows = {f"{name} stride 4": (ours(kernel, stride=4), theirs(kernel)) for name, kernel in kernels.items()}
    table("OpenCV filter2D at stride 1, float32", rows)


def growth() -> None:
    """Time over pixels: the exponent fitted from 1 to 100 megapixels."""
    for size, threads in product((3, 15), (1, THREADS)):
        kernel, points = dense(size), []
        for megapixels in (1, 3, 10, 30, 100):
            picture = RNG.random((int(1000 * math.sqrt(megapixels)),) * 2, dtype=np.float32)
            (spent,) = seconds(partial(convcli.filter2d, picture, kernel, threads=threads))
            points.append((math.log(picture.size), math.log(spent)))
        pixels, spents = np.array(points).T
        power = np.polyfit(pixels, spents, 1)[0]
        on = "one thread" if threads == 1 else f"{threads} threads"
        print(f"\nTime of a {size}x{size} kernel grows with the {power:.2f}th power of the pixels on {on}.")


SECTIONS = {
    "opencv": opencv,
    "smaller": smaller,
    "bytes": bytes_,
    "gaussian": gaussian,
    "scipy": scipy,
    "strides": strides,
    "growth": growth,
    "layers": layers,
    "pools": pools,
}


def main() -> None:
    """Print the sections asked for, or all."""
    cv2.setNumThreads(THREADS)
    torch = importlib.util.find_spec("torch") is not None
    if torch:
        importlib.import_module("torch").set_num_threads(THREADS)
    for name in [one for one in sys.argv[1:] if one != "--rest"] or SECTIONS:
        if torch or name not in ("layers", "pools"):
            SECTIONS[name]()


if __name__ == "__main__":
    main()
