"""Box sums: a kernel that is one number all over, as sums of pairs, of pairs of pairs, and so on, along each axis.

About 2 log2(k) additions for each axis, whatever the weight, and no difference of large sums as running sums have it:
nothing cancels, and a NaN stays within its windows.
"""

import numpy as np

from convcli.engine.costs import COSTS
from convcli.engine.fold import fold, passes
from convcli.engine.methods.shift_add import dtype
from convcli.engine.problem import Array, Method, Problem, Runner, fit_tile
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair

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
    """About as high as the kernel, or the rows above a tile would be summed again and again."""
    return fit_tile(problem, VALUES, min(problem.window.output[0], max(16, problem.window.effective[0])))


def cost(problem: Problem) -> float:
    """The passes of both folds, and one for each factor."""
    (kh, kw), (sy, sx) = problem.window.kernel, problem.window.stride
    rows, columns = tile(problem)
    again = ((rows - 1) * sy + problem.window.effective[0]) / (rows * sy)
    again *= ((columns - 1) * sx + problem.window.effective[1]) / (columns * sx)
    sums = problem.values // problem.outputs * problem.channels
    work = sums * again * (passes(kh, sy) * sx + passes(kw, sx)) + problem.values * problem.channels
    return work * np.dtype(dtype(problem)).itemsize * COSTS["box_sum.pass"]


def calls(problem: Problem) -> float:
    """The passes of both folds, for each channel."""
    return problem.channels * (sum(2 * size.bit_length() for size in problem.window.kernel) + problem.outputs)


def scratch(problem: Problem) -> int:
    """The sums of each doubling."""
    levels = sum(size.bit_length() for size in problem.window.kernel)
    return VALUES * levels * np.dtype(dtype(problem)).itemsize


METHOD = Method(
    "box-sum",
    "sums of pairs, and of pairs of pairs, for one number all over",
    bind,
    refuses,
    tile,
    cost,
    calls,
    scratch,
    faithful=True,
    dtype=dtype,
)
