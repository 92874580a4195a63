"""One convolution as data: what the planner reads and every method computes. Shapes and facts, never pixels."""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair, Window

Array = NDArray[Any]


class Problem(NamedTuple):
    """A weight ``(outputs, channels, kh, kw)`` over ``planes`` items ``(channels, H, W, pitch)``, one group each.

    ``pitch`` values lie side by side in every cell and never mix. ``dtype`` holds the result; ``bound`` is the greatest
    magnitude that a sum of integers can reach, if the sums must be exact. Of the weight the planner knows ``taps``, how
    many numbers are not 0, ``rank``, how many products of a column and a row add up to each kernel (0: not looked for),
    and whether each kernel is ``uniform``, one number all over.
    """

    planes: int
    channels: int
    outputs: int
    pitch: int
    window: Window
    dtype: str
    taps: int
    rank: int
    uniform: bool
    bound: int | None

    @property
    def values(self) -> int:
        """Numbers in the result."""
        return self.planes * self.outputs * prod(self.window.output) * self.pitch

    @property
    def cells(self) -> int:
        """Numbers of the padded input that some window looks at, each counted once."""
        spans = [self.window.span(axis, 0, self.window.output[axis])[1] for axis in (0, 1)]
        return self.planes * self.channels * prod(spans) * self.pitch

    @property
    def macs(self) -> int:
        """Multiply-adds of the definition, zero weights included."""
        return self.values * self.channels * prod(self.window.kernel)

    @property
    def itemsize(self) -> int:
        """Bytes of a number of the result before it is stored."""
        return np.dtype(self.dtype).itemsize


Runner = Callable[[Array, Array, Scratch], None]


class Method(NamedTuple):
    """A way to compute a problem. All methods stride over an already padded block and know nothing of borders.

    ``bind(problem, weight)`` prepares what does not depend on pixels and returns a runner, which threads share:
    ``runner(block, out, scratch)`` correlates ``block`` ``(C, rows, columns, P)`` into ``out``
    ``(O, rows', columns', P)``, both of ``dtype(problem)``, for any number of output rows and columns up to
    ``tile(problem)``. Within a row, block and out are contiguous.

    ``refuses`` says in a clause why a problem can't be done, or nothing; ``cost`` estimates the seconds of its work on
    one thread, ``calls`` how often it calls NumPy for a tile, and ``scratch`` the bytes a thread works in. A method
    that is not ``faithful`` to IEEE arithmetic, since it leaves out products with 0 or lets a NaN or an Inf reach
    outputs whose window does not hold it, is given finite cells only.
    """

    name: str
    summary: str
    bind: Callable[[Problem, Array], Runner]
    refuses: Callable[[Problem], str | None]
    tile: Callable[[Problem], Pair]
    cost: Callable[[Problem], float]
    calls: Callable[[Problem], float]
    scratch: Callable[[Problem], int]
    faithful: bool
    dtype: Callable[[Problem], str] = lambda problem: problem.dtype


def refuses_integers(problem: Problem) -> str | None:
    """The refusal of methods that compute in floats alone."""
    return None if problem.dtype in ("float32", "float64") else "needs floats, and these sums exceed what floats hold"


def fit_tile(problem: Problem, values: int, rows: int = 1) -> Pair:
    """Output rows, a multiple of ``rows``, by columns whose input block has about ``values`` numbers; wide first."""
    (height, width), (ky, kx) = problem.window.output, problem.window.effective
    (sy, sx), depth = problem.window.stride, problem.channels * problem.pitch
    across = values // (depth * ((rows - 1) * sy + ky))  # input columns that fit above the least rows
    columns = min(width, max(16, (across - kx) // sx + 1))
    down = values // (depth * ((columns - 1) * sx + kx))
    return min(height, rows * max(1, ((down - ky) // sy + 1) // rows)), columns


def tile_values(problem: Problem, tile: Pair) -> int:
    """Numbers of the padded input block and the output block of a tile."""
    spans = [problem.window.span(axis, 0, tile[axis])[1] for axis in (0, 1)]
    return (problem.channels * prod(spans) + problem.outputs * prod(tile)) * problem.pitch
