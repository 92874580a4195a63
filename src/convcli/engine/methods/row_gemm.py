"""Row GEMM: output rows as matrix products with the input rows under them.

The columns of a kernel are taken in groups. Each input row is stacked with its shifted copies, one for each column of a
group and every ``sx``-th cell under a stride, channel after channel; stacks on end are one matrix. The other has a row
for each group, and the product is a response to each: shifted by the group's place and summed over, they are the
result. In one group of all columns there is nothing to sum, in groups of one nothing to copy, for rows lie as a stack
would. Several output rows can be one product, with the kernel laid out for each: that multiplies zeros, but BLAS is
slow with few rows, and copies the cells under them but once. Which layout of the kernel is best, the price decides.

All rows of a stretch go to ``matmul`` at once: threads wait for each other between the calls, not within. Dilated rows
are done in classes, every ``dy``-th row at a time, and are then not dilated.
"""

from collections.abc import Callable
from functools import cache, lru_cache, partial
from math import gcd, isfinite
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.blas import multiply
from convcli.engine.costs import COSTS, copy_cost, gemm_cost
from convcli.engine.problem import Array, Method, Problem, Runner, fit_tile, refuses_integers, share_out
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair

BLOCK = 1 << 20  # values of a tile's input
STRETCH = 1 << 20  # values of responses and stacks at a time: they are used while in cache
CROWDED = 1.5  # times as long takes a stack to lay where it and responses drive each other out of the cache
ROWS = 1, 2, 4  # output rows of a product that are considered


class Layout(NamedTuple):
    """How a kernel becomes a matrix: kernel columns of a group, and output rows of a product."""

    columns: int
    rows: int


def bind(problem: Problem, weight: Array) -> Runner:
    """Lay the weight out once, and do one class of dilated rows after the other."""
    sy, dy = problem.window.stride[0], problem.window.dilation[0]
    classes, down, layout = dy // gcd(sy, dy), row_step(problem), cheapest_layout(problem)
    fast, exact = bind_layout(problem, weight, layout), cache(lambda: bind_exact(problem, weight))  # which few need

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        for first in range(min(classes, out.shape[1])):
            cells, results = block[:, first * sy :: dy], out[:, first::classes]
            rows = results.shape[1] - results.shape[1] % layout.rows
            done = fast(cells, results, scratch)
            if done < rows:
                mend(cells[:, done * down :], results[:, done:rows], scratch)
            if rows < results.shape[1]:
                exact()(cells[:, rows * down :], results[:, rows:], scratch)

    def mend(cells: Array, results: Array, scratch: Scratch) -> None:
        """What has a NaN or an Inf under its own window, and the others as if there were none, to the last bit."""
        fast(np.where(np.isfinite(cells), cells, 0), results, scratch, heed=False)
        spoilt = scratch("spoilt", results.shape, results.dtype)
        exact()(cells, spoilt, scratch)
        np.copyto(results, spoilt, where=~np.isfinite(results + spoilt))

    return run


def bind_exact(problem: Problem, weight: Array) -> Runner:
    """In the smallest groups, and what columns are left over by themselves: no cell meets a 0 that is not its own."""
    kw, dx, step = weight.shape[3], problem.window.dilation[1], group_step(problem)
    whole = kw - kw % step
    parts = []
    for first, last, columns in ((0, whole, step), (whole, kw, kw - whole)):
        if first < last:
            part = weight[..., first:last]
            window = problem.window._replace(kernel=part.shape[2:])
            parts.append((first * dx, bind_layout(problem._replace(window=window), part, Layout(columns, 1))))

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        for number, (start, part) in enumerate(parts):
            into = scratch("part", out.shape, out.dtype) if number else out
            part(block[:, :, start:], into, scratch)
            if number:
                out += into

    return run


def lay_out(weight: Array, layout: Layout, down: int) -> Array:
    """The matrix: a row for each group of each output, again for every row of a product, ``down`` rows further on."""
    outputs, channels, kh, kw = weight.shape
    (group, tall), taps = layout, -(-kw // layout.columns)
    lines = np.zeros((outputs, channels, kh, taps * group), weight.dtype)
    lines[..., :kw] = weight
    kernels = lines.reshape(outputs, channels, kh, taps, group).transpose(0, 3, 2, 1, 4).reshape(outputs * taps, -1)
    used, line = tall * outputs * taps, down * channels * group
    spare = taps > 1 and used % 4 == 3  # BLAS likes a fourth row better than three left over
    matrix = np.zeros((used + spare, (tall - 1) * line + kernels.shape[1]), weight.dtype)
    for number in range(tall):
        rows = matrix[number * len(kernels) : (number + 1) * len(kernels)]
        rows[:, number * line : number * line + kernels.shape[1]] = kernels
    return matrix


def bind_layout(problem: Problem, weight: Array, layout: Layout) -> Callable[..., int]:
    """The weight as a matrix; a runner does the rows of whole products, and returns how many.

    Where a cell may meet the zeros between kernels, it has to ``heed`` that 0 times a NaN or an Inf is NaN, and stops
    before the first stretch that has one.
    """
    sx, dx, down = problem.window.stride[1], problem.window.dilation[1], row_step(problem)
    outputs, channels, kh, kw = weight.shape
    group, tall = layout
    taps, last = -(-kw // group), (kw - 1) % group + 1  # responses, and columns of the last group
    depth, laid, zeros = channels * group, copied(problem, layout) > 0, tall > 1 or last < group
    apart = group * dx // sx if taps > 1 else 0  # cells from one response to the next
    matrix = lay_out(weight, layout, down)
    ones = np.ones((1, taps), weight.dtype)  # BLAS adds rows up faster than np.add.reduce

    def run(block: Array, out: Array, scratch: Scratch, heed: bool = zeros) -> int:
        # Views of a whole tile are made once and sliced for each stretch: as_strided takes longer than a row's product.
        _, rows, columns, pitch = out.shape
        products: int = rows // tall
        if not products:
            return 0
        most = stretch(problem, layout, columns) // tall if laid or taps > 1 else products
        step = share_out(products, most)  # products at a time
        wide = columns + (taps - 1) * apart
        width, length = columns * pitch, wide * pitch

        plane, line, column, value = block.strides
        shifts = line, plane, dx * column, sx * column, value
        stacks = shifted = as_strided(block, (block.shape[1], channels, group, wide, pitch), shifts)
        if laid:
            stacks = scratch("stacks", ((step * tall - 1) * down + kh, *shifted.shape[1:]), out.dtype)
            stacks[:, :, last:, wide - apart :] = 0
        row, each = stacks.strides[0], stacks.strides[0 if depth == 1 else 1 if group == 1 else 2]
        under = step if laid else products, matrix.shape[1], length
        windows = as_strided(stacks, under, (tall * down * row, each, value))

        plane, line, _, _ = out.strides
        if taps == 1:
            each = line if tall > 1 else plane
            results = as_strided(out, (products, tall * outputs, width), (tall * line, each, value))
        else:
            results = as_strided(out, (products, tall, outputs, 1, width), (tall * line, line, plane, value, value))
            product = scratch("product", (step, len(matrix), length), out.dtype)
            row, each, _ = product.strides
            places = row, outputs * taps * each, taps * each, each + apart * pitch * value, value
            responses = as_strided(product, (step, tall, outputs, taps, width), places)

        for top in range(0, products, step):
            count = min(step, products - top)
            done = results[top : top + count]
            if laid:
                deep = (count * tall - 1) * down + kh
                fresh = shifted[top * tall * down : top * tall * down + deep]
                stacks[:deep, :, :last] = fresh[:, :, :last]
                if last < group:
                    stacks[:deep, :, last:, :-apart] = fresh[:, :, last:, :-apart]
            first = 0 if laid else top
            if taps == 1:
                multiply(matrix, windows[first : first + count], done)
            else:
                multiply(matrix, windows[first : first + count], product[:count])
                np.matmul(ones, responses[:count], out=done)
            if heed and not isfinite(float(np.vecdot(done, done).sum())):
                return top * tall
        return products * tall

    return run


@lru_cache(maxsize=512)
def cheapest_layout(problem: Problem) -> Layout:
    """The layout of least price."""
    return min(layouts(problem), key=partial(seconds, problem))


def layouts(problem: Problem) -> list[Layout]:
    """What can be done: responses to groups of all sizes, and one to all columns, of which only one output goes by
    several rows."""
    kw, step = problem.window.kernel[1], group_step(problem)
    groups = {-(-kw // (step * count)) * step for count in range(1, -(-kw // step) + 1)}
    parted = [Layout(columns, rows) for columns in groups if columns < kw for rows in ROWS]
    return parted + [Layout(kw, rows) for rows in ROWS if rows == 1 or problem.outputs == 1]


def group_step(problem: Problem) -> int:
    """The least number of kernel columns that moves a response by whole cells of the result."""
    sx, dx = problem.window.stride[1], problem.window.dilation[1]
    return sx // gcd(sx, dx)


def row_step(problem: Problem) -> int:
    """The vertical stride among rows of one class, which are not dilated."""
    return problem.window.stride[0] // gcd(problem.window.stride[0], problem.window.dilation[0])


def taken(problem: Problem, layout: Layout) -> int:
    """Responses that are summed over for an output; none where the product is the result."""
    responses = -(-problem.window.kernel[1] // layout.columns)
    return responses if responses > 1 else 0


def copied(problem: Problem, layout: Layout) -> int:
    """Values laid anew for each output pixel; of rows as they lie none."""
    rows_alike = problem.channels == 1 or (problem.window.kernel[0] == 1 and layout.rows == 1)
    as_they_lie = layout.columns == 1 and problem.window.stride[1] == 1 and rows_alike
    return 0 if as_they_lie else problem.channels * layout.columns * row_step(problem)


def pixel_values(problem: Problem, layout: Layout) -> int:
    """Values of stacks and responses for each output pixel."""
    return copied(problem, layout) + problem.outputs * taken(problem, layout)


def stretch(problem: Problem, layout: Layout, columns: int) -> int:
    """Output rows at a time."""
    values = max(1, pixel_values(problem, layout)) * columns * problem.pitch * layout.rows
    return max(1, STRETCH // values) * layout.rows


def tile(problem: Problem) -> Pair:
    """Rows as wide as the picture, as many as are whole products."""
    (rows, columns), tall = fit_tile(problem, BLOCK), cheapest_layout(problem).rows
    return min(problem.window.output[0], -(-rows // tall) * tall), columns


def cost(problem: Problem) -> float:
    """That of the layout."""
    return seconds(problem, cheapest_layout(problem))


def seconds(problem: Problem, layout: Layout) -> float:
    """The stacks, a product for each row or several, the sum of responses, and of many channels the weight's matrix."""
    (kh, kw), sx, size = problem.window.kernel, problem.window.stride[1], problem.itemsize
    (group, tall), down, taps = layout, row_step(problem), taken(problem, layout)
    rows, columns, pitch = problem.planes * problem.window.output[0], problem.window.output[1], problem.pitch
    length, step = columns * pitch, stretch(problem, layout, columns)
    again = ((step - 1) * down + kh) / (step * down)  # rows of stacks made anew for each stretch
    crowded = CROWDED if taps else 1
    stacks = copy_cost(rows * length * copied(problem, layout) * again * crowded, columns, pitch, sx, size)
    depth = ((tall - 1) * down + kh) * problem.channels * group
    products = gemm_cost(rows / tall, tall * problem.outputs * max(1, taps), depth, length, size)
    sums = rows * problem.outputs * taps * length * size * COSTS["gemm.summed"]
    laid_out = copy_cost(problem.outputs * problem.channels * kh * kw, kw, 1, 1, size)
    return stacks + products + sums + laid_out


def calls(problem: Problem) -> float:
    """Four for each stretch and a dozen views of the tile, for each class of rows."""
    rows, columns = tile(problem)
    sy, dy = problem.window.stride[0], problem.window.dilation[0]
    classes = min(rows, dy // gcd(sy, dy))
    return 12 * classes + 4 * max(-(-rows // stretch(problem, cheapest_layout(problem), columns)), classes)


def memory(problem: Problem) -> int:
    """The stacks and responses of a stretch."""
    rows, columns = tile(problem)
    best = cheapest_layout(problem)
    across = columns + max(0, taken(problem, best) - 1) * best.columns * problem.window.dilation[1]
    count = min(rows, stretch(problem, best, columns)) + (problem.window.kernel[0] if copied(problem, best) else 0)
    return pixel_values(problem, best) * across * problem.pitch * count * problem.itemsize


METHOD = Method("row-gemm", bind, refuses_integers, tile, cost, calls, memory, views=True)
