"""What a step of work costs, in seconds, on one thread.

From ``benchmarks/planner.py fit``, November 2026: two cores of an AMD EPYC of family 25, NumPy 2.4
with OpenBLAS 0.3.31 (SkylakeX kernels). Only their ratios matter to the planner.
"""

COSTS = {  # seconds for each byte of a value, unless it says "start", "call" or "run"
    "start": 1.5e-04,
    "tile.call": 9.5e-05,
    "tile.cell": 7.5e-11,
    "tile.result": 1.2e-10,
    "numpy.call": 2.8e-06,
    "copy.value": 1.2e-11,
    "copy.run": 6.7e-09,
    "copy.strided": 8.0e-11,
    "shift_add.tap": 6.3e-11,
    "shift_add.strided": 1.4e-10,
    "gemm.product": 6.9e-12,
    "gemm.read": 1.0e-11,
    "gemm.call": 2.4e-07,
    "row_gemm.sum": 5.5e-11,
    "winograd.sum": 5.3e-11,
    "box_sum.pass": 5.6e-11,
    "fft.step": 5.9e-11,
    "fft.product": 7.7e-11,
}
VECTOR = 64  # bytes that BLAS multiplies at once


def gemm_cost(calls: float, rows: float, depth: float, columns: float, itemsize: int) -> float:
    """Seconds of ``calls`` products ``(rows, depth) @ (depth, columns)``; columns come in whole vectors."""
    lanes = VECTOR // itemsize
    products = rows * depth * (-(-columns // lanes) * lanes) * COSTS["gemm.product"]
    moved = (rows + columns) * depth * COSTS["gemm.read"]
    return calls * (COSTS["gemm.call"] + itemsize * (products + moved))


def copy_cost(values: float, columns: int, pitch: int, stride: int, itemsize: int) -> float:
    """Seconds of a copy of rows, every ``stride``-th column of ``pitch`` values: NumPy's inner loop is over a run."""
    run = columns if pitch == 1 else columns * pitch if stride == 1 else pitch
    value = COSTS["copy.strided" if pitch == 1 and stride > 1 else "copy.value"]
    return values * itemsize * value + values / run * COSTS["copy.run"]
