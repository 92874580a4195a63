"""The doors of pooling. Rows under a window are folded onto each other first, each in one piece, then their columns."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcli.engine.conv import as_cells, real_array, result_dtype
from convcli.engine.fold import fold, in_line
from convcli.engine.pad import Border
from convcli.engine.results import empty_result
from convcli.engine.scratch import Scratch, borrowed_scratch
from convcli.engine.shapes import PaddingLike, Pair, PairLike, Window, pool_window
from convcli.engine.store import FLOAT32_EXACT, Store
from convcli.engine.threads import check_threads, share
from convcli.errors import ConvcliError
from convcli.words import Reduce

Array = NDArray[Any]

BLOCK_BYTES = 1 << 21  # of padded input folded at a time; twice that under a stride, which leaves half of it or less
TALL_BYTES, TALL = 1 << 23, 16  # of padded input under a window folded at a time, but at least so many rows
LONG_SUM, PART = 256, 64  # cells: sums of more are made in float64, of float32 sums of so many
RANKS = range(2, 65)  # of arrays: any that NumPy has, with rows and columns
WORTH_A_THREAD = 1 << 20  # values below which waiting for each other costs threads more than they save

_FOLDS: dict[Reduce, np.ufunc] = {Reduce.MAX: np.maximum, Reduce.MIN: np.minimum, Reduce.AVG: np.add}


class Pooling(NamedTuple):
    """A pool brought to one form: cells ``(N, C, H, W, P)``, a window with its pads in numbers.

    With ``power`` what is folded is the power of each magnitude, and the result the root of the sum, not of the mean.
    """

    cells: Array
    window: Window
    reduce: Reduce
    count_pads: bool = True
    power: float | None = None

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """The shape of the result."""
        return (*self.cells.shape[:2], *self.window.output, self.cells.shape[4])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Max and min keep the input's dtype; an average is float32, or float64 where the input is."""
        given = self.cells.dtype
        if self.reduce is not Reduce.AVG:
            return given.newbyteorder("=")
        return result_dtype(given)


def max_pool2d(
    x: ArrayLike,
    size: PairLike,
    *,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The greatest value of each window of ``x`` ``(..., H, W)``, in the dtype of ``x``. Pads never win; a NaN does.

    With ``return_indices`` also an int64 array of each winner's flat index into H*W, the first of equals, as PyTorch
    counts, and -1 where a dilated window falls between all cells. Raises ConvcliError for arguments that can't be,
    ShapeError for a window that doesn't fit.
    """
    values, ask = _pooled(x, size, Reduce.MAX, stride, padding, dilation, ceil_mode)
    return (values, _winners(ask, values)) if return_indices else values


def min_pool2d(
    x: ArrayLike,
    size: PairLike,
    *,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    ceil_mode: bool = False,
) -> Array:
    """The least value of each window, as :func:`max_pool2d` the greatest."""
    return _pooled(x, size, Reduce.MIN, stride, padding, dilation, ceil_mode)[0]


def avg_pool2d(
    x: ArrayLike,
    size: PairLike,
    *,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The mean of each window of ``x`` ``(..., H, W)``, as float32 or, for float64, float64.

    Pads are zeros that count as cells, as in PyTorch, unless ``count_include_pad`` is off; cells beyond the pads,
    which ``ceil_mode`` can reach, never count.
    """
    return _pooled(x, size, Reduce.AVG, stride, padding, 1, ceil_mode, count_include_pad)[0]


def lp_pool2d(
    x: ArrayLike,
    size: PairLike,
    p: float = 2,
    *,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
) -> Array:
    """``(sum |x|^p)^(1/p)`` over each window: the norm of the sum, not of the mean."""
    try:
        power = float(p) if hasattr(p, "__float__") and not isinstance(p, complex) else np.nan
    except (TypeError, ValueError, OverflowError):  # an array, or an int that no float holds
        power = np.nan
    if not 0 < power < np.inf:
        raise ConvcliError(f"p must be a positive number, not {p!r}")
    return _pooled(x, size, Reduce.AVG, stride, padding, 1, False, power=power)[0]


def global_max_pool2d(x: ArrayLike) -> Array:
    """The greatest value of each picture: ``(..., H, W)`` to ``(..., 1, 1)``."""
    return _pooled(x, None, Reduce.MAX, None, 0, 1, False)[0]


def global_avg_pool2d(x: ArrayLike) -> Array:
    """The mean of each picture: ``(..., H, W)`` to ``(..., 1, 1)``."""
    return _pooled(x, None, Reduce.AVG, None, 0, 1, False)[0]


def pool(ask: Pooling, store: Store, *, threads: int | None = None) -> None:
    """Compute ``ask`` into ``store``, whose array has its shape."""
    if 0 in ask.shape:
        return
    n, c, height, _, pitch = ask.shape
    reduce, window, (dtype, sums) = ask.reduce, ask.window, _dtypes(ask)
    fill = 0.0 if reduce is Reduce.AVG else _identity(reduce, dtype)
    pads = _pads_reached(window)
    border = Border(window.size, pads, fill)
    line = (window.size[1] + sum(pads[1])) * pitch * dtype.itemsize * window.stride[0]  # of input for a row of output
    workers = check_threads(threads) if ask.cells.size > WORTH_A_THREAD else 1
    tiles = _tiles(c, height, line, BLOCK_BYTES * min(2, window.stride[0]))
    tasks = [(item, *tile) for item in range(n) for tile in tiles]
    share(partial(_pool_tiles, ask, store, border, dtype, sums), tasks, workers)


def _tiles(planes: int, height: int, line: int, most: int) -> list[tuple[slice, slice]]:
    """Some rows of a plane, or a few planes, as many as take ``most`` bytes, of which a row takes ``line``."""
    rows, several = min(height, max(1, most // line)), max(1, most // (line * height))
    return [
        (slice(first, min(first + several, planes)), slice(top, min(top + rows, height)))
        for first in range(0, planes, several)
        for top in range(0, height, rows)
    ]


def _pool_tiles(
    ask: Pooling,
    store: Store,
    border: Border,
    dtype: np.dtype[Any],
    sums: np.dtype[Any],
    tiles: Iterator[tuple[int, slice, slice]],
) -> None:
    """Some rows of one or more planes at a time, in this thread."""
    kw, sx, dx = ask.window.kernel[1], ask.window.stride[1], ask.window.dilation[1]
    divisor = _divisor(ask, sums) if ask.reduce is Reduce.AVG and ask.power is None else None
    direct = store.direct(sums)
    with borrowed_scratch() as scratch, np.errstate(all="ignore"):
        for item, planes, rows in tiles:
            cells, place = ask.cells[item, planes], (item, planes, rows)
            shape = len(cells), rows.stop - rows.start, *ask.shape[3:]
            out = store.array[place] if direct else scratch("out", shape, sums)
            down = _folded_rows(ask, border, cells, rows, dtype, sums, scratch)
            fold(_FOLDS[ask.reduce], down, 2, kw, shape[2], scratch, stride=sx, dilation=dx, out=out)
            if ask.power is not None:
                out **= 1 / ask.power
            if divisor is not None:
                out /= divisor(rows)
            if not direct:
                store.put(place, out)


def _folded_rows(
    ask: Pooling,
    border: Border,
    cells: Array,
    rows: slice,
    dtype: np.dtype[Any],
    sums: np.dtype[Any],
    scratch: Scratch,
) -> Array:
    """The rows of cells under each of some output rows, folded onto each other; under a tall window some at a time."""
    window, ufunc, outputs = ask.window, _FOLDS[ask.reduce], rows.stop - rows.start
    kh, sy, dy = window.kernel[0], window.stride[0], window.dilation[0]
    (top, _), across = window.input_range(0, rows.start, rows.stop), window.input_range(1, 0, window.output[1])
    row = len(cells) * (across[1] - across[0]) * cells.shape[-1] * dtype.itemsize
    most = PART if _long_sum(ask, 0) and sums != dtype else max(TALL, TALL_BYTES // row)

    def some(first: int) -> Array:
        size, start = min(most, kh - first), top + first * dy
        end = start + (outputs - 1) * sy + (size - 1) * dy + 1
        block = border.tile(cells, (start, end), across, dtype, scratch)
        if ask.power is not None:
            block = np.abs(block, out=scratch("powers", block.shape, dtype))
            block **= ask.power
        return fold(ufunc, block, 1, size, outputs, scratch, stride=sy, dilation=dy)

    folded = some(0)
    if most < kh or sums != dtype:  # its memory is wanted again, or it is too narrow
        folded, first = scratch("rows", folded.shape, sums), folded
        folded[...] = first
    for place in range(most, kh, most):
        ufunc(folded, some(place), out=folded)
    return folded


def _divisor(ask: Pooling, dtype: np.dtype[Any]) -> Callable[[slice], Array]:
    """For some rows of the result how many cells count in each window, to divide ``(rows, columns, P)`` by."""
    down, across = (_shortened(counts).astype(dtype) for counts in _counts(ask.window, ask.count_pads))
    return lambda rows: (down if down.size == 1 else down[rows])[:, None, None] * across[:, None]


def _shortened(counts: Array) -> Array:
    """One number for all where they are the same, by which NumPy divides faster."""
    return counts[:1] if counts.min() == counts.max() else counts


def _pooled(
    x: ArrayLike,
    size: PairLike | None,
    reduce: Reduce,
    stride: PairLike | None,
    padding: PaddingLike,
    dilation: PairLike,
    ceil: bool,
    count_pads: bool = True,
    power: float | None = None,
) -> tuple[Array, Pooling]:
    """The result as the caller of a door expects it, and the arguments in one form, all planes as one item's channels.

    Without a ``size`` the window is the whole picture.
    """
    given = real_array(x, "x")
    array = as_cells(given, "x", RANKS)
    size = array.shape[-2:] if size is None else size
    window = pool_window(array.shape[-2:], size, padding=padding, stride=stride, dilation=dilation, ceil=ceil)
    cells = array.reshape(1, -1, *array.shape[-2:], 1) if array.size else np.empty((0, 1, *window.size, 1), array.dtype)
    ask = Pooling(cells, window, reduce, count_pads, power)
    out = empty_result(ask.shape, ask.dtype)
    pool(ask, Store(out))
    result = out.reshape(array.shape[:-2] + window.output)
    return (result.view(bool) if given.dtype == bool and reduce is not Reduce.AVG else result), ask


def _winners(ask: Pooling, values: Array) -> Array:
    """The flat indices into H*W at which the maxima ``values`` ``(..., H', W')`` stand, as int64."""
    (height, width), indices = ask.window.output, np.empty(values.shape, np.int64)
    planes = ask.cells.reshape(-1, *ask.window.size)
    best, found = (array.reshape(-1, height, width) for array in (values, indices))
    tiles = _tiles(len(planes), height, width * indices.itemsize, BLOCK_BYTES)
    workers = check_threads(None) if planes.size > WORTH_A_THREAD else 1
    share(partial(_find_winners, planes, best, ask.window, found), tiles, workers)
    return indices


def _find_winners(
    planes: Array, values: Array, window: Window, indices: Array, tiles: Iterator[tuple[slice, slice]]
) -> None:
    """Some rows of one or more planes at a time, tap by tap: the first of equals, or else the last NaN."""
    (top, _), (left, _) = window.pads
    width, (sy, sx), (dy, dx) = window.size[1], window.stride, window.dilation
    columns, taps = np.arange(window.output[1]) * sx - left, list(np.ndindex(*window.kernel))
    for some, rows in tiles:
        best, found = values[some, rows], indices[some, rows]
        starts = (np.arange(rows.start, rows.stop) * sy - top)[:, None] * width + columns
        np.subtract(-1, starts, out=found)  # -1 in the end where a dilated window falls between all cells
        spoiled = best.dtype.kind == "f" and bool(np.isnan(best).any())
        for turn, (i, j) in enumerate([*reversed(taps), *taps] if spoiled else reversed(taps)):
            down, cell_rows = _met(window, 0, i, rows)
            across, cell_columns = _met(window, 1, j, slice(0, window.output[1]))
            cells = planes[some, cell_rows, cell_columns]
            won = cells == best[:, down, across] if turn < len(taps) else np.isnan(cells)
            np.copyto(found[:, down, across], i * dy * width + j * dx, where=won)
        found += starts


def _met(window: Window, axis: int, tap: int, outputs: slice) -> tuple[slice, slice]:
    """Those of some outputs whose tap meets a cell, counted from the first of them, and these cells."""
    stride, shift = window.stride[axis], tap * window.dilation[axis] - window.pads[axis][0]
    first = max(outputs.start, -(shift // stride))
    count = max(0, min(outputs.stop, (window.size[axis] - 1 - shift) // stride + 1) - first)
    cell = first * stride + shift
    return slice(first - outputs.start, first - outputs.start + count), slice(cell, cell + count * stride, stride)


def _dtypes(ask: Pooling) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """The dtype of cells and that of sums: the result's, but float64 for powers and averages of large integers, and for
    sums of many cells one after the other.
    """
    double = np.dtype(np.float64)
    if ask.power is not None:
        return double, double
    if ask.reduce is not Reduce.AVG:
        return ask.dtype, ask.dtype
    given, (kh, kw) = ask.cells.dtype, ask.window.kernel
    if given.kind == "f":
        return ask.dtype, double if any(_long_sum(ask, axis) for axis in (0, 1)) else ask.dtype
    exact = given.itemsize <= 2 and kh * kw << (8 * given.itemsize) <= FLOAT32_EXACT
    return (ask.dtype, ask.dtype) if exact else (double, double)


def _long_sum(ask: Pooling, axis: int) -> bool:
    """Whether so many cells are added up along an axis, one after the other, that float32 would err by too much."""
    window = ask.window
    size, stride, outputs = window.kernel[axis], window.stride[axis], window.output[axis]
    return size > LONG_SUM and in_line(size, stride, outputs, axis == 1, ask.cells.shape[4])


def _identity(reduce: Reduce, dtype: np.dtype[Any]) -> Any:
    """What never wins: -inf for a maximum, +inf for a minimum, the ends of an integer's range."""
    lowest = reduce is Reduce.MAX
    if dtype.kind == "f":
        return -np.inf if lowest else np.inf
    return int(np.iinfo(dtype).min if lowest else np.iinfo(dtype).max)


def _pads_reached(window: Window) -> tuple[Pair, Pair]:
    """The pads, grown behind as far as the last, partial window of ``ceil`` reaches."""
    grown = []
    for axis in (0, 1):
        before, after = window.pads[axis]
        end = window.under(axis, window.output[axis])
        grown.append((before, max(after, end - before - window.size[axis])))
    return grown[0], grown[1]


def _counts(window: Window, count_pads: bool) -> tuple[Array, Array]:
    """Cells that count in each window, along rows and along columns; their product is the divisor."""
    counts: list[Array] = []
    for axis in (0, 1):
        n, (before, after) = window.size[axis], window.pads[axis]
        low, high = (-before, n + after) if count_pads else (0, n)
        starts = np.arange(window.output[axis]) * window.stride[axis] - before
        counts.append(np.minimum(starts + window.effective[axis], high) - np.maximum(starts, low))
    return counts[0], counts[1]
