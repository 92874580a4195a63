"""Row GEMM: output rows as matrix products with the input rows under them.

A kernel's columns are cut into panels of a few. Each input row is stacked with its shifted copies, one for each column
of a panel and every ``sx``-th cell under a stride, channel after channel; stacks on end are one matrix. The other has a
row for each panel, and the product is a response to each: shifted by the panel's place and summed over, they are the
result. Of one panel there is nothing to sum. Of one channel, and panels of a column, nothing is copied: rows lie as a
stack would. Several output rows can be one product, with the kernel laid out for each, which multiplies the zeros in
between; but BLAS is slow with few rows, and where it copies what it multiplies, it does so once for all of them. Which
layout is best, the price decides.

A NaN that meets such a zero spoils results that do not hold it. The stretch of rows is then done again, without the
zeros.

All rows of a stretch go to ``matmul`` at once: threads wait for each other between the calls, not within. Dilated rows
are done in classes, every ``dy``-th row at a time, and are then not dilated.
"""

from collections.abc import Callable
from functools import cache, lru_cache, partial
from math import gcd, isfinite
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.blas import as_vectors, multiply
from convcli.engine.costs import COSTS, copy_cost, gemm_cost
from convcli.engine.problem import Array, Method, Problem, Runner, fit_tile, refuses_integers, share_out
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair

BLOCK = 1 << 20  # values of a tile's input
STRETCH = 1 << 20  # values of responses and stacks at a time: they are used while in cache
CROWDED = 1.75  # times as long it takes to stack rows where responses, too, want the cache: measured on two threads
ROWS = 1, 2, 4  # output rows of a product that are considered; tiles are cut by fours
REST = 30  # calls of NumPy for the rows that are left over

Products = Callable[[Array, Array, Scratch], list[slice]]


class Layout(NamedTuple):
    """How a kernel becomes a matrix: kernel columns of a panel, and output rows of a product."""

    columns: int
    rows: int


def bind(problem: Problem, weight: Array) -> Runner:
    """One class of dilated rows after the other: whole products, those that a NaN spoilt again, and what rows are left.

    The weight is laid out once, for the exact rows when there are any.
    """
    sy, down, layout = problem.window.stride[0], row_step(problem), cheapest_layout(problem)
    fast, exact = bind_layout(problem, weight, layout), cache(lambda: bind_exact(problem, weight))

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        for first in range(min(classes(problem), out.shape[1])):
            cells, results = block[:, first * sy :: problem.window.dilation[0]], out[:, first :: classes(problem)]
            for rows in fast(cells, results, scratch):
                mend(cells[:, rows.start * down :], results[:, rows], scratch)
            done = results.shape[1] - results.shape[1] % layout.rows
            if done < results.shape[1]:
                exact()(cells[:, done * down :], results[:, done:], scratch)

    def mend(cells: Array, results: Array, scratch: Scratch) -> None:
        """What holds a NaN or an Inf, as it is, and all else as if there were none, to the last bit."""
        cells = cells[:, : rows_under(problem, results.shape[1])]
        fast(np.where(np.isfinite(cells), cells, 0), results, scratch)
        spoilt = scratch("spoilt", results.shape, results.dtype)
        exact()(cells, spoilt, scratch)
        np.copyto(results, spoilt, where=~np.isfinite(spoilt))

    return run


def bind_exact(problem: Problem, weight: Array) -> Runner:
    """Panels of the least width, and the columns left over as a narrower one: no zeros for a NaN to meet."""
    kw, dx, step = weight.shape[3], problem.window.dilation[1], panel_step(problem)
    whole = kw - kw % step
    parts = []
    for start, stop, columns in ((0, whole, step), (whole, kw, kw - whole)):
        if start < stop:
            part = weight[..., start:stop]
            window = problem.window._replace(kernel=part.shape[2:])
            parts.append((start * dx, bind_layout(problem._replace(window=window), part, Layout(columns, 1))))

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        for number, (start, part) in enumerate(parts):
            into = scratch("part", out.shape, out.dtype) if number else out
            part(block[:, :, start:], into, scratch)
            if number:
                out += into

    return run


def lay_out(weight: Array, layout: Layout, down: int) -> Array:
    """The matrix: a row for each panel of each output, again for every row of a product, ``down`` rows further on."""
    outputs, channels, kh, kw = weight.shape
    (columns, rows), panels = layout, -(-kw // layout.columns)
    padded = np.zeros((outputs, channels, kh, panels * columns), weight.dtype)
    padded[..., :kw] = weight
    kernels = padded.reshape(outputs, channels, kh, panels, columns).transpose(0, 3, 2, 1, 4)
    kernels = kernels.reshape(outputs * panels, kh * channels * columns)
    height, depth = kernels.shape
    step = down * channels * columns
    shape = matrix_rows(outputs * panels * rows, panels), depth + (rows - 1) * step
    matrix = np.zeros(shape, weight.dtype)
    for number in range(rows):
        matrix[number * height : (number + 1) * height, number * step : number * step + depth] = kernels
    return matrix


def matrix_rows(used: int, panels: int) -> int:
    """Of a product, or a fourth more: BLAS likes it better than three left over. A result has no room for it."""
    return used + (panels > 1 and used % 4 == 3 and not as_vectors(used))


def bind_layout(problem: Problem, weight: Array, layout: Layout) -> Products:
    """The weight as a matrix; a runner does the output rows that are whole products.

    It returns those in which a cell that is not finite, or a square that overflows, may have met a zero in between.
    """
    outputs, kw = len(weight), problem.window.kernel[1]
    (panel, tall), panels, pace = layout, panel_count(problem, layout), panel_pace(problem, layout)
    zeros = tall > 1 or kw % panel > 0
    matrix = lay_out(weight, layout, row_step(problem))
    ones = np.ones((1, panels), weight.dtype)  # BLAS adds rows up faster than np.add.reduce

    def run(block: Array, out: Array, scratch: Scratch) -> list[slice]:
        products, columns, pitch = out.shape[1] // tall, out.shape[2], out.shape[3]
        if not products:
            return []
        step = share_out(products, stretch(problem, layout, columns) // tall)
        take = operands(problem, layout, block, columns, (products, step), scratch)
        width, wide = columns * pitch, across(problem, layout, columns)
        plane, line, _, value = out.strides
        if panels == 1:
            next_row = line if tall > 1 else plane
            results = as_strided(out, (products, tall * outputs, width), (tall * line, next_row, value))
        else:
            results = as_strided(out, (products, tall, outputs, 1, width), (tall * line, line, plane, value, value))
            product = scratch("product", (step, len(matrix), wide * pitch), out.dtype)
            whole, row, _ = product.strides
            places = whole, outputs * panels * row, panels * row, row + pace * pitch * value, value
            responses = as_strided(product, (step, tall, outputs, panels, width), places)

        spoilt = []
        for top in range(0, products, step):
            count = min(step, products - top)
            done = results[top : top + count]
            if panels == 1:
                multiply(matrix, take(top, count), done)
            else:
                multiply(matrix, take(top, count), product[:count])
                np.matmul(ones, responses[:count], out=done)
            if zeros and not isfinite(float(np.vecdot(done, done).sum())):
                spoilt.append(slice(top * tall, (top + count) * tall))
        return spoilt

    return run


def operands(
    problem: Problem, layout: Layout, block: Array, columns: int, counts: Pair, scratch: Scratch
) -> Callable[[int, int], Array]:
    """``take(first, count)`` gives what the matrix multiplies in some products, ``(count, depth, cells)``.

    ``counts`` are how many products there are, and how many at most are taken. Views of all are made once and then
    sliced: as_strided takes longer than a row's product.
    """
    kw, sx, dx = problem.window.kernel[1], problem.window.stride[1], problem.window.dilation[1]
    channels, down, (panel, tall), (products, most) = problem.channels, row_step(problem), layout, counts
    wide, pitch, pace = across(problem, layout, columns), block.shape[3], panel_pace(problem, layout)
    last = kw - (panel_count(problem, layout) - 1) * panel  # columns of the last panel
    plane, line, column, value = block.strides
    shifts = line, plane, dx * column, sx * column, value
    stacks = shifted = as_strided(block, (block.shape[1], channels, panel, wide, pitch), shifts)
    stacked = copied(problem, layout) > 0
    if stacked:
        products = most
        stacks = scratch("stacks", (rows_under(problem, most * tall), *shifted.shape[1:]), block.dtype)
        stacks[:, :, last:, wide - pace :] = 0
    next_row = stacks.strides[0]
    next_copy = next_row if channels * panel == 1 else stacks.strides[1 if panel == 1 else 2]
    depth = rows_under(problem, tall) * channels * panel
    cells = as_strided(stacks, (products, depth, wide * pitch), (tall * down * next_row, next_copy, value))

    def take(first: int, count: int) -> Array:
        if not stacked:
            return cells[first : first + count]
        top, rows = first * tall * down, rows_under(problem, count * tall)
        fresh = shifted[top : top + rows]
        stacks[:rows, :, :last] = fresh[:, :, :last]
        if last < panel:
            stacks[:rows, :, last:, :-pace] = fresh[:, :, last:, :-pace]
        return cells[:count]

    return take


@lru_cache(maxsize=512)
def cheapest_layout(problem: Problem) -> Layout:
    """The layout of least price."""
    return min(layouts(problem), key=partial(seconds, problem))


def layouts(problem: Problem) -> list[Layout]:
    """What is considered: for each count of panels the narrowest that make it, and so many rows as divide a tile.

    The product of a single panel is written straight into the result; that of several outputs and rows would not lie
    there as the result's strides have it.
    """
    kw, step = problem.window.kernel[1], panel_step(problem)
    widths = {-(-kw // (step * count)) * step for count in range(1, -(-kw // step) + 1)}
    most = max(1, min(problem.window.output[0], max(ROWS)) // classes(problem))
    rows = [count for count in ROWS if count <= most]
    parted = [Layout(columns, count) for columns in widths if columns < kw for count in rows]
    return parted + [Layout(kw, count) for count in rows if count == 1 or problem.outputs == 1]


def panel_step(problem: Problem) -> int:
    """The least number of kernel columns that moves a response by whole cells of the result."""
    sx, dx = problem.window.stride[1], problem.window.dilation[1]
    return sx // gcd(sx, dx)


def row_step(problem: Problem) -> int:
    """The vertical stride among rows of one class, which are not dilated."""
    return problem.window.stride[0] // gcd(problem.window.stride[0], problem.window.dilation[0])


def rows_under(problem: Problem, outputs: int) -> int:
    """Input rows of a class under so many of its output rows."""
    return (outputs - 1) * row_step(problem) + problem.window.kernel[0]


def classes(problem: Problem) -> int:
    """Of output rows that meet the same input rows."""
    return problem.window.dilation[0] // gcd(problem.window.stride[0], problem.window.dilation[0])


def panel_count(problem: Problem, layout: Layout) -> int:
    """Panels of a kernel: responses that are summed over for an output, or one that is the result."""
    return -(-problem.window.kernel[1] // layout.columns)


def panel_pace(problem: Problem, layout: Layout) -> int:
    """Cells from a panel's response to the next one's."""
    return layout.columns * problem.window.dilation[1] // problem.window.stride[1]


def copied(problem: Problem, layout: Layout) -> int:
    """Values stacked for each output pixel; of rows as they lie none."""
    rows_alike = problem.channels == 1 or (problem.window.kernel[0] == 1 and layout.rows == 1)
    as_they_lie = layout.columns == 1 and problem.window.stride[1] == 1 and rows_alike
    return 0 if as_they_lie else problem.channels * layout.columns * row_step(problem)


def across(problem: Problem, layout: Layout, columns: int) -> int:
    """Cells of a response, so long that every panel's part of it has as many as there are output columns."""
    return columns + (panel_count(problem, layout) - 1) * panel_pace(problem, layout)


def row_values(problem: Problem, layout: Layout, columns: int) -> int:
    """Values of stacks and responses for each output row."""
    panels, rows = panel_count(problem, layout), layout.rows
    summed = matrix_rows(problem.outputs * panels * rows, panels) / rows if panels > 1 else 0
    return int((copied(problem, layout) + summed) * across(problem, layout, columns) * problem.pitch)


def stretch(problem: Problem, layout: Layout, columns: int) -> int:
    """Output rows at a time."""
    return max(1, STRETCH // max(1, row_values(problem, layout, columns) * layout.rows)) * layout.rows


def tile(problem: Problem) -> Pair:
    """As :func:`fit_tile` has it, but of as many rows as are whole products."""
    (rows, columns), count = fit_tile(problem, BLOCK), cheapest_layout(problem).rows * classes(problem)
    return min(problem.window.output[0], -(-rows // count) * count), columns


def cost(problem: Problem) -> float:
    """That of the layout."""
    return seconds(problem, cheapest_layout(problem))


def seconds(problem: Problem, layout: Layout) -> float:
    """The stacks, a product for each row or several, the sum of responses, and of many channels the weight's matrix.

    Rows that are left over are priced as a product and ``REST`` calls.
    """
    (kh, kw), sx, size = problem.window.kernel, problem.window.stride[1], problem.itemsize
    (panel, tall), down, panels = layout, row_step(problem), panel_count(problem, layout)
    (height, columns), pitch = problem.window.output, problem.pitch
    rows, products = problem.planes * height, problem.planes * -(-height // tall)
    step, wide = stretch(problem, layout, columns), across(problem, layout, columns)
    again = rows_under(problem, step) / (step * down)  # rows of stacks made anew for each stretch
    crowded = CROWDED if panels > 1 else 1
    stacks = copy_cost(rows * wide * pitch * copied(problem, layout) * again * crowded, wide, pitch, sx, size)
    depth = rows_under(problem, tall) * problem.channels * panel
    used = matrix_rows(tall * problem.outputs * panels, panels)
    multiplied = gemm_cost(products, used, depth, wide * pitch, size)
    each = COSTS["gemv.call"] + panels * columns * pitch * size * COSTS["gemm.summed"]
    sums = rows * problem.outputs * each if panels > 1 else 0.0
    left = problem.planes * classes(problem) * REST * COSTS["numpy.call"] if height // classes(problem) % tall else 0.0
    laid_out = copy_cost(problem.outputs * problem.channels * kh * kw, kw, 1, 1, size)
    return stacks + multiplied + sums + laid_out + left


def calls(problem: Problem) -> float:
    """Five for each stretch and a dozen views of the tile, for each class of rows."""
    rows, columns = tile(problem)
    count = min(rows, classes(problem))
    return 12 * count + 5 * max(-(-rows // stretch(problem, cheapest_layout(problem), columns)), count)


def memory(problem: Problem) -> int:
    """The stacks and responses of a stretch, also of the exact one."""
    rows, columns = tile(problem)

    def held(layout: Layout) -> int:
        below = problem.window.kernel[0] if copied(problem, layout) else 0
        count = min(rows, stretch(problem, layout, columns)) + below
        return row_values(problem, layout, columns) * count * problem.itemsize

    return max(held(cheapest_layout(problem)), held(Layout(panel_step(problem), 1)))


METHOD = Method("row-gemm", bind, refuses_integers, tile, cost, calls, memory, views=True)
