"""What a step of work costs, in seconds, on one thread.

From ``benchmarks/planner.py fit``, November 2026: AMD EPYCs of family 25, NumPy 2.4 with OpenBLAS 0.3.31, one with
AVX-512 (SkylakeX kernels) and one without (Haswell kernels, which copy what they multiply; fitted to timings that were
kept while the prices of ``row-gemm`` changed). A column is one machine's fit, also of what has nothing to do with BLAS.
The one with AVX-512 was fitted before ``fft``, ``separable`` and ``winograd`` became what they are, and before
``row-gemm`` had layouts: its ``gemm.left`` and ``gemm.right`` are one number, its ``gemm.summed`` and ``gemv.call`` are
guesses under which what was measured to be fastest is chosen, and its ``fft`` is nine tenths of an earlier fit of the
other column. Only ratios matter to the planner; seconds tell what is worth threads.
"""

from convcli.engine.blas import as_vectors, copies

FITTED = {  # without and with copies; seconds for each byte of a value, unless it says "start", "call", "run" or "line"
    "start": (1.1e-04, 1.4e-04),
    "tile.call": (7.5e-05, 1.7e-04),
    "tile.cell": (6.7e-11, 4.2e-11),
    "tile.result": (2.7e-11, 1.3e-10),
    "numpy.call": (2.1e-06, 3.1e-06),
    "copy.value": (5.9e-12, 2.4e-11),
    "copy.run": (5.5e-09, 6.2e-09),
    "copy.strided": (5.4e-11, 6.7e-11),
    "shift_add.tap": (5.7e-11, 7.8e-11),
    "shift_add.strided": (1.2e-10, 1.5e-10),
    "gemm.product": (6.2e-12, 5.3e-12),
    "gemm.left": (1.5e-11, 1.2e-10),
    "gemm.right": (1.5e-11, 4.1e-11),
    "gemv.value": (2.1e-11, 1.9e-11),
    "gemv.call": (1.0e-07, 6.7e-08),
    "gemm.summed": (3.1e-11, 6.8e-11),
    "gemm.call": (1.7e-07, 8.2e-07),
    "box_sum.pass": (6.4e-11, 5.1e-11),
    "fft.step": (3.9e-11, 4.4e-11),
    "fft.line": (4.3e-08, 5.0e-08),
    "fft.product": (1.5e-11, 6.8e-12),
}
COSTS = {name: costs[copies()] for name, costs in FITTED.items()}
VECTOR = 64  # bytes that BLAS multiplies at once


def gemm_cost(calls: float, rows: int, depth: int, columns: int, itemsize: int) -> float:
    """Seconds of ``calls`` products ``(rows, depth) @ (depth, columns)``; columns come in whole vectors."""
    lanes = VECTOR // itemsize
    across = -(-columns // lanes) * lanes
    if as_vectors(rows):
        return calls * rows * (COSTS["gemv.call"] + itemsize * depth * across * COSTS["gemv.value"])
    products = rows * depth * across * COSTS["gemm.product"]
    read = depth * (rows * COSTS["gemm.left"] + columns * COSTS["gemm.right"])
    return calls * (COSTS["gemm.call"] + itemsize * (products + read))


def copy_cost(values: float, columns: int, pitch: int, stride: int, itemsize: int) -> float:
    """Seconds of a copy of rows, every ``stride``-th column of ``pitch`` values: NumPy's inner loop is over a run."""
    run = columns if pitch == 1 else columns * pitch if stride == 1 else pitch
    value = COSTS["copy.strided" if pitch == 1 and stride > 1 else "copy.value"]
    return values * itemsize * value + values / run * COSTS["copy.run"]
