"""A convolution in its one inner form, and how it is run: planned, cut into tiles, padded, computed, stored."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcli.engine.methods import METHODS, shift_add
from convcli.engine.pad import Border
from convcli.engine.plan import Plan, make_plan
from convcli.engine.problem import Problem, Runner
from convcli.engine.shapes import Pair, Window
from convcli.engine.store import Store
from convcli.engine.threads import check_threads, run_all
from convcli.words import AUTO, Boundary, Combine

Array = NDArray[Any]

FLOAT32_EXACT, FLOAT64_EXACT, INT64_EXACT = 2**24, 2**53, 2**63  # integers below these are held exactly
TASKS_PER_THREAD = 4  # bands of unequal speed even out
WORTH_A_THREAD = 2e-3  # seconds of estimated work below which starting threads costs more than they save


class Correlation(NamedTuple):
    """A convolution brought to one form: cells ``(N, C, H, W, P)``, weight ``(O, C/groups, kh, kw)``, pads in numbers.

    ``combine`` makes one response of a group's outputs; the bias, one number for each output channel of the result,
    is added after that.
    """

    cells: Array
    weight: Array
    window: Window
    boundary: Boundary | float = Boundary.ZERO
    bias: Array | None = None
    groups: int = 1
    combine: Combine | None = None

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """The shape of the result."""
        outputs = self.groups if self.combine else self.weight.shape[0]
        return (self.cells.shape[0], outputs, *self.window.output, self.cells.shape[4])

    def problem(self, integer: bool = False) -> Problem:
        """What the planner needs to know; ``integer`` promises exact sums however large."""
        n, _, _, _, pitch = self.cells.shape
        outputs, channels = self.weight.shape[:2]
        taps = int(np.count_nonzero(self.weight)) // self.groups
        dtype, exact = self._arithmetic(integer)
        return Problem(n * self.groups, channels, outputs // self.groups, pitch, self.window, dtype, taps, exact)

    def _arithmetic(self, integer: bool) -> tuple[str, bool]:
        """The dtype to compute in, and whether the result is promised to be exact."""
        kind = self.cells.dtype.kind
        if kind == "f":
            return ("float64" if self.cells.dtype.itemsize > 4 else "float32"), False
        fill = 0.0 if isinstance(self.boundary, Boundary) else self.boundary
        bias = self.bias if self.bias is not None else np.zeros(1)
        if not (_integral(self.weight) and _integral(bias) and float(fill).is_integer()):
            return ("float64" if self.cells.dtype.itemsize > 2 else "float32"), False
        sums = max(sum(abs(int(one)) for one in kernels.flat) for kernels in self.weight)
        bound = sums * max(_peak(self.cells), abs(int(fill))) + max(abs(int(one)) for one in bias.flat)
        if bound < FLOAT32_EXACT:
            return "float32", True
        if bound < FLOAT64_EXACT or not integer:
            return "float64", bound < FLOAT64_EXACT
        return ("int64" if bound < INT64_EXACT else "object"), True


def correlate(ask: Correlation, store: Store, *, method: str = AUTO, threads: int | None = None) -> Plan:
    """Compute ``ask`` into ``store``, whose array has its shape; the plan that was followed comes back."""
    workers = check_threads(threads)
    problem = ask.problem(store.array.dtype.kind in "iu")
    plan = make_plan(problem, method)
    if 0 in ask.shape:
        return plan
    chosen = METHODS[plan.method]
    dtype = np.dtype(problem.dtype)
    weight = _cast(ask.weight, dtype)
    tile = chosen.tile(problem)
    seconds = next(one.seconds for one in plan.candidates if one.method == plan.method)
    workers = workers if seconds > WORTH_A_THREAD else 1
    bands = _bands(problem, tile[0], workers)
    tasks = [(n, g, *band) for n in range(ask.shape[0]) for g in range(ask.groups) for band in bands]
    border = Border(ask.window.size, ask.window.pads, ask.boundary)
    run_all(partial(_run_band, ask, store, border, problem, weight, chosen.bind, tile), tasks, workers)
    return plan


def _run_band(
    ask: Correlation,
    store: Store,
    border: Border,
    problem: Problem,
    weight: Array,
    bind: Callable[[Problem, Array], Runner],
    tile: Pair,
    task: tuple[int, int, int, int],
) -> None:
    """The output rows ``first`` to ``last`` - 1 of one item and group."""
    item, group, first, last = task
    window, outputs = ask.window, problem.outputs
    results = ask.shape[1] // ask.groups
    channels = slice(group * results, (group + 1) * results)
    cells = ask.cells[item, group * problem.channels : (group + 1) * problem.channels]
    weight = weight[group * outputs : (group + 1) * outputs]
    dtype = weight.dtype
    bias = None if ask.bias is None else _cast(ask.bias[channels, None, None, None], dtype)
    run: Runner = bind(problem, weight)
    if cells.dtype.kind == "f":
        run = partial(_finite_run, run, shift_add.bind_all_taps(problem, weight), window)
    direct = ask.combine is None and store.direct(dtype)
    for rows, columns in tiles((first, last), window.output[1], tile):
        block = border.tile(
            cells, window.span(0, rows.start, rows.stop), window.span(1, columns.start, columns.stop), dtype
        )
        place = (item, channels, rows, columns)
        shape = (outputs, rows.stop - rows.start, columns.stop - columns.start, problem.pitch)
        out = store.array[place] if direct else np.empty(shape, dtype)
        with np.errstate(all="ignore"):  # an overflow is an Inf, as IEEE arithmetic has it
            run(block, out)
            if ask.combine is not None:
                out = _combined(out, ask.combine)
            if bias is not None:
                out += bias
            if not direct:
                store.put(place, out)


def tiles(rows: Pair, width: int, tile: Pair) -> Iterator[tuple[slice, slice]]:
    """Output rows ``[first, last)`` and all columns, cut into tiles."""
    for top in range(*rows, tile[0]):
        for left in range(0, width, tile[1]):
            yield slice(top, min(top + tile[0], rows[1])), slice(left, min(left + tile[1], width))


def _finite_run(run: Runner, run_all_taps: Runner, window: Window, block: Array, out: Array) -> None:
    """Run a method on finite cells only, and the definition itself for every output that sees a NaN or an Inf.

    A matrix product or an FFT would carry them to outputs whose window does not hold them.
    """
    if np.isfinite(block.sum()) or np.isfinite(block).all():
        run(block, out)
        return
    bad = ~np.isfinite(block)
    run(np.where(bad, block.dtype.type(0), block), out)
    (sy, sx), (dy, dx) = window.stride, window.dilation
    tall, wide = (out.shape[1] - 1) * sy + 1, (out.shape[2] - 1) * sx + 1
    seen = np.zeros(out.shape[1:], bool)
    for i, j in np.ndindex(*window.kernel):
        seen |= bad[:, i * dy : i * dy + tall : sy, j * dx : j * dx + wide : sx].any(axis=0)
    exact = np.empty_like(out)
    run_all_taps(block, exact)
    np.copyto(out, exact, where=seen)


def _combined(responses: Array, combine: Combine) -> Array:
    """``(O, rows, columns, P)`` to one response, keeping the axis."""
    if combine is Combine.MAXIMUM:
        return np.asarray(responses.max(axis=0, keepdims=True))
    np.multiply(responses, responses, out=responses)
    total = responses.sum(axis=0, keepdims=True)
    return np.asarray(np.sqrt(total, out=total) if total.dtype.kind == "f" else np.sqrt(total.astype(float)))


def _bands(problem: Problem, step: int, workers: int) -> list[Pair]:
    """The output rows cut into bands, each a whole number of tiles high."""
    height = problem.window.output[0]
    wanted = 1 if workers == 1 else -(-workers * TASKS_PER_THREAD // max(1, problem.planes))
    rows = -(-max(1, -(-height // wanted)) // step) * step
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def _integral(values: Array) -> bool:
    return values.dtype.kind in "iu" or bool((values == np.rint(values)).all())


def _peak(cells: Array) -> int:
    """The greatest magnitude a cell can have: the dtype's for small ones, looked up in the pixels for large ones."""
    if cells.dtype.itemsize <= 2:
        return int(np.iinfo(cells.dtype).max) + 1
    return max(abs(int(cells.max())), abs(int(cells.min()))) if cells.size else 0


def _cast(weight: Array, dtype: np.dtype[Any]) -> Array:
    """The weight in the problem's dtype; Python integers where not even int64 holds the sums."""
    if dtype.kind == "O":
        return np.array([int(one) for one in weight.flat], object).reshape(weight.shape)
    with np.errstate(over="ignore"):
        return weight.astype(dtype)
