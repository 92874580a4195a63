"""What a step of work costs, in seconds for each byte of a value, on one thread.

From ``python benchmarks/fit_costs.py`` on two cores of an AMD EPYC (Zen 4), NumPy 2.4, November 2026. Only their
ratios matter to the planner.
"""

COSTS = {
    "shift_add.tap": 1.0e-10,
    "gemm.product": 4.0e-12,
    "sum.value": 3.0e-11,
}
