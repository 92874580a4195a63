"""Banded GEMM: blocks of output rows as one matrix product and one sum of shifted rows.

Under ``B`` output rows lie ``tall`` input rows. A constant matrix multiplies them as they lie, without a copy: for each
kernel column it holds B rows, and row b of them has that column of the kernel, b strides further on: a banded Toeplitz
matrix. The product is a response for each kernel column; shifted by its place and summed, they are the result. BLAS
does the multiplications. The price is the zeros of the band, tall / kh times what is needed; a small B keeps it low.
All blocks of a tile are one call of ``matmul``, so that threads seldom wait for each other.

With a horizontal stride the input columns are first dealt out into phases, so that no product is in vain.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.costs import COSTS
from convcli.engine.problem import Array, Method, Problem, Runner
from convcli.engine.shapes import Pair

ROWS = 4  # of output in a block
PRODUCT_BYTES = 1 << 20  # of responses at a time: they are summed while in cache


def rows_of(problem: Problem) -> int:
    """Output rows of a block: fewer with a vertical stride, which makes the band emptier."""
    return max(1, min(ROWS // problem.window.stride[0], problem.window.output[0]))


def tall_of(problem: Problem, rows: int) -> int:
    """Input rows under ``rows`` output rows."""
    return problem.window.span(0, 0, rows)[1]


def bind(problem: Problem, weight: Array) -> Runner:
    """Build the band of each phase once; a runner multiplies and sums."""
    (sy, sx), (dy, dx) = problem.window.stride, problem.window.dilation
    outputs, channels, kh, kw = weight.shape
    rows = rows_of(problem)
    tall = tall_of(problem, rows)
    phases = []
    for phase in sorted({j * dx % sx for j in range(kw)}):
        taps = [j for j in range(kw) if j * dx % sx == phase]
        band = np.zeros((outputs, len(taps), rows, channels, tall), problem.dtype)
        for row in range(rows):
            first = row * sy
            band[:, :, row, :, first : first + (kh - 1) * dy + 1 : dy] = weight[..., taps].transpose(0, 3, 1, 2)
        phases.append((phase, [j * dx // sx for j in taps], band))

    def multiply(block: Array, out: Array, blocks: int, height: int) -> None:
        _, _, columns, pitch = out.shape
        depth = tall_of(problem, height)
        for phase, shifts, band in phases:
            width = columns + shifts[-1]
            cells = _windows(block[:, :, phase : phase + (width - 1) * sx + 1 : sx], blocks, rows * sy, depth)
            product = np.matmul(band[:, :, :height, :, :depth].reshape(-1, channels * depth), cells)
            responses = _shifted(product, blocks, height, columns * pitch, [shift * pitch for shift in shifts])
            results = out.reshape(outputs, blocks, height, columns * pitch)
            if phase == phases[0][0]:
                np.add.reduce(responses, axis=2, out=results)
            else:
                results += responses.sum(axis=2)

    def run(block: Array, out: Array) -> None:
        blocks, rest = divmod(out.shape[1], rows)
        whole = blocks * rows
        if blocks:
            multiply(block, out[:, :whole], blocks, rows)
        if rest:
            multiply(block[:, whole * sy :], out[:, whole:], 1, rest)

    return run


def _windows(block: Array, blocks: int, step: int, depth: int) -> Array:
    """``depth`` input rows under each block of output rows, ``(blocks, channels * depth, columns * pitch)``.

    A view of one channel, for BLAS takes rows at any distance; several channels are copied side by side.
    """
    channels, _, columns, pitch = block.shape
    channel, line, column, value = block.strides
    strides = (step * line, channel, line, column, value)
    windows = as_strided(block, (blocks, channels, depth, columns, pitch), strides)
    return windows.reshape(blocks, channels * depth, columns * pitch)


def _shifted(product: Array, blocks: int, height: int, length: int, shifts: list[int]) -> Array:
    """The product as ``(outputs, blocks, taps, rows, length)``, each tap read further right by its shift; a view."""
    taps = len(shifts)
    block, line, value = product.strides
    step = shifts[1] - shifts[0] if taps > 1 else 0
    strides = (taps * height * line, block, height * line + step * value, line, value)
    shape = product.shape[1] // (taps * height), blocks, taps, height, length
    return np.ndarray(shape, product.dtype, product, shifts[0] * value, strides)


def refuses(problem: Problem) -> str | None:
    """Only what BLAS can't multiply."""
    return (
        None if problem.dtype in ("float32", "float64") else "needs floats, and these integers exceed what floats hold"
    )


def tile(problem: Problem) -> Pair:
    """As many blocks of rows, or else columns, as keep the responses in cache."""
    rows, (height, width) = rows_of(problem), problem.window.output
    response = problem.outputs * problem.window.kernel[1] * rows * problem.pitch * problem.itemsize  # of one column
    columns = min(width, max(64, PRODUCT_BYTES // response))
    return min(height, rows * max(1, PRODUCT_BYTES // (response * columns))), columns


def cost(problem: Problem) -> float:
    """The products of the band, zeros included, and the sum over kernel columns."""
    rows, kw = rows_of(problem), problem.window.kernel[1]
    products = problem.values * problem.channels * kw * tall_of(problem, rows)
    return (products * COSTS["gemm.product"] + problem.values * kw * COSTS["sum.value"]) * problem.itemsize


def scratch(problem: Problem) -> int:
    """The bands and a block's responses."""
    rows, (height, columns) = rows_of(problem), tile(problem)
    bands = problem.outputs * problem.window.kernel[1] * rows * problem.channels * tall_of(problem, rows)
    responses = problem.outputs * problem.window.kernel[1] * height * columns * problem.pitch
    return (bands + responses) * problem.itemsize


METHOD = Method(
    "banded-gemm", "a block of rows as one product with a banded matrix", bind, refuses, tile, cost, scratch
)
