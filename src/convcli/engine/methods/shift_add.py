"""Shift and add: for every tap of the kernel, a shifted view of the block times one number. The plain way.

Taps of equal magnitude are added up first and multiplied once. Sums of integers are computed in the smallest integers
that hold them: 8-bit pictures under small kernels in int16, half the memory of floats. Their kernels are first taken
apart, into a column times a row and the taps that remain, where that makes for fewer additions. Whatever the parts come
to, the sum is exact, since integers that overflow wrap around and back.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from convcli.engine.costs import COSTS
from convcli.engine.methods.separable import terms
from convcli.engine.problem import Array, Method, Problem, Runner, fit_tile, smallest_dtype
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair, Window
from convcli.engine.suits import modest

VALUES = 1 << 19  # of a block: with sums and terms it stays in cache
MOST_OUTPUTS = 8  # of all groups, eight directions say: to take the kernels of more apart takes longer than it saves

Tap = tuple[float, tuple[int, ...]]  # a number that is not 0, and its place: channel, row, column


def bind(problem: Problem, weight: Array) -> Runner:
    """Take each output's kernels apart once."""
    window = problem.window
    across, down = window._replace(stride=(1, window.stride[1])), window._replace(stride=(window.stride[0], 1))
    few = problem.outputs * problem.weights <= MOST_OUTPUTS
    plans = [[grouped(part) for part in (parts(kernels) if few else whole(kernels))] for kernels in weight]

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        for total, (rest, row, column) in zip(out, plans, strict=True):
            if rest or not column:
                weigh(rest, window, block, total, scratch)
            if column:
                sums = scratch("sums", (block.shape[1], *total.shape[1:]), out.dtype)
                weigh(row, across, block, sums, scratch)
                weigh(column, down, sums[None], total, scratch, more=bool(rest))

    return run


def whole(kernels: Array) -> Sequence[Array]:
    """Kernels ``(channels, kh, kw)`` as the rest beside a row and a column of zeros."""
    return kernels, 0 * kernels[:, :1], 0 * kernels[:, :, :1]


def parts(kernels: Array) -> Sequence[Array]:
    """The rest, the row and the column of kernels ``(channels, kh, kw)``; the latter are 0 if they save nothing."""
    choices = [whole(kernels)]
    if kernels.dtype.kind == "i" and len(kernels) == 1 and kernels.any():
        kernel = kernels[0].astype(np.float64)
        numbers, counts = np.unique(kernel[kernel != 0], return_counts=True)
        box = np.full(len(kernel), numbers[counts.argmax()]), np.ones(kernel.shape[1])
        for column, row in (box, *(terms(kernel, 1) or ())):
            with np.errstate(invalid="ignore"):  # 2**63 in a float: what that makes of it is made up for by the rest
                down, across = (part.astype(np.int64).astype(kernels.dtype) for part in (column, row))
            choices.append([kernels - np.outer(down, across), across[None, None], down[None, :, None]])
    return min(choices, key=lambda choice: sum(np.count_nonzero(part) for part in choice))


def additions(weight: Array, outputs: int) -> int:
    """How many taps there are to add up in a weight, taken apart unless there are many ``outputs`` in all groups."""
    if outputs > MOST_OUTPUTS:
        return int(np.count_nonzero(weight))
    return sum(int(np.count_nonzero(part)) for kernels in weight for part in parts(kernels))


def grouped(kernels: Array) -> list[list[Tap]]:
    """Taps by magnitude, the greatest and the positive ones first, without zeros."""
    taps = [(kernels.item(place), place) for place in np.ndindex(*kernels.shape) if kernels[place] != 0]
    taps.sort(key=lambda tap: (-abs(tap[0]), tap[0] < 0))
    return [list(group) for _, group in groupby(taps, key=lambda tap: abs(tap[0]))]


def weigh(
    groups: list[list[Tap]], window: Window, block: Array, total: Array, scratch: Scratch, *, more: bool = False
) -> None:
    """The weighted sum of a block's cells in ``total`` ``(rows, columns, P)``, or on top of what it holds."""
    term = scratch("term", total.shape, total.dtype)
    if not groups:
        total[...] = 0
    for taps in groups:
        cells = [(value, shifted(window, block, place, total.shape)) for value, place in taps]
        target = term if more and abs(taps[0][0]) != 1 else total
        (factor, done), *others = [(1, total), *cells] if more and target is total else cells
        for value, cell in others:
            done = (np.add if value == factor else np.subtract)(done, cell, out=target)
        if not others:
            np.multiply(done, factor, out=target)
        elif factor != 1:
            target *= factor
        if target is term:
            total += term
        more = True


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
    """As much as stays in cache."""
    return fit_tile(problem, VALUES * 4 // smallest_dtype(problem).itemsize)


def cost(problem: Problem) -> float:
    """A pass over a block in cache for each tap, a gathering one where the stride leaves columns out.

    Taps of equal magnitude share their multiplication; how many do is not known here.
    """
    size, strided = smallest_dtype(problem).itemsize, problem.window.stride[1] > 1
    run = problem.pitch * (1 if strided else problem.window.output[1])
    value = size * COSTS["shift_add.strided" if strided and problem.pitch == 1 else "shift_add.tap"]
    loop = COSTS["copy.run"] / run if problem.pitch > 1 or not strided else 0.0
    return problem.values * problem.additions / problem.outputs * (value + loop)


def calls(problem: Problem) -> float:
    """For each tap a view, a product and a sum."""
    return 3 * problem.additions


def memory(problem: Problem) -> int:
    """The sums of a row's taps, and the term."""
    rows, columns = tile(problem)
    sums = 2 * problem.window.under(0, rows)
    return sums * columns * problem.pitch * smallest_dtype(problem).itemsize


METHOD = Method("shift-add", bind, refuses, tile, cost, calls, memory, suits=modest, dtype=smallest_dtype)
