"""Shift and add: for every tap of the kernel, a shifted view of the block times one number. The plain way."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from convcli.engine.costs import COSTS
from convcli.engine.problem import Array, Method, Problem, Runner, fit_tile
from convcli.engine.shapes import Pair

ROWS = 16  # of a block: with 4000 columns in float32, block, sum and term stay within 1 MB of cache


def bind(problem: Problem, weight: Array) -> Runner:
    """Multiply and add tap by tap, leaving zeros out."""
    taps = [(o, c, i, j) for o, c, i, j in np.ndindex(*weight.shape) if weight[o, c, i, j] != 0]

    def run(block: Array, out: Array) -> None:
        add_taps(problem, weight, taps, block, out)

    return run


def bind_all_taps(problem: Problem, weight: Array) -> Runner:
    """As :func:`bind` with zero weights multiplied too, as IEEE arithmetic has it: 0 * Inf is NaN."""

    def run(block: Array, out: Array) -> None:
        add_taps(problem, weight, list(product(*map(range, weight.shape))), block, out)

    return run


def add_taps(problem: Problem, weight: Array, taps: Sequence[tuple[int, ...]], block: Array, out: Array) -> None:
    """``out[o] += weight[o, c, i, j] * shifted(block[c])`` for the listed taps, ``out`` zero before."""
    (sy, sx), (dy, dx) = problem.window.stride, problem.window.dilation
    tall, wide = (out.shape[1] - 1) * sy + 1, (out.shape[2] - 1) * sx + 1
    out[...] = 0
    term = np.empty(out.shape[1:], out.dtype)
    for o, c, i, j in taps:
        shifted = block[c, i * dy : i * dy + tall : sy, j * dx : j * dx + wide : sx]
        np.multiply(shifted, weight[o, c, i, j], out=term)
        out[o] += term


def refuses(_problem: Problem) -> str | None:
    """It can do everything."""
    return None


def tile(problem: Problem) -> Pair:
    """Some rows, and no more columns than keep them in cache."""
    return fit_tile(problem, ROWS, 1 << 20)


def cost(problem: Problem) -> float:
    """Two passes over a block in cache for each tap that is not zero."""
    return problem.values * problem.taps * COSTS["shift_add.tap"] * problem.itemsize


def scratch(problem: Problem) -> int:
    """The term."""
    rows, columns = tile(problem)
    return rows * columns * problem.pitch * problem.itemsize


METHOD = Method("shift-add", "every tap a shifted multiple of the picture", bind, refuses, tile, cost, scratch)
