"""What a step of work costs, in seconds, on one thread.

From ``benchmarks/planner.py fit``, November 2026: two cores of an AMD EPYC of family 25, NumPy 2.4
with OpenBLAS 0.3.31 (SkylakeX kernels). Only their ratios matter to the planner.
"""

COSTS = {  # seconds for each byte of a value, unless it says "start", "call" or "run"
    "start": 1.4e-04,
    "tile.call": 6.9e-05,
    "tile.cell": 7.2e-11,
    "numpy.call": 2.1e-06,
    "copy.value": 1.2e-11,
    "copy.run": 5.1e-09,
    "copy.strided": 6.8e-11,
    "shift_add.tap": 6.9e-11,
    "shift_add.strided": 1.8e-10,
    "gemm.product": 6.1e-12,
    "gemm.read": 1.0e-11,
    "gemm.call": 1.4e-07,
    "row_gemm.sum": 4.7e-11,
    "box_sum.pass": 6.0e-11,
    "fft.step": 4.8e-11,
    "fft.product": 8.7e-11,
}
VECTOR = 64  # bytes that BLAS multiplies at once


def gemm_cost(calls: float, rows: float, depth: float, columns: float, itemsize: int) -> float:
    """Seconds of ``calls`` products ``(rows, depth) @ (depth, columns)``; columns come in whole vectors."""
    lanes = VECTOR // itemsize
    products = rows * depth * (-(-columns // lanes) * lanes) * COSTS["gemm.product"]
    moved = (rows + columns) * depth * COSTS["gemm.read"]
    return calls * (COSTS["gemm.call"] + itemsize * (products + moved))


def copy_cost(values: float, run: float, strided: bool, itemsize: int) -> float:
    """Seconds of a copy in runs of values that lie side by side, or of single values a stride apart."""
    if strided and run == 1:
        return values * itemsize * COSTS["copy.strided"]
    return values * itemsize * COSTS["copy.value"] + values / run * COSTS["copy.run"]
