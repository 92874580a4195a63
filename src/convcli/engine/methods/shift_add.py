"""Shift and add: for every tap of the kernel, a shifted view of the block times one number. The plain way.

Taps of equal magnitude are added up first and multiplied once. Sums of integers are computed in the smallest integers
that hold them: 8-bit pictures under small kernels in int16, half the memory of floats.
"""

from itertools import groupby

import numpy as np

from convcli.engine.costs import COSTS
from convcli.engine.problem import Array, Method, Problem, Runner, fit_tile, modest, smallest_dtype
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair, Window

VALUES = 1 << 19  # of a block: with sums and terms it stays in cache


def bind(problem: Problem, weight: Array) -> Runner:
    """Group the taps of each output by magnitude, the greatest and the positive ones first, leaving zeros out."""
    plans = []
    for kernels in weight:
        taps = [(kernels[place], place) for place in np.ndindex(*kernels.shape) if kernels[place] != 0]
        taps.sort(key=lambda tap: (-abs(tap[0]), tap[0] < 0))
        plans.append([(size, list(group)) for size, group in groupby(taps, key=lambda tap: abs(tap[0]))])

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        term = scratch("term", out.shape[1:], out.dtype)
        for total, groups in zip(out, plans, strict=True):
            if not groups:
                total[...] = 0
            for number, (size, taps) in enumerate(groups):
                cells = [(value, shifted(problem.window, block, place, total.shape)) for value, place in taps]
                if number and size == 1:
                    add(cells, total)
                    continue
                target = term if number else total
                if len(cells) == 1:
                    np.multiply(cells[0][1], cells[0][0], out=target)
                else:
                    np.multiply(cells[0][1], np.sign(cells[0][0]), out=target)
                    add(cells[1:], target)
                    if size != 1:
                        target *= size
                if number:
                    total += term

    return run


def add(cells: list[tuple[float, Array]], out: Array) -> None:
    """Add arrays to ``out``, those of negative taps with a minus."""
    for value, array in cells:
        (np.add if value > 0 else np.subtract)(out, array, out=out)


def shifted(window: Window, block: Array, place: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The cells that a tap ``(channel, row, column)`` meets, one for each output ``(rows, columns, P)``."""
    channel, i, j = place
    (sy, sx), (dy, dx) = window.stride, window.dilation
    rows = slice(i * dy, i * dy + (shape[0] - 1) * sy + 1, sy)
    return block[channel, rows, j * dx : j * dx + (shape[1] - 1) * sx + 1 : sx]


def refuses(_problem: Problem) -> str | None:
    """It can do everything."""
    return None


def tile(problem: Problem) -> Pair:
    """Rows as wide as the picture."""
    return fit_tile(problem, VALUES * 4 // np.dtype(smallest_dtype(problem)).itemsize)


def cost(problem: Problem) -> float:
    """A pass over a block in cache for each tap that is not zero; a gathering one where the stride leaves columns out.

    Taps of equal magnitude share their multiplication; how many do is not known here.
    """
    kind = np.dtype(smallest_dtype(problem))
    strided = "strided" if problem.window.stride[1] > 1 else "tap"
    return problem.values * problem.taps / problem.outputs * kind.itemsize * COSTS[f"shift_add.{strided}"]


def calls(problem: Problem) -> float:
    """For each tap an operation and a view."""
    return 2 * problem.taps


def memory(problem: Problem) -> int:
    """The term."""
    rows, columns = tile(problem)
    return rows * columns * problem.pitch * np.dtype(smallest_dtype(problem)).itemsize


METHOD = Method("shift-add", bind, refuses, tile, cost, calls, memory, suits=modest, dtype=smallest_dtype)
