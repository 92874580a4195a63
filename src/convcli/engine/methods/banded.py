"""Banded GEMM: a block of output rows is one matrix product.

For ``B`` output rows, the columns-shifted copies of the input rows below them are stacked (one copy for each kernel
column) and multiplied by a constant matrix whose row b holds the kernel, b strides further right: a banded Toeplitz
matrix. BLAS does all the arithmetic. The zeros of the band are the price: (tall / kh) times the multiply-adds that are
needed, which good cache use repays many times.
"""

import numpy as np

from convcli.engine.costs import COSTS
from convcli.engine.problem import Array, Method, Problem, Runner, fit_tile
from convcli.engine.shapes import Pair

TILE_BYTES = 1 << 19


def rows_of(problem: Problem) -> int:
    """Output rows of a block: enough to share the stacked rows, not so many that zeros outweigh that."""
    return 8 if problem.window.kernel[0] <= 5 else 16


def tall_of(problem: Problem, rows: int) -> int:
    """Input rows under ``rows`` output rows."""
    return problem.window.span(0, 0, rows)[1]


def bind(problem: Problem, weight: Array) -> Runner:
    """Build the band once; a runner stacks and multiplies."""
    (sy, sx), (dy, dx) = problem.window.stride, problem.window.dilation
    outputs, channels, kh, kw = weight.shape
    rows = min(rows_of(problem), problem.window.output[0])
    tall = tall_of(problem, rows)
    band = np.zeros((outputs, rows, channels, kw, tall), problem.dtype)
    for row in range(rows):
        first = row * sy
        band[:, row, :, :, first : first + (kh - 1) * dy + 1 : dy] = weight.swapaxes(2, 3)
    stack = np.empty((0,) * 5, problem.dtype)

    def multiply(block: Array, out: Array) -> None:
        nonlocal stack
        _, height, columns, pitch = out.shape
        depth = tall_of(problem, height)
        shape = (channels, kw, depth, columns, pitch)
        if stack.shape != shape:
            stack = np.empty(shape, problem.dtype)
        for j in range(kw):
            stack[:, j] = block[:, :depth, j * dx : j * dx + (columns - 1) * sx + 1 : sx]
        matrix = band[:, :height, :, :, :depth].reshape(outputs, height, -1)
        np.matmul(matrix, stack.reshape(-1, columns * pitch), out=out.reshape(outputs, height, -1))

    def run(block: Array, out: Array) -> None:
        for row in range(0, out.shape[1], rows):
            multiply(block[:, row * sy :], out[:, row : row + rows])

    return run


def refuses(problem: Problem) -> str | None:
    """Only what BLAS can't multiply."""
    return (
        None if problem.dtype in ("float32", "float64") else "needs floats, and these integers exceed what floats hold"
    )


def tile(problem: Problem) -> Pair:
    """Some blocks of rows, and no more columns than keep one in cache."""
    return fit_tile(problem, rows_of(problem), TILE_BYTES)


def cost(problem: Problem) -> float:
    """The products of the band, zeros included, and the copies into the stack."""
    rows = min(rows_of(problem), problem.window.output[0])
    tall = tall_of(problem, rows)
    kw = problem.window.kernel[1]
    products = problem.values * problem.channels * kw * tall
    copies = problem.values / problem.outputs * problem.channels * kw * tall / rows
    return (products * COSTS["gemm.product"] + copies * COSTS["copy.value"]) * problem.itemsize


def scratch(problem: Problem) -> int:
    """The band and the stack."""
    rows, columns = rows_of(problem), tile(problem)[1]
    tall, kw = tall_of(problem, rows), problem.window.kernel[1]
    stack = problem.channels * kw * tall * columns * problem.pitch
    return (stack + problem.outputs * rows * problem.channels * kw * tall) * problem.itemsize


METHOD = Method(
    "banded-gemm", "a block of rows as one product with a banded matrix", bind, refuses, tile, cost, scratch
)
