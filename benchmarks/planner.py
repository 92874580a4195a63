"""How good the planner is, and how its constants come about.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/planner.py regret|fit

``regret`` draws 200 problems log-uniformly (sizes, kernels, channels, dtypes, strides; seed 0), runs every method that
can do them and is not hopeless by its estimate on one thread, in turn, and prints quantiles of time(auto) / min(these),
times being medians of five runs after one to warm up. ``fit`` draws others, and prints the constants of
``src/convcli/engine/costs.py``, those for this machine's BLAS, that make the estimates come nearest to the times. A
price is linear in the constants, so that the work a constant stands for is the price with that constant 1 and the
others 0; the fit is least squares of the logarithms of time and estimate, errors above ``OUTLIER`` of them counting for
less. Kernels are also laid out for ``row-gemm`` in other ways than the cheapest. Let nothing else run meanwhile.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import statistics
import sys
import time
from functools import cache
from unittest import mock

import numpy as np
from scipy.optimize import least_squares

from convcli.engine.correlate import Correlation, correlate
from convcli.engine.costs import COSTS
from convcli.engine.methods import METHODS, row_gemm
from convcli.engine.plan import cheapest_form, make_plan, price
from convcli.engine.problem import Problem
from convcli.engine.shapes import conv_window
from convcli.engine.store import Store

LARGE = 500  # rows and columns at least of every second picture that constants are fitted to
MOST_SECONDS = 0.3  # a method that is estimated to take longer, and ten times as long as the best, is hopeless
HOPELESS = 100  # as is any that is estimated to take so many times as long
LAYOUTS = 2  # other ones of a kernel to fit to
LEAST = 1e-13  # seconds of a constant, whose logarithm is sought
OUTLIER = 0.2
PLAIN = 5  # times as much counts a single kernel without a stride over a picture: few are drawn, most users ask for it
KINDS = ("dense", "dense", "dense", "uniform", "rank 1", "integers")


def draw(rng: np.random.Generator, smallest: int = 8) -> tuple[Correlation, np.dtype]:
    """A problem, the sides of its picture from ``smallest`` on, and the dtype of its result."""

    def between(low: float, high: float) -> int:
        return int(np.rint(np.exp(rng.uniform(np.log(low), np.log(high)))))

    while True:
        height, width, pitch, stride = between(smallest, 3000), between(smallest, 3000), 1, min(4, between(1, 4))
        kernel, channels, outputs = (between(1, 40), between(1, 40)), between(1, 128), between(1, 128)
        kind, dtype = rng.choice(KINDS), np.dtype(rng.choice(["u1", "f4", "f4", "f8"]))
        if rng.random() < 0.6:  # a picture
            channels, outputs, pitch = 1, 1, int(rng.choice([1, 1, 3, 4]))
        work = height * width * pitch * channels * outputs * kernel[0] * kernel[1] / stride**2
        if min(height, width) >= max(kernel) and 1e3 < work < 1e10:
            break
    weight = rng.standard_normal((outputs, channels, *kernel))
    if kind == "uniform":
        weight[:] = weight[:, :, :1, :1]
    elif kind == "rank 1":
        weight = weight[:, :, :, :1] * weight[:, :, :1]
    elif kind == "integers":
        weight = np.rint(3 * weight)
    shape = (1, channels, height, width, pitch)
    cells = (rng.random(shape) * 255).astype(dtype)
    window = conv_window((height, width), kernel, padding="same", stride=stride)
    return Correlation(cells, weight, window), dtype


def times(ask: Correlation, target: np.dtype, methods: list[str], runs: int) -> dict[str, float]:
    """Median seconds of each method, in turn."""
    store = Store(np.empty(ask.shape, target))
    spent: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(runs + 1):
        for name in methods:
            start = time.perf_counter()
            correlate(ask, store, method=name, threads=1)
            spent[name].append(time.perf_counter() - start)
    return {name: statistics.median(mine[1:]) for name, mine in spent.items()}


def worth_running(problem: Problem) -> list[str]:
    """The methods that can do it, but for hopeless ones."""
    able = [one for one in make_plan(problem).candidates if not one.refused]
    best = min(one.seconds for one in able)
    return [one.method for one in able if one.seconds < max(MOST_SECONDS, 10 * best) and one.seconds < HOPELESS * best]


def regret(count: int = 200) -> None:
    """Print how far the planner's choice is from the best."""
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        ask, target = draw(rng)
        problem = ask.problem(target.kind in "iu")
        chosen = make_plan(problem).method
        spent = times(ask, target, worth_running(problem), 5)
        best = min(spent, key=spent.__getitem__)
        found.append(spent[chosen] / spent[best])
        if found[-1] > 1.2:
            print(f"{found[-1]:.2f} {chosen} {spent[chosen]:.2e} s, {best} {spent[best]:.2e} s:\n{make_plan(problem)}")
    print("regret p50 {:.2f}, p90 {:.2f}, p95 {:.2f}, worst {:.2f}".format(*np.quantile(found, [0.5, 0.9, 0.95, 1])))


def fit(count: int = 250) -> None:
    """Print constants."""
    rng, names = np.random.default_rng(1), list(COSTS)
    work, spent, counts = [], [], []

    def measure(ask: Correlation, target: np.dtype, problem: Problem, methods: list[str]) -> None:
        plain = problem.channels == problem.outputs == problem.window.stride[0] == problem.window.stride[1] == 1
        for name, seconds in times(ask, target, methods, 3).items():
            work.append([_unit(names, one, name, problem) for one in names])
            spent.append(seconds)
            counts.append(PLAIN if plain else 1)

    for number in range(count):
        ask, target = draw(rng, LARGE if number % 2 else 8)  # of pixels, too, there must be enough to tell
        problem = ask.problem(target.kind in "iu")
        methods = worth_running(problem)
        measure(ask, target, problem, methods)
        if row_gemm.METHOD.name in methods:
            for one in rng.integers(100, size=LAYOUTS):
                with mock.patch.object(row_gemm, "cheapest_layout", cache(lambda p, one=one: _layout(p, one))):
                    measure(ask, target, problem, [row_gemm.METHOD.name])

    matrix, logs, shares = np.array(work), np.log(spent), np.sqrt(counts)
    now, bounds = np.log(list(COSTS.values())), (np.log(LEAST), np.inf)

    def errors(constants: np.ndarray) -> np.ndarray:
        return np.asarray(shares * (np.log(matrix @ np.exp(constants)) - logs))

    found = least_squares(errors, np.maximum(now, np.log(2 * LEAST)), bounds=bounds, loss="soft_l1", f_scale=OUTLIER)
    for name, constant in zip(names, np.exp(found.x), strict=True):
        print(f'    "{name}": {constant:.1e},')


def _layout(problem: Problem, number: int) -> row_gemm.Layout:
    """One of the better half, the cheapest only where there is no other."""
    layouts = sorted(row_gemm.layouts(problem), key=lambda one: row_gemm.seconds(problem, one))
    others = layouts[1 : 1 + len(layouts) // 2] or layouts
    return others[number % len(others)]


def _unit(names: list[str], one: str, method: str, problem: Problem) -> float:
    """The work that constant ``one`` stands for."""
    before, form = dict(COSTS), cheapest_form(METHODS[method], problem)  # as a rule the one that ran
    layout = row_gemm.cheapest_layout(form)
    COSTS.update({name: float(name == one) for name in names})
    try:
        with mock.patch.object(row_gemm, "cheapest_layout", return_value=layout):
            return price(METHODS[method], problem, form)
    finally:
        COSTS.update(before)


if __name__ == "__main__":
    {"regret": regret, "fit": fit}[sys.argv[1]]()
