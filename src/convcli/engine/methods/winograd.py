"""Winograd: two output rows under a kernel of three rows by four products in place of six.

F(2, 3) of S. Winograd, Arithmetic Complexity of Computations (1980), down the picture only, where whole rows are added
up: of the rows d under two outputs, and of the kernel's rows g,

    m0 = (d0 - d2) g0    m1 = (d1 + d2) (g0 + g1 + g2) / 2    m2 = (d2 - d1) (g0 - g1 + g2) / 2    m3 = (d1 - d3) g2

make up the rows m0 + m1 + m2 and m1 - m2 - m3. Each m is a matrix product over all channels and kernel columns, so that
the sums before and after it are little beside it where there are many channels. These are products, too, since
BLAS adds rows up faster than NumPy; that a NaN would meet their zeros is one more reason for numbers to be modest.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.blas import multiply
from convcli.engine.costs import copy_cost, gemm_cost
from convcli.engine.methods import im2col
from convcli.engine.problem import LARGEST_SUM, Array, Method, Problem, Runner, fit_tile, modest, refuses_integers
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair

BLOCK = 1 << 19  # values of a tile's input
VALUES = 1 << 19  # of shifted sums at a time, unless two rows have more
NARROWEST = 64  # columns of a tile
SUMS = 9  # passes over a row of every kernel that its sums take, about
LARGEST_EXACT = {"float32": 2**21, "float64": 2**50}  # an eighth of what these hold exactly
BEFORE = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]  # times d: what the kernel's sums multiply
AFTER = [[1, 1, 1, 0], [0, 1, -1, -1]]  # times m: two rows


def bind(problem: Problem, weight: Array) -> Runner:
    """Add up the kernel's rows once; an odd row that is left over is done by ``im2col``, as are enormous weights."""
    sx, dx = problem.window.stride[1], problem.window.dilation[1]
    outputs, channels, _, kw = weight.shape
    g0, g1, g2 = np.ascontiguousarray(weight.transpose(2, 0, 1, 3))
    even, odd = (g0 + g2) / 2, g1 / 2
    matrices = np.stack([g0, even + odd, even - odd, g2]).reshape(4, outputs, channels * kw)
    before, after = np.array(BEFORE, weight.dtype), np.array(AFTER, weight.dtype)
    rest = im2col.bind(problem, weight)
    if np.abs(weight).sum(axis=(1, 2, 3)).max() > LARGEST_SUM:
        return rest

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        _, rows, columns, pitch = out.shape
        plane, line, column, value = block.strides
        step, across, length = pairs_at_once(problem, columns), block.shape[2] * pitch, columns * pitch
        d = as_strided(block, (channels, rows // 2, 4, across), (plane, 2 * line, line, value))
        pairs = out[:, : rows - rows % 2].reshape(outputs, rows // 2, 2, length)
        for top in range(0, rows // 2, step):
            some = d[:, top : top + step]
            count = some.shape[1]
            sums = scratch("sums", (4, channels, count, across), out.dtype)
            cells = scratch("cells", (4, channels, kw, count, columns, pitch), out.dtype)
            m = scratch("products", (4, outputs, count, length), out.dtype)
            np.matmul(before, some, out=sums.transpose(1, 2, 0, 3))
            shifts = *sums.strides[:2], dx * column, sums.strides[2], sx * column, value
            cells[...] = as_strided(sums, cells.shape, shifts)
            multiply(matrices, cells.reshape(4, channels * kw, -1), m.reshape(4, outputs, -1))
            np.matmul(after, m.transpose(1, 2, 0, 3), out=pairs[:, top : top + step])
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
    height, width = problem.window.output
    return min(height, rows + rows % 2), -(-width // -(-width // min(columns, fitting)))


def cost(problem: Problem) -> float:
    """Four products for each pair of rows, the sums before and after them, shifted copies, and the kernel's sums."""
    columns, depth, size = tile(problem)[1], problem.channels * problem.window.kernel[1], problem.itemsize
    length, pitch, stride = columns * problem.pitch, problem.pitch, problem.window.stride[1]
    pairs = problem.values / (2 * problem.outputs * length)
    together = pairs_at_once(problem, columns)
    return (
        gemm_cost(4 * pairs / together, problem.outputs, depth, length * together, size)
        + gemm_cost(pairs * problem.channels, 4, 4, length * stride, size)
        + gemm_cost(pairs * problem.outputs, 2, 4, length, size)
        + copy_cost(4 * pairs * depth * length, columns, pitch, stride, size)
        + copy_cost(SUMS * problem.outputs * depth, problem.window.kernel[1], 1, 1, size)
    )


def calls(problem: Problem) -> float:
    """Four for some pairs of rows, ten views of them, and five views of the tile."""
    rows, columns = tile(problem)
    return 5 + 14 * rows / (2 * pairs_at_once(problem, columns))


def memory(problem: Problem) -> int:
    """The sums of some pairs of rows, copied and not, their products, and what is left over."""
    columns = tile(problem)[1]
    depth = problem.channels * problem.window.kernel[1]
    across = problem.window.span(1, 0, columns)[1]
    values = problem.channels * across + (depth + problem.outputs) * columns
    row = im2col.depth(problem) * columns * problem.pitch  # that is left over
    sums = 4 * pairs_at_once(problem, columns) * values * problem.pitch
    return sums * problem.itemsize + max(row * problem.itemsize, im2col.memory(problem))


METHOD = Method("winograd", bind, refuses, tile, cost, calls, memory, suits=modest)
