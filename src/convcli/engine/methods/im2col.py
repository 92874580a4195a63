"""im2col: the window of every output pixel of a tile as one column of a matrix, all outputs as one product.

The copy costs a pass for each tap, little beside the product when there are many outputs. Rows shorter than BLAS likes
are no trouble here, for a tile's rows are one long row; nor are many small groups, whose products are one call.
"""

from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.blas import multiply
from convcli.engine.costs import copy_cost, gemm_cost
from convcli.engine.problem import Array, Method, Problem, Runner, refuses_integers
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair

VALUES = 1 << 21  # of a tile's columns: fewer are more calls, for which threads wait
SINGLE = 1 << 18  # of them at a time for one output: that product is as fast as memory, so they had better be in cache


def bind(problem: Problem, weight: Array) -> Runner:
    """The weight as a matrix for each group; a runner copies the windows and multiplies."""
    (sy, sx), (dy, dx) = problem.window.stride, problem.window.dilation
    groups = len(weight) // problem.outputs
    matrices = np.ascontiguousarray(weight).reshape(groups, problem.outputs, depth(problem))

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        _, rows, columns, pitch = out.shape
        plane, line, column, value = block.strides
        step = stretch(problem, columns)
        shifts = plane, dy * line, dx * column, sy * line, sx * column, value
        windows = as_strided(block, (len(block), *weight.shape[2:], rows, columns, pitch), shifts)
        for top in range(0, rows, step):
            target, under = out[:, top : top + step], windows[:, :, :, top : top + step]
            cells = scratch("columns", under.shape, out.dtype)
            cells[...] = under
            flat = target.reshape(groups, problem.outputs, -1)
            multiply(matrices, cells.reshape(groups, depth(problem), -1), flat)
            if not np.may_share_memory(flat, target):  # the tile does not span whole rows, so that was a copy
                target[...] = flat.reshape(target.shape)

    return run


def depth(problem: Problem) -> int:
    """Numbers under a window."""
    kh, kw = problem.window.kernel
    return problem.channels * kh * kw


def stretch(problem: Problem, columns: int) -> int:
    """How many output rows are done at a time, so that the columns of their windows stay in cache."""
    values = SINGLE if problem.outputs == 1 else VALUES
    return max(1, values // (problem.groups * depth(problem) * columns * problem.pitch))


def tile(problem: Problem) -> Pair:
    """Whole rows as long as they fit, the block as well, of which a small kernel with a large stride uses little."""
    height, width = problem.window.output
    met = problem.channels * prod(problem.window.stride)  # cells of the block for each output
    pixels = max(1, VALUES // (max(depth(problem), met) * problem.pitch))
    return min(height, max(1, pixels // width)), min(width, max(pixels, 16))


def cost(problem: Problem) -> float:
    """The copy of each tap, and a product for each tile."""
    rows, columns = tile(problem)
    pixels, length = problem.values // problem.outputs, rows * columns * problem.pitch
    stride = problem.window.stride[1]
    copies = copy_cost(pixels * depth(problem), columns, problem.pitch, stride, problem.itemsize)
    return copies + gemm_cost(pixels / length, problem.outputs, depth(problem), length, problem.itemsize)


def calls(_problem: Problem) -> float:
    """The copy, the product and their views."""
    return 5


def memory(problem: Problem) -> int:
    """The columns of a stretch."""
    rows, columns = tile(problem)
    under = problem.groups * depth(problem) * min(rows, stretch(problem, columns)) * columns
    return under * problem.pitch * problem.itemsize


METHOD = Method("im2col", bind, refuses_integers, tile, cost, calls, memory, grouped=True)
