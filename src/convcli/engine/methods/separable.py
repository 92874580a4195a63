"""Separable and low-rank kernels: a sum of columns times rows, each row and column one product with a banded matrix.

From the left a band sums a block's rows, from the right its columns. The bands' zeros are the price: a block of B
outputs multiplies B + k - 1 numbers for each, in place of k. Values that lie side by side are spread over the
right-hand band where that costs less than to take them apart. A kernel of one row is the product from the right alone,
one of one column that from the left, unless a stride picks columns, which BLAS can only do by the way.
"""

from math import gcd

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.blas import copies, multiply
from convcli.engine.costs import COSTS, VECTOR, gemm_cost
from convcli.engine.problem import (
    Array,
    Method,
    Problem,
    Runner,
    count_tiles,
    fit_tile,
    refuses_parts,
)
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair
from convcli.engine.suits import modest

VALUES = 1 << 19  # of a block
ROWS = 128  # of it at least: products with columns gain from many
MOST_TERMS = 16  # with more of them another method is faster as a rule
LONG = 24  # columns from a kernel's first tap to its last above which a band for each value of a pixel is faster
FINEST = 2.0**-16  # of binary fractions: sums of finer ones with 8 bits would not be exact in float32
Term = tuple[Array, Array]  # a column (kh,) and a row (kw,)


def terms(kernel: Array, most: int = MOST_TERMS) -> list[Term] | None:
    """Columns and rows whose products add up to a kernel, or None where more than ``most`` would be needed.

    Cross approximation with full pivoting (Gaussian elimination, in other words): the greatest number that is left
    names the next column and row, until what is left all over is no more than the kernel's own rounding. A single
    product of whole numbers comes out in whole numbers, and one of binary fractions in such fractions and whole
    numbers, which leave ties ties: a 5x5 binomial filter has 256ths.
    """
    left = kernel.astype(np.float64)
    found: list[Term] = []
    eps, total = float(np.finfo(kernel.dtype).eps), float(np.abs(left).sum())
    units = (one for one in (1.0, FINEST) if total * eps < one and (left / one == np.rint(left / one)).all())
    unit, rounding = next(units, 0.0), 4 * eps * total
    enough = min(rounding, unit / 2) if unit else rounding
    while np.abs(left).sum() > enough:
        if len(found) == most:
            return None
        i, j = np.unravel_index(np.abs(left).argmax(), left.shape)
        row, divisor = left[i].copy(), left[i, j]
        if unit and not found:
            row /= unit * gcd(*(int(one) for one in row / unit))
            divisor = row[j]
        column = left[:, j] / divisor
        found.append((column, row))
        left -= np.outer(column, row)
        left[i], left[:, j] = 0, 0  # but for rounding they are
    return found


def rank(kernel: Array, exact: bool) -> int:
    """How many terms a kernel has, 0 if too many.

    An ``exact`` one may have a single term, of whole numbers: several could cancel beyond what their dtype holds.
    """
    found = terms(kernel, 1 if exact else MOST_TERMS)
    if found is None or (exact and any((part != np.rint(part)).any() for term in found for part in term)):
        return 0
    return max(1, len(found))


def bind(problem: Problem, weight: Array) -> Runner:
    """Lay the bands out once."""
    (sy, sx), (dy, dx), (from_left, from_right) = problem.window.stride, problem.window.dilation, products(problem)
    rows, columns = block_rows(problem), block_columns(problem)

    def lay(column: Array, row: Array) -> Term:
        """The bands of a term; where there is one product, it has the number of the other."""
        left = band(column if from_right else column * row, rows, sy, dy)
        right = np.kron(band(row if from_left else row * column, columns, sx, dx), np.eye(problem.pitch)).T
        return left.astype(weight.dtype), right.astype(weight.dtype, order="C")

    bands = [
        [(channel, *lay(*term)) for channel, kernel in enumerate(kernels) for term in terms(kernel) or ()]
        for kernels in weight
    ]

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        _, tall, wide, pitch = out.shape
        _, line, _, value = block.strides
        shape, length = (tall, wide * pitch), block.shape[2] * pitch
        for result, pairs in zip(out, bands, strict=True):
            if not pairs:
                result[...] = 0
            target = as_strided(result, shape, (result.strides[0], value))
            for number, (channel, left, right) in enumerate(pairs):
                into = scratch("sums", shape, out.dtype) if number else target
                lines = as_strided(block[channel], (block.shape[1], length), (line, value))
                if from_left:
                    down = scratch("down", (tall, length), out.dtype) if from_right else into
                    multiply_rows(left, rows * sy, lines, down)
                else:
                    down = lines[::sy]
                if from_right:
                    multiply_columns(down, columns * sx * pitch, right, into)
                if number:
                    target += into

    return run


def products(problem: Problem) -> tuple[bool, bool]:
    """Whether a term is a product from the left, and whether one from the right."""
    from_right = problem.window.kernel[1] > 1 or problem.window.stride[1] > 1
    return problem.window.kernel[0] > 1 or not from_right, from_right


def band(weights: Array, outputs: int, stride: int, dilation: int) -> Array:
    """``(outputs, inputs)``: row under row the weights, each a stride further on."""
    reach = (len(weights) - 1) * dilation + 1
    matrix = np.zeros((outputs, (outputs - 1) * stride + reach))
    for output, row in enumerate(matrix):
        row[output * stride : output * stride + reach : dilation] = weights
    return matrix


def multiply_rows(matrix: Array, step: int, cells: Array, out: Array) -> None:
    """``matrix`` times one block of rows after the other, ``step`` apart; all whole blocks are one call."""
    size, reach = matrix.shape
    count, rest = divmod(len(out), size)
    if count:
        (line, value), (out_line, out_value) = cells.strides, out.strides
        blocks = as_strided(cells, (count, reach, cells.shape[1]), (step * line, line, value))
        multiply(matrix, blocks, as_strided(out, (count, size, out.shape[1]), (size * out_line, out_line, out_value)))
    if rest:
        cells = cells[count * step :]
        multiply(matrix[:rest, : len(cells)], cells, out[count * size :])


def multiply_columns(cells: Array, step: int, matrix: Array, out: Array) -> None:
    """One block of columns after the other times ``matrix``, as :func:`multiply_rows` does it with rows.

    The same on transposed arrays would do, but BLAS takes longer to write columns.
    """
    reach, size = matrix.shape
    count, rest = divmod(out.shape[1], size)
    if count:
        (line, value), (out_line, out_value) = cells.strides, out.strides
        blocks = as_strided(cells, (count, len(cells), reach), (step * value, line, value))
        np.matmul(blocks, matrix, out=as_strided(out, (count, len(out), size), (size * out_value, out_line, out_value)))
    if rest:
        cells = cells[:, count * step :]
        np.matmul(cells, matrix[: cells.shape[1], :rest], out=out[:, count * size :])


# How many outputs a band makes at a time was measured: more of them make better use of BLAS, fewer keep the band full.


def block_rows(problem: Problem) -> int:
    """Output rows of the band from the left."""
    reach = problem.window.effective[0]
    return min(problem.window.output[0], 4 if reach <= 40 else 8 if reach <= 80 else 16)


def block_columns(problem: Problem) -> int:
    """Output columns of the band from the right: of values side by side as many as fill a vector."""
    columns = 16 if problem.pitch == 1 else max(1, VECTOR // problem.itemsize // problem.pitch)
    return min(problem.window.output[1], columns)


def planar(problem: Problem) -> bool:
    """Where a band for all that lie side by side would be copied, or have more zeros than they are worth."""
    return copies() or problem.window.effective[1] > LONG


def refuses(problem: Problem) -> str | None:
    """Kernels of many terms, whole numbers that its terms would not keep, and sums of columns that might overflow."""
    if refused := refuses_parts(problem):
        return refused
    if not problem.rank:
        return "finds no few columns and rows that make up the kernel" + ("" if problem.bound is None else " exactly")
    return None


def tile(problem: Problem) -> Pair:
    """Some blocks of rows."""
    return fit_tile(problem, VALUES, ROWS)


def cost(problem: Problem) -> float:
    """Both products of each term, and the making of the bands."""
    window, (tall, wide) = problem.window, tile(problem)
    down, across, pitch, size = block_rows(problem), block_columns(problem), problem.pitch, problem.itemsize
    pairs = problem.channels * problem.outputs * problem.rank
    tiles = count_tiles(problem, (tall, wide))
    left = gemm_cost(tall / down, down, window.under(0, down), window.under(1, wide) * pitch, size)
    right = gemm_cost(wide / across, tall, window.under(1, across) * pitch, across * pitch, size)
    from_left, from_right = products(problem)
    return pairs * (tiles * (from_left * left + from_right * right) + (down + across + 20) * COSTS["numpy.call"])


def calls(problem: Problem) -> float:
    """Up to five for each term."""
    return 5 * problem.rank * problem.channels * problem.outputs


def memory(problem: Problem) -> int:
    """The sums of columns, and what the rows make of them."""
    rows, columns = tile(problem)
    across = problem.window.under(1, columns)
    return rows * (across + columns) * problem.pitch * problem.itemsize


METHOD = Method("separable", bind, refuses, tile, cost, calls, memory, suits=modest, planar=planar)
