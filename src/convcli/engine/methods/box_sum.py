"""Box sums: a kernel that is one number all over, as sums of pairs, of pairs of pairs, and so on, along each axis.

About 2 log2(k) additions for each axis, whatever the weight, and no difference of large sums as running sums have it:
nothing cancels.
"""

import numpy as np

from convcli.engine.costs import COSTS
from convcli.engine.fold import fold, passes
from convcli.engine.problem import Array, Method, Problem, Runner, block_values, fit_tile, smallest_dtype
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair
from convcli.engine.suits import modest

VALUES = 1 << 19  # of a block: with its sums it stays in cache


def bind(problem: Problem, weight: Array) -> Runner:
    """One number for each pair of channels."""
    (kh, kw), (sy, sx), (dy, dx) = problem.window.kernel, problem.window.stride, problem.window.dilation
    factors = weight[:, :, 0, 0]

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        for channel, cells in enumerate(block):
            down = fold(np.add, cells, 0, kh, out.shape[1], scratch, stride=sy, dilation=dy)
            sums = fold(np.add, down, 1, kw, out.shape[2], scratch, stride=sx, dilation=dx)
            for total, factor in zip(out, factors[:, channel], strict=True):
                if channel == 0:
                    np.multiply(sums, factor, out=total)
                else:
                    total += sums * factor

    return run


def refuses(problem: Problem) -> str | None:
    """All but boxes."""
    return None if problem.uniform else "needs a kernel that is one number all over"


def tile(problem: Problem) -> Pair:
    """As much as stays in cache."""
    return fit_tile(problem, VALUES)


def cost(problem: Problem) -> float:
    """The passes of both folds, and one for each factor."""
    (kh, kw), (sy, sx) = problem.window.kernel, problem.window.stride
    rows, columns = tile(problem)
    again = problem.window.under(0, rows) / (rows * sy) * problem.window.under(1, columns) / (columns * sx)
    sums = problem.values // problem.outputs * problem.channels
    work = (
        sums * again * (passes(kh, sy, False, problem.pitch) * sx + passes(kw, sx, True, problem.pitch))
        + problem.values * problem.channels
    )
    return work * smallest_dtype(problem).itemsize * COSTS["box_sum.pass"]


def calls(problem: Problem) -> float:
    """The passes of both folds, for each channel."""
    return problem.channels * (sum(2 * size.bit_length() for size in problem.window.kernel) + problem.outputs)


def memory(problem: Problem) -> int:
    """Two arrays to double in along each axis, and what they come to: none larger than a channel of the block."""
    plane = block_values(problem, tile(problem)) // problem.channels
    return 6 * plane * smallest_dtype(problem).itemsize


METHOD = Method("box-sum", bind, refuses, tile, cost, calls, memory, suits=modest, dtype=smallest_dtype)
