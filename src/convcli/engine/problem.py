"""One convolution as data: what the planner reads and every method computes. Shapes and facts, never pixels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcli.engine.shapes import Pair, Window

Array = NDArray[Any]


class Problem(NamedTuple):
    """A weight ``(outputs, channels, kh, kw)`` over ``planes`` items ``(channels, H, W, pitch)``, one group each."""

    planes: int
    channels: int
    outputs: int
    pitch: int
    window: Window
    dtype: str
    taps: int
    exact: bool

    @property
    def macs(self) -> int:
        """Multiply-adds of the definition, zero weights included."""
        kh, kw = self.window.kernel
        return self.values * self.channels * kh * kw

    @property
    def values(self) -> int:
        """Numbers in the result."""
        return self.planes * self.outputs * self.window.output[0] * self.window.output[1] * self.pitch

    @property
    def itemsize(self) -> int:
        """Bytes of a number while it is computed with."""
        return np.dtype(self.dtype).itemsize


Runner = Callable[[Array, Array], None]


class Method(NamedTuple):
    """A way to compute a problem. All methods stride over an already padded block and know nothing of borders.

    ``bind(problem, weight)`` returns a runner; ``runner(block, out)`` correlates a block ``(C, rows, columns, P)`` into
    ``out`` ``(O, rows', columns', P)``, both of the problem's dtype, for any number of output rows and columns up to
    ``tile(problem)``. A runner belongs to one thread. ``refuses`` says in a clause why a problem can't be done, or
    nothing; ``cost`` estimates its seconds on one thread; ``scratch`` the bytes a runner works in.
    """

    name: str
    summary: str
    bind: Callable[[Problem, Array], Runner]
    refuses: Callable[[Problem], str | None]
    tile: Callable[[Problem], Pair]
    cost: Callable[[Problem], float]
    scratch: Callable[[Problem], int]


def tile_bytes(problem: Problem, tile: Pair) -> int:
    """Bytes of a padded input block and an output block of a tile."""
    (sy, sx), (ky, kx) = problem.window.stride, problem.window.effective
    rows, columns = (tile[0] - 1) * sy + ky, (tile[1] - 1) * sx + kx
    values = problem.channels * rows * columns + problem.outputs * tile[0] * tile[1]
    return values * problem.pitch * problem.itemsize


def fit_tile(problem: Problem, rows: int, budget: int) -> Pair:
    """A multiple of ``rows`` by as many columns as keep a tile within ``budget`` bytes, at least 16."""
    height, width = problem.window.output
    columns = max(16, width * budget // max(1, tile_bytes(problem, (rows, width))))
    if columns < width:
        return min(rows, height), columns
    return min(rows * max(1, budget // tile_bytes(problem, (rows, width))), height), width
