"""Peak memory of a 12-megapixel uint8 RGB filter2d beyond its input and output, each kernel in a process of its own.

    python benchmarks/memory.py [KERNEL ...]

The bound is 64 MB. Linux only: the peak is the process's own, from getrusage.
"""

import resource
import subprocess
import sys

KERNELS = ["edge", "box:31", "gaussian:1", "gaussian:10", "gaussian:50", "motion:size=63,angle=20", "disk:5", "disk:20"]
KERNELS += ["disk:70", "integers:31", "integers:63", "integers:101", "integers:301", "ones:301"]


def peak() -> float:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(kernel: str) -> None:
    """Print what one kernel needs, in this process."""
    import numpy as np

    import convcli

    family, _, size = kernel.partition(":")
    if family == "integers":
        weights = np.random.default_rng(0).integers(-9, 10, (int(size), int(size)))
    else:
        weights = np.ones((int(size), int(size)), int) if family == "ones" else convcli.kernel(kernel)
    small = np.zeros((64, 64, 3), np.uint8)
    convcli.filter2d(small, np.full((2, 2), 0.3), dtype=np.uint8, threads=2, boundary="edge")  # what is imported late
    picture = np.ones((3000, 4000, 3), np.uint8)
    before = peak()
    out = convcli.filter2d(picture, weights, dtype=np.uint8, threads=2)
    method = convcli.plan_conv(np.broadcast_to(np.uint8(0), (3, 3000, 4000)), weights).method
    print(f"{kernel:24} {method:10} {peak() - before - out.nbytes / 2**20:6.1f} MB", flush=True)


def main() -> None:
    """All kernels."""
    for kernel in sys.argv[1:] or KERNELS:
        subprocess.run([sys.executable, __file__, "--one", kernel], check=True)


if __name__ == "__main__":
    measure(sys.argv[2]) if sys.argv[1:2] == ["--one"] else main()
