"""What a step of work costs, in seconds for each byte of a value, on one thread.

From ``benchmarks/fit_costs.py``, medians of three runs, November 2026: two cores of an AMD EPYC of family 25, NumPy 2.4
with OpenBLAS 0.3.31 (SkylakeX kernels). Only their ratios matter to the planner.
"""

COSTS = {
    "shift_add.tap": 9.2e-11,
    "gemm.product": 7.9e-12,
    "sum.value": 8.7e-11,
}
