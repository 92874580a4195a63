"""A large TIFF through ``edge`` and ``gaussian:5`` in strips: seconds, and megabytes at most beside the picture's own.

    python benchmarks/strips.py [MEGAPIXELS]

16-bit RGB noise, deflated, so many megapixels (100). Linux only: the peak is that of the process, from getrusage.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

CONVCLI = str(Path(sys.executable).with_name("convcli"))
WIDTH, TALL = 8000, 125
MEASURE = "import os, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
MEASURE += "import resource; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"


def main() -> None:
    """Both kernels."""
    megapixels = int(sys.argv[1]) if sys.argv[1:] else 100
    rows = np.random.default_rng(0).integers(0, 1 << 16, (TALL, WIDTH, 3), dtype=np.uint16)
    count = megapixels * 1_000_000 // (WIDTH * TALL)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        picture = np.concatenate([rows] * count)
        tifffile.imwrite("a.tif", picture, photometric="rgb", compression="zlib", compressionargs={"level": 1})
        size = picture.nbytes / 2**20
        del picture
        for kernel in ("edge", "gaussian:5"):
            command = [CONVCLI, kernel, "a.tif", "-o", "b.tif", "-f", "-q", "--max-pixels", str(2 * megapixels * 10**6)]
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", MEASURE, *command], check=True, capture_output=True, text=True)
            seconds = time.perf_counter() - start
            print(f"{kernel:12} {size:,.0f} MB decoded: {seconds:5.1f} s, {float(done.stdout):4.0f} MB at most")


if __name__ == "__main__":
    main()
