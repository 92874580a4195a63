"""A convolution in its one inner form, and how it is run: planned, cut into tiles, padded, computed, stored."""

from collections.abc import Iterator
from functools import cached_property
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcli.engine.methods import METHODS, row_gemm, separable, shift_add
from convcli.engine.pad import Border
from convcli.engine.plan import Plan, cheapest_form, estimate, make_plan
from convcli.engine.problem import Method, Problem, Runner, remembered, smallest_for
from convcli.engine.scratch import Scratch, borrowed_scratch
from convcli.engine.shapes import Pair, Window
from convcli.engine.store import ANY_NUMBER, FLOAT32_EXACT, Interval, Store
from convcli.engine.threads import check_threads, share
from convcli.errors import ConvcliError
from convcli.words import AUTO, Boundary, Combine

Array = NDArray[Any]

FLOAT64_EXACT, INT64_EXACT = 2**53, 2**63  # integers below these are held exactly
WORTH_THREADS = 2.2e-3  # seconds of estimated work below which waiting for each other costs threads more than they save
LEAST_SHARES, SHARE = 4, 2.5e-3  # tiles are cut for an even number of shares, each so many seconds of estimated work
WORTH_SIDES = 1 << 21  # cells of a plane above which its sides may be tiles of their own
SIDES = 16  # if they are less than this part of it
SURELY_FINITE = 1e30  # a sum so far from overflow, in whatever order it is added up
SMALL = 255  # magnitude of a border up to which pixels of 8 bits need not be looked at
RANKED_KERNELS = 4  # of a weight: with more of them a search for columns and rows takes longer than it saves
LARGEST_SUM = 1e18  # of an output's weights: below it no part of a sum of modest numbers overflows


class Correlation(NamedTuple):
    """A convolution brought to one form: cells ``(N, C, H, W, P)``, weight ``(O, C/groups, kh, kw)``, pads in numbers.

    ``combine`` makes one response of a group's outputs; the bias, one number for each output channel of the result,
    is added after that. With ``wide``, sums that are not exact are in float64. Where the cells are a part of a picture,
    ``whole`` is the window over all of it, for which the method is chosen: another one might round otherwise.
    """

    cells: Array
    weight: Array
    window: Window
    boundary: Boundary | float = Boundary.ZERO
    bias: Array | None = None
    groups: int = 1
    combine: Combine | None = None
    wide: bool = False
    whole: Window | None = None

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """The shape of the result."""
        outputs = self.groups if self.combine else self.weight.shape[0]
        return (self.cells.shape[0], outputs, *self.window.output, self.cells.shape[4])

    def transposed(self) -> "Correlation":
        """The same with rows and columns exchanged."""
        cells, weight = self.cells.swapaxes(2, 3), self.weight.swapaxes(2, 3)
        return self._replace(cells=cells, weight=weight, window=self.window.transposed(), whole=None)

    def ungrouped(self) -> "Correlation":
        """The same with groups as items of their own, if one weight and bias is for all of them.

        Not where the channels of an item lie apart from the next one's, since that would take a copy.
        """
        (items, channels, *cell), (to_item, to_channel, *_) = self.cells.shape, self.cells.strides
        if self.groups == 1 or (items > 1 and to_item != channels * to_channel):
            return self
        weights = self.weight.reshape(self.groups, -1, *self.weight.shape[1:])
        biases = None if self.bias is None else self.bias.reshape(self.groups, -1)
        if not (_all_equal(weights) and (biases is None or _all_equal(biases))):
            return self
        cells = self.cells.reshape(items * self.groups, channels // self.groups, *cell)
        return self._replace(cells=cells, weight=weights[0], bias=None if biases is None else biases[0], groups=1)

    def apart(self) -> "Correlation":
        """A single item with values that lie side by side as items of their own."""
        return self._replace(cells=self.cells.swapaxes(0, 4))

    def problem(self, integer: bool = False) -> Problem:
        """What the planner needs to know; ``integer`` promises exact sums however large."""
        n, _, _, _, pitch = self.cells.shape
        outputs, channels = self.weight.shape[:2]
        dtype, bound = self._arithmetic(integer)
        weight = _cast(self.weight, np.dtype(dtype))
        _check_finite(weight, "weight")
        if self.bias is not None:
            _check_finite(_cast(self.bias, np.dtype(dtype)), "bias")
        if self.fill:
            _check_finite(_cast(np.array(self.fill), np.dtype(dtype)), "boundary")
        additions, rank, uniform, enormous = _facts(weight, smallest_for(dtype, bound), bound is not None)
        return Problem(
            planes=n * self.groups,
            channels=channels,
            outputs=outputs // self.groups,
            pitch=pitch,
            window=self.window,
            dtype=dtype,
            additions=additions // self.groups,
            rank=rank,
            uniform=uniform,
            bound=bound,
            items=n,
            enormous=enormous,
        )

    @property
    def fill(self) -> float:
        """The number around the picture, 0 where there is no border or one of cells."""
        padded = (self.whole or self.window).padded
        return self.boundary if padded and not isinstance(self.boundary, Boundary) else 0.0

    @np.errstate(over="ignore", invalid="ignore")
    def value_range(self) -> Interval | None:
        """How small and large a result can be, as far as the dtype of the cells tells; None if it can be NaN."""
        if self.cells.dtype.kind == "f":
            return None
        info = np.iinfo(self.cells.dtype)
        ends = np.array([min(info.min, self.fill), max(info.max, self.fill)], np.float64)
        weight = self.weight.reshape(len(self.weight), -1).astype(np.float64)
        down, up = np.minimum(weight, 0).sum(axis=1), np.maximum(weight, 0).sum(axis=1)
        bias = 0.0 if self.bias is None else self.bias
        least, most = (up * ends[0] + down * ends[1] + bias).min(), (up * ends[1] + down * ends[0] + bias).max()
        return (float(least), float(most)) if max(-least, most) < SURELY_FINITE else None

    def _arithmetic(self, integer: bool) -> tuple[str, int | None]:
        """The dtype that holds the sums, and the greatest of them if they are promised to be exact."""
        floats = self.cells.dtype.kind == "f"
        bias = self.bias if self.bias is not None else np.zeros(1)
        if floats or not (_integral(self.weight) and _integral(bias) and float(self.fill).is_integer()):
            wide = self.wide or self.cells.dtype.itemsize > (4 if floats else 2)
            return ("float64" if wide else "float32"), None
        sums = max(1, *(sum(abs(int(one)) for one in kernels.flat) for kernels in self.weight))  # all zeros: as a cell
        bound = sums * max(1, _peak(self.cells), abs(int(self.fill))) + max(abs(int(one)) for one in bias.flat)
        if bound < FLOAT32_EXACT:
            return "float32", bound
        if bound < FLOAT64_EXACT or not integer:
            return "float64", bound if bound < FLOAT64_EXACT else None
        return ("int64" if bound < INT64_EXACT else "object"), bound


def correlate(ask: Correlation, store: Store, *, method: str = AUTO, threads: int | None = None) -> Plan:
    """Compute ``ask`` into ``store``, whose array has its shape; the plan that was followed comes back."""
    workers = check_threads(threads)
    if store.array.flags.c_contiguous and (plain := ask.ungrouped()) is not ask:
        ask, store = plain, store.reshaped(plain.shape)
    problem = ask.problem(store.array.dtype.kind in "iu")
    plan = make_plan(problem._replace(window=ask.whole or ask.window), method)
    if METHODS[plan.method].refuses(problem):
        plan = make_plan(problem, method)
    if 0 in ask.shape:
        return plan
    chosen = METHODS[plan.method]
    seconds = estimate(chosen, problem)
    shares = max(LEAST_SHARES, 2 * int(seconds / (2 * SHARE))) if seconds > WORTH_THREADS else 1
    form = cheapest_form(chosen, problem, shares)
    if form.pitch < problem.pitch:
        ask, store = ask.apart(), store.apart()
    run = _Run(ask, store, form, chosen)
    share(_compute, list(run.tiles(shares)), workers if shares > 1 else 1)
    return plan


Tile = tuple["_Run", slice, slice, slice, slice]  # whose it is, items, groups, output rows and columns


def _compute(tiles: Iterator[Tile]) -> None:
    """Compute tiles as they come, in this thread."""
    with borrowed_scratch() as scratch, np.errstate(all="ignore"):  # IEEE arithmetic makes an overflow an Inf
        for run, items, groups, rows, columns in tiles:
            run.compute(items, groups, rows, columns, scratch)


class _Run:
    """What all tiles of a correlation have in common."""

    def __init__(self, ask: Correlation, store: Store, problem: Problem, method: Method) -> None:
        self.ask, self.store, self.problem, self.method = ask, store, problem, method
        self.dtype = method.dtype(problem)
        self.border = Border(ask.window.size, ask.window.pads, ask.boundary)
        items, _, *cell = ask.cells.shape
        self.cells = ask.cells.reshape(items, ask.groups, problem.channels, *cell)
        self.weights = _cast(ask.weight, self.dtype).reshape(ask.groups, problem.outputs, *ask.weight.shape[1:])
        self.runners = self._bind(method)
        small = ask.cells.dtype.itemsize == 1 and abs(ask.fill) <= SMALL
        self.harmless = problem.bound is not None or small  # whatever the pixels are
        self.bias = None if ask.bias is None else _cast(ask.bias, self.dtype).reshape(ask.groups, -1, 1, 1, 1)
        known = ask.value_range()
        self.value_range = ANY_NUMBER if known and ask.combine else known
        self.direct = ask.combine is None and problem.stack == 1 and store.direct(self.dtype)

    @cached_property
    def strict_runners(self) -> list[Runner]:
        """Those of a method that suits all numbers."""
        return self._bind(row_gemm.METHOD)

    def _bind(self, method: Method) -> list[Runner]:
        """A runner for each group, the same where all have one kernel, or for the groups of each block."""
        count, together = len(self.weights), self.problem.groups
        if count > 1 and together == 1 and _all_equal(self.weights):
            return [method.bind(self.problem, self.weights[0])] * count
        blocks = [self.weights[first : first + together] for first in range(0, count, together)]
        return [method.bind(self.problem, weights.reshape(-1, *weights.shape[2:])) for weights in blocks]

    def tiles(self, shares: int) -> Iterator[Tile]:
        """What is between the sides of every item and group, and these, transposed for their rows to be long."""
        (height, width), inner = self.ask.window.output, self._inner_columns()
        regions = [(self, slice(0, height), inner)]
        sides = [side for side in (slice(0, inner.start), slice(inner.stop, width)) if side.start < side.stop]
        if sides:
            problem = self.problem._replace(window=self.ask.window.transposed())
            transposed = _Run(self.ask.transposed(), self.store.transposed(), problem, self.method)
            regions += [(transposed, side, slice(0, height)) for side in sides]  # short ones last, to end together
        places = [
            (run, slice(top, min(top + tall, rows.stop)), slice(left, min(left + wide, columns.stop)))
            for run, rows, columns in regions
            for tall, wide in [run._tile(shares)]
            for top in range(rows.start, rows.stop, tall)
            for left in range(columns.start, columns.stop, wide)
        ]
        (items, groups), (stack, together) = self.cells.shape[:2], (self.problem.stack, self.problem.groups)
        for run, rows, columns in places:  # first the same rows of all items, which may lie side by side
            for item, group in product(range(0, items, stack), range(0, groups, together)):
                yield run, slice(item, item + stack), slice(group, group + together), rows, columns

    def _tile(self, shares: int) -> Pair:
        """Rows and columns of a tile as the method likes it, but so low that there are about as many as ``shares``.

        Not by the number of threads, since BLAS may round by the size of a product. Of planes on end it is whole, since
        there are as many stacks as shares.
        """
        rows, columns = self.method.tile(self.problem)
        if shares > 1 and not self.method.fixed:
            window = self.ask.window
            fair = max(-(-self.problem.planes * window.output[0] // shares), window.effective[0])
            rows = min(rows, -(-fair // 4) * 4)  # some methods take them by twos or fours
        return rows, columns

    def _inner_columns(self) -> slice:
        """Output columns to be tiled, all but those at the sides if these are better done apart.

        That pays where a tile is as wide as a large picture, and would be copied for the pads alone.
        """
        window, cells = self.ask.window, self.ask.cells
        width, stride, before = window.output[1], window.stride[1], window.pads[1][0]
        first = -(-before // stride)
        last = min(width, window.outputs_in(1, cells.shape[3] + before))
        large = prod((self.ask.whole or window).size) > WORTH_SIDES and (last - first) * SIDES > width * (SIDES - 1)
        whole_rows = self.method.views and self.method.tile(self.problem)[1] >= width and cells.dtype == self.dtype
        return slice(first, last) if large and whole_rows and self.problem.stack == 1 else slice(0, width)

    def compute(self, items: slice, groups: slice, rows: slice, columns: slice, scratch: Scratch) -> None:
        """One tile, from its border to its place in the store."""
        ask, problem, window = self.ask, self.problem, self.ask.window
        down, across = (window.input_range(axis, one.start, one.stop) for axis, one in enumerate((rows, columns)))
        height, width, deep = rows.stop - rows.start, columns.stop - columns.start, down[1] - down[0]
        cells = self.cells[items, groups].transpose(1, 2, 0, 3, 4, 5)  # groups and their channels, items and their rows
        together, _, on_end, *_ = cells.shape
        pace = window.pace if on_end > 1 else height  # rows of output from one item to the next
        tall = pace * window.stride[0] if on_end > 1 else deep  # and of input
        padded = self.border.tile(cells, down, across, self.dtype, scratch, tall)
        block = padded.reshape(together * problem.channels, on_end * tall, *padded.shape[4:])
        block = block[:, : (on_end - 1) * tall + deep]

        results = ask.shape[1] // ask.groups
        place = items, slice(groups.start * results, groups.stop * results), rows, columns
        shape = together * problem.outputs, on_end * pace, width, problem.pitch
        out = self.store.array[place][0] if self.direct else scratch("out", shape, self.dtype)
        runners = self.runners if self.harmless or self.method.suits(block) else self.strict_runners
        runners[groups.start // problem.groups](block, out[:, : (on_end - 1) * pace + height], scratch)

        found = out.reshape(together, problem.outputs, on_end, pace, width, problem.pitch)[:, :, :, :height]
        found = found.transpose(2, 0, 1, 3, 4, 5)
        if ask.combine is not None:
            found = _combined(found, ask.combine, problem.bound, ask.wide)
        if self.bias is not None:
            found += self.bias[groups]
        if not self.direct:
            self.store.put(place, found.reshape(on_end, -1, height, width, problem.pitch), self.value_range)


def _combined(responses: Array, combine: Combine, bound: int | None, wide: bool) -> Array:
    """``(..., O, rows, columns, P)`` to one response, keeping the axis."""
    if combine is Combine.MAXIMUM:
        return np.asarray(responses.max(axis=-4, keepdims=True))
    if bound is not None:  # squares of integers are exact, too
        small = bound**2 * responses.shape[-4] < FLOAT32_EXACT and not wide
        responses = responses.astype(np.float32 if small else np.float64)
    total = np.square(responses).sum(axis=-4, keepdims=True)
    return np.asarray(np.sqrt(total, out=total))


@remembered
def _facts(weight: Array, sums: np.dtype[Any], exact: bool) -> tuple[int, int, bool, bool]:
    """What :class:`Problem` says of a weight: additions into ``sums``, rank, whether it is uniform or enormous."""
    outputs, _, kh, kw = weight.shape
    additions = shift_add.additions(_cast(weight, sums), outputs)
    most = max(abs(float(weight.max())), abs(float(weight.min())))
    enormous = weight.dtype.kind == "f" and most * weight[0].size > LARGEST_SUM
    kernels = weight.reshape(-1, kh, kw)
    if _all_equal(kernels):  # one kernel over every channel
        kernels = kernels[:1]
    rank = 0
    if weight.dtype.kind == "f" and len(kernels) <= RANKED_KERNELS and not enormous:
        ranks = [separable.rank(kernel, exact) for kernel in kernels]
        rank = max(ranks) if all(ranks) else 0
    uniform = _all_equal(kernels[0].ravel()) and bool((kernels == kernels[:, :1, :1]).all())
    return additions, rank, uniform, enormous


def _all_equal(values: Array) -> bool:
    """Whether all along the first axis are the same; first of the last, which tells where most differ."""
    return bool(np.all(values[-1] == values[0]) and np.all(values == values[0]))


def _integral(values: Array) -> bool:
    return values.dtype.kind in "iu" or bool((values == np.rint(values)).all())


def _peak(cells: Array) -> int:
    """The greatest magnitude a cell can have: the dtype's for small ones, looked up in the pixels for large ones."""
    if cells.dtype.itemsize <= 2:
        return int(np.iinfo(cells.dtype).max) + 1
    return max(abs(int(cells.max())), abs(int(cells.min()))) if cells.size else 0


def _cast(weight: Array, dtype: np.dtype[Any]) -> Array:
    """A weight or bias in the problem's dtype; Python integers where not even int64 holds the sums."""
    if dtype.kind == "O":
        return np.array([int(one) for one in weight.flat], object).reshape(weight.shape)
    with np.errstate(over="ignore"):
        return weight.astype(dtype, copy=False)


def _check_finite(cast: Array, name: str) -> None:
    """Raise ConvcliError for numbers that the dtype of a float did not hold."""
    if cast.dtype.kind == "f" and not np.isfinite(cast).all():
        most = np.finfo(cast.dtype).max
        raise ConvcliError(f"{name} must be from -{most:.2g} to {most:.2g}, since sums are in {cast.dtype}")
