"""Winograd: two output rows under a kernel of three rows by four products in place of six.

F(2, 3) of S. Winograd, Arithmetic Complexity of Computations (1980), down the picture only, where sums of whole rows
are cheap: of the rows d under two outputs, and of the kernel's rows g,

    m0 = (d0 - d2) g0    m1 = (d1 + d2) (g0 + g1 + g2) / 2    m2 = (d2 - d1) (g0 - g1 + g2) / 2    m3 = (d1 - d3) g2

make up the rows m0 + m1 + m2 and m1 - m2 - m3. Each m is a matrix product over all channels and kernel columns, so that
the sums before and after it are little beside it where there are many channels.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.costs import COSTS, gemm_cost
from convcli.engine.methods import im2col
from convcli.engine.problem import LARGEST_SUM, Array, Method, Problem, Runner, fit_tile, modest, refuses_integers
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair

BLOCK = 1 << 19  # values of a tile's input
VALUES = 1 << 19  # of sums at a time, unless two rows have more
NARROWEST = 64  # columns of a tile
LARGEST_EXACT = {"float32": 2**21, "float64": 2**50}  # an eighth of what these hold exactly


def bind(problem: Problem, weight: Array) -> Runner:
    """Add up the kernel's rows once; an odd row that is left over is done by ``im2col``, as are enormous weights."""
    sx, dx = problem.window.stride[1], problem.window.dilation[1]
    outputs, channels, _, kw = weight.shape
    g0, g1, g2 = weight.transpose(2, 0, 1, 3)
    even, odd = (g0 + g2) / 2, g1 / 2
    matrices = np.stack([g0, even + odd, even - odd, g2]).reshape(4, outputs, channels * kw)
    rest = im2col.bind(problem, weight)
    if np.abs(weight).sum(axis=(1, 2, 3)).max() > LARGEST_SUM:
        return rest

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        _, rows, columns, pitch = out.shape
        plane, line, column, value = block.strides
        step, shape = pairs_at_once(problem, columns), (columns, pitch)
        shifts = line, plane, dx * column, 2 * line, sx * column, value
        d = as_strided(block, (4, channels, kw, rows // 2, *shape), shifts)
        pairs = out[:, : rows - rows % 2].reshape(outputs, rows // 2, 2, *shape)
        for top in range(0, rows // 2, step):
            some = slice(top, top + step)
            d0, d1, d2, d3 = d[:, :, :, some]
            first, second = pairs[:, some, 0], pairs[:, some, 1]
            cells = scratch("cells", (4, *d0.shape), out.dtype)
            m = scratch("products", (4, *first.shape), out.dtype)
            np.subtract(d0, d2, out=cells[0])
            np.add(d1, d2, out=cells[1])
            np.subtract(d2, d1, out=cells[2])
            np.subtract(d1, d3, out=cells[3])
            np.matmul(matrices, cells.reshape(4, channels * kw, -1), out=m.reshape(4, outputs, -1))
            np.add(m[0], m[1], out=first)
            first += m[2]
            np.subtract(m[1], m[2], out=second)
            second -= m[3]
        if rows % 2:
            rest(block[:, rows - 1 :], out[:, rows - 1 :], scratch)

    return run


def pairs_at_once(problem: Problem, columns: int) -> int:
    """Pairs of rows."""
    return max(1, VALUES // (4 * problem.channels * problem.window.kernel[1] * columns * problem.pitch))


def refuses(problem: Problem) -> str | None:
    """Kernels of other than three rows, and sums of integers that would not be exact: parts of them are four times as
    large, and halves."""
    window = problem.window
    if (window.kernel[0], window.stride[0], window.dilation[0]) != (3, 1, 1):
        return "needs a kernel of three rows, without a stride or dilation down the picture"
    if problem.bound is not None and problem.bound >= LARGEST_EXACT.get(problem.dtype, 0):
        return "would not be exact for sums this large"
    return refuses_integers(problem)


def tile(problem: Problem) -> Pair:
    """Pairs of rows, so wide that the sums of one pair are not too many."""
    rows, columns = fit_tile(problem, BLOCK, 2)
    fitting = max(NARROWEST, VALUES // (4 * problem.channels * problem.window.kernel[1] * problem.pitch))
    return rows - rows % 2 if rows > 1 else rows, min(columns, fitting)


def cost(problem: Problem) -> float:
    """Four products for each pair of rows, two sums for each value of a row and for each of the result."""
    columns, depth = tile(problem)[1], problem.channels * problem.window.kernel[1]
    length = columns * problem.pitch * pairs_at_once(problem, columns)
    products = 2 * problem.values / (problem.outputs * length)
    sums = 2 * problem.values * (1 + depth / problem.outputs)
    each = problem.itemsize * COSTS["winograd.sum"] + COSTS["copy.run"] / (columns * problem.pitch)
    return gemm_cost(products, problem.outputs, depth, length, problem.itemsize) + sums * each


def calls(problem: Problem) -> float:
    """Nine for some pairs of rows."""
    rows, columns = tile(problem)
    return 9 * rows / (2 * pairs_at_once(problem, columns))


def memory(problem: Problem) -> int:
    """The sums of some pairs of rows, their products, and what is left over."""
    columns = tile(problem)[1]
    depth = problem.channels * problem.window.kernel[1]
    pairs = pairs_at_once(problem, columns)
    sums = 4 * pairs * (depth + problem.outputs) * columns * problem.pitch
    row = im2col.depth(problem) * columns * problem.pitch  # that is left over
    return sums * problem.itemsize + max(row * problem.itemsize, im2col.memory(problem))


METHOD = Method("winograd", bind, refuses, tile, cost, calls, memory, suits=modest, grid=True)
