"""Winograd: four output rows under a kernel of three rows by six products in place of twelve.

F(4, 3) of S. Winograd, Arithmetic Complexity of Computations (1980), down the picture only, where whole rows are added
up. Of the six rows d under four outputs y, and of the kernel's rows g,

    y = A' ((G g) * (B' d))

with matrices that A. Lavin and S. Gray (arXiv:1509.09308) write like this. Where ``powers(n)`` has a row for each of
five points and infinity, which times n coefficients are the values of a polynomial there, A is ``powers(4)``, G
``powers(3)``, and B the inverse of ``powers(6)``.

Each of the six products is one of matrices, over all channels and kernel columns, so that the sums before and after it
are little beside it where there are many channels. These are products, too, since BLAS adds rows up faster than NumPy.
Rows that an output's window does not hold cancel but for their rounding, so that none may be far larger than another.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.blas import multiply
from convcli.engine.costs import copy_cost, gemm_cost
from convcli.engine.methods import im2col
from convcli.engine.problem import (
    Array,
    Method,
    Problem,
    Runner,
    fit_tile,
    refuses_rounding,
    rounded_dtype,
    share_out,
)
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair
from convcli.engine.suits import dark_in_part, line_energies

BLOCK = 1 << 19  # values of a tile's input
VALUES = 1 << 19  # of shifted sums at a time, unless four rows have more
NARROWEST = 64  # columns of a tile
SUMS = 9  # passes over a row of every kernel that its sums take, about
POINTS = 0, 3 / 4, -3 / 4, 3 / 2, -3 / 2  # with 1 and 2 results would err half as much again
UNLIKE = 30  # times as large as another a row may be, whose results then err as many times as much
TAPS, ROWS, PRODUCTS = 3, len(POINTS) - 1, len(POINTS) + 1


def powers(count: int) -> Array:
    """``(PRODUCTS, count)``: the powers of each point, and of infinity, where the highest alone counts."""
    return np.vstack([np.vander(POINTS, count, increasing=True), np.eye(count)[-1]])


def bind(problem: Problem, weight: Array) -> Runner:
    """Add up the kernel's rows once; rows that are left over are done by ``im2col``."""
    sx, dx = problem.window.stride[1], problem.window.dilation[1]
    outputs, channels, _, kw = weight.shape
    rest = im2col.bind(problem, weight)
    taps = weight.transpose(2, 0, 1, 3).reshape(TAPS, -1)
    matrices = (powers(TAPS).astype(weight.dtype) @ taps).reshape(PRODUCTS, outputs, channels * kw)
    before, after = np.linalg.inv(powers(PRODUCTS)).T.astype(weight.dtype), powers(ROWS).T.astype(weight.dtype)

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        _, rows, columns, pitch = out.shape
        plane, line, column, value = block.strides
        whole, step = rows // ROWS, fours_at_once(problem, columns)
        across, length = block.shape[2] * pitch, columns * pitch
        under = as_strided(block, (channels, whole, PRODUCTS, across), (plane, ROWS * line, line, value))
        fours = out[:, : whole * ROWS].reshape(outputs, whole, ROWS, length)
        for top in range(0, whole, step):
            some = under[:, top : top + step]
            count = some.shape[1]
            sums = scratch("sums", (PRODUCTS, channels, count, across), out.dtype)
            cells = scratch("cells", (PRODUCTS, channels, kw, count, columns, pitch), out.dtype)
            products = scratch("products", (PRODUCTS, outputs, count, length), out.dtype)
            np.matmul(before, some, out=sums.transpose(1, 2, 0, 3))
            shifts = *sums.strides[:2], dx * column, sums.strides[2], sx * column, value
            cells[...] = as_strided(sums, cells.shape, shifts)
            flat = products.reshape(PRODUCTS, outputs, -1)
            multiply(matrices, cells.reshape(PRODUCTS, channels * kw, -1), flat)
            np.matmul(after, products.transpose(1, 2, 0, 3), out=fours[:, top : top + step])
        if problem.bound is not None:
            np.rint(fours, out=fours)
        if rows % ROWS:
            rest(block[:, whole * ROWS :], out[:, whole * ROWS :], scratch)

    return run


def fours_at_once(problem: Problem, columns: int) -> int:
    """How many fours of output rows are done at a time, so that their shifted sums stay in cache."""
    return max(1, VALUES // (PRODUCTS * problem.channels * problem.window.kernel[1] * columns * problem.pitch))


def refuses(problem: Problem) -> str | None:
    """Kernels of other than three rows, and integers that rounding would not restore."""
    window = problem.window
    if (window.kernel[0], window.stride[0], window.dilation[0]) != (TAPS, 1, 1):
        return "needs a kernel of three rows, without a stride or dilation down the picture"
    return refuses_rounding(problem)


def tile(problem: Problem) -> Pair:
    """Fours of rows, so wide that the sums of one are not too many."""
    rows, columns = fit_tile(problem, BLOCK, ROWS)
    fitting = max(NARROWEST, VALUES // (PRODUCTS * problem.channels * problem.window.kernel[1] * problem.pitch))
    height, width = problem.window.output
    return min(height, -(-rows // ROWS) * ROWS), share_out(width, min(columns, fitting))


def cost(problem: Problem) -> float:
    """Six products for four rows, the sums before and after them, shifted copies, the kernel's sums, and the rest."""
    (rows, columns), depth = tile(problem), problem.channels * problem.window.kernel[1]
    size = rounded_dtype(problem).itemsize
    length, pitch, stride = columns * problem.pitch, problem.pitch, problem.window.stride[1]
    height = problem.window.output[0]
    left_over = height % ROWS / height
    fours = (1 - left_over) * problem.values / (ROWS * problem.outputs * length)
    together = min(fours_at_once(problem, columns), max(1, rows // ROWS))
    return (
        gemm_cost(PRODUCTS * fours / together, problem.outputs, depth, length * together, size)
        + gemm_cost(fours * problem.channels, PRODUCTS, PRODUCTS, length * stride, size)
        + gemm_cost(fours * problem.outputs, ROWS, PRODUCTS, length, size)
        + copy_cost(PRODUCTS * fours * depth * length, columns, pitch, stride, size)
        + copy_cost(SUMS * problem.outputs * depth, problem.window.kernel[1], 1, 1, size)
        + left_over * im2col.cost(problem)
    )


def calls(problem: Problem) -> float:
    """Four for some fours of rows, ten views of them, and five views of the tile."""
    rows, columns = tile(problem)
    return 5 + 14 * rows / (ROWS * fours_at_once(problem, columns))


def memory(problem: Problem) -> int:
    """The sums of some fours of rows, copied and not, their products, and what is left over."""
    rows, columns = tile(problem)
    depth = problem.channels * problem.window.kernel[1]
    across = problem.window.under(1, columns)
    values = problem.channels * across + (depth + problem.outputs) * columns
    sums = PRODUCTS * fours_at_once(problem, columns) * values
    rest = im2col.depth(problem) * min(rows, im2col.stretch(problem, columns)) * columns
    return (sums + rest) * problem.pitch * rounded_dtype(problem).itemsize


def comparable(block: Array) -> bool:
    """Whether all numbers are finite and far from overflow, and neither a row nor an area is so large that its rounding
    would show in what is under another: nodata of -9999, say. Rows of zeros do not count, for pads are.
    """
    energies = line_energies(block).sum(axis=0)
    most, least = energies.max(), energies[energies > 0].min(initial=np.inf)
    return bool(np.isfinite(most) and most <= UNLIKE**2 * least and not dark_in_part(block, float(energies.sum())))


METHOD = Method("winograd", bind, refuses, tile, cost, calls, memory, suits=comparable, dtype=rounded_dtype)
