"""One convolution as data: what the planner reads and every method computes. Shapes and facts, never pixels."""

from collections.abc import Callable
from functools import lru_cache, wraps
from math import prod
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray

from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair, Window

Array = NDArray[Any]
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Problem(NamedTuple):
    """A weight ``(outputs, channels, kh, kw)`` over ``planes`` items ``(channels, H, W, pitch)``, one group each.

    ``pitch`` values lie side by side in every cell and never mix. ``dtype`` holds the result; ``bound`` is the greatest
    magnitude that a sum of integers can reach, if the sums must be exact. Of the weight the planner knows
    ``additions``, how many numbers are not 0 once kernels of integers are taken apart, ``rank``, how many products of a
    column and a row add up to each kernel (0: too many, or not looked for), whether each kernel is ``uniform``, one
    number all over, and whether they are so ``enormous`` that a part of a sum could overflow. Of the planes ``items``
    have one weight. Where they are small, a block holds the channels of ``groups`` of different weights one after the
    other, and ``stack`` items on end, pads and all, over which the window goes as over one; such a stack then counts as
    one item and one plane.
    """

    planes: int
    channels: int
    outputs: int
    pitch: int
    window: Window
    dtype: str
    additions: int
    rank: int
    uniform: bool
    bound: int | None
    items: int = 1
    stack: int = 1
    groups: int = 1
    enormous: bool = False

    @property
    def weights(self) -> int:
        """How many weights there are, one for each group."""
        return self.planes // max(1, self.items)

    @property
    def values(self) -> int:
        """Numbers in the result."""
        return self.planes * self.outputs * prod(self.window.output) * self.pitch

    @property
    def macs(self) -> int:
        """Multiply-adds of the definition, zero weights included."""
        return self.values * self.channels * prod(self.window.kernel)

    def apart(self) -> "Problem":
        """The same with values that lie side by side as planes of their own."""
        return self._replace(planes=self.planes * self.pitch, items=self.items * self.pitch, pitch=1)

    def stacked(self, count: int) -> "Problem":
        """The same with ``count`` items on end. What windows make that meet two of them is in vain."""
        window, before = self.window, (count - 1) * self.window.pace
        height, rows = before + window.output[0], before * window.stride[0] + window.under(0, window.output[0])
        tall = window._replace(
            size=(rows, window.size[1]), pads=((0, 0), window.pads[1]), output=(height, window.output[1])
        )
        items = -(-self.items // count)
        return self._replace(planes=self.planes // self.items * items, items=items, stack=count, window=tall)

    @property
    def itemsize(self) -> int:
        """Bytes of a number of the result before it is stored."""
        return np.dtype(self.dtype).itemsize


MOST_VALUES = 1 << 20  # of a block
REMEMBERED_BYTES = 1 << 14  # of a weight
ROUNDED = 1 << 40  # sums of integers below this err in float64 by far less than the half that rounding forgives

Runner = Callable[[Array, Array, Scratch], None]


class Method(NamedTuple):
    """A way to compute a problem. All methods stride over an already padded block and know nothing of borders.

    ``bind(problem, weight)`` prepares what does not depend on pixels and returns a runner, which threads share:
    ``runner(block, out, scratch)`` correlates ``block`` ``(C, rows, columns, P)`` into ``out``
    ``(O, rows', columns', P)``, both of ``dtype(problem)``, for any number of output rows and columns up to
    ``tile(problem)``. Within a row, block and out are contiguous.

    ``refuses`` says in a clause why a problem can't be done, or nothing; ``cost`` estimates the seconds of its work on
    one thread, ``calls`` how often it calls NumPy for a tile, and ``memory`` the bytes a thread works in besides block
    and out. A block that does not ``suit`` a method is left to one that suits all: a NaN, an Inf or the rounding of a
    large number would reach outputs whose window does not hold it, or a product of one with 0 would be left out. Where
    sums are exact, or pixels have 8 bits, nobody looks.

    With ``views``, a block had better be a view of the picture than a copy: the method reads it once. With ``fixed``, a
    lower tile would cost as much as a whole one. ``planar`` says whether values that lie side by side had better be
    planes of their own: of a single item the method then gets :meth:`Problem.apart`. With ``grouped``, a block may hold
    the channels of several groups, one after the other, and ``weight`` and ``out`` the outputs of each. With ``mixes``,
    the rounding of every number of a block reaches all results, so that it holds one item alone.
    """

    name: str
    bind: Callable[[Problem, Array], Runner]
    refuses: Callable[[Problem], str | None]
    tile: Callable[[Problem], Pair]
    cost: Callable[[Problem], float]
    calls: Callable[[Problem], float]
    memory: Callable[[Problem], int]
    suits: Callable[[Array], bool] = lambda _block: True
    dtype: Callable[[Problem], np.dtype[Any]] = lambda problem: np.dtype(problem.dtype)
    views: bool = False
    fixed: bool = False
    planar: Callable[[Problem], bool] = lambda _problem: False
    grouped: bool = False
    mixes: bool = False

    def forms(self, problem: Problem, shares: int = 1) -> list["Problem"]:
        """The forms in which the method may get a problem: with each plane by itself, and with small ones together,
        but with as many blocks left as there are to be ``shares``."""
        if problem.pitch > 1 and problem.planes == 1 and self.planar(problem):  # of several, items are an axis already
            problem = problem.apart()
        room = min(self._room(problem), problem.planes // shares)
        if room < 2:
            return [problem]
        stack = share_out(problem.items, room)
        groups = share_out(problem.weights, room // stack) if self.grouped else 1
        form = problem.stacked(stack)._replace(groups=groups)
        return [problem, form] if self.tile(form) == form.window.output else [problem]

    def _room(self, problem: Problem) -> int:
        """For how many planes there is room in a tile, if they are small."""
        if self.mixes or problem.planes < 2:
            return 1
        rows, _ = self.tile(problem.stacked(problem.planes))
        return (rows - problem.window.output[0]) // problem.window.pace + 1


def remembered(look: Callable[[Array, *Ts], T]) -> Callable[[Array, *Ts], T]:
    """Keep a function's answers for small weights: many small pictures may come under one kernel, and to look at that
    would take longer than to filter one of them. What else the function takes must be hashable."""

    @lru_cache(maxsize=64)
    def known(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], *more: *Ts) -> T:
        return look(np.frombuffer(data, dtype).reshape(shape), *more)

    @wraps(look)
    def answer(weight: Array, *more: *Ts) -> T:
        if weight.nbytes > REMEMBERED_BYTES or weight.dtype.kind == "O":  # of Python's integers the bytes say nothing
            return look(weight, *more)
        return known(weight.tobytes(), weight.dtype, weight.shape, *more)

    return answer


def refuses_integers(problem: Problem) -> str | None:
    """The refusal of methods that compute in floats alone."""
    return None if problem.dtype in ("float32", "float64") else "needs floats, and these sums exceed what floats hold"


def refuses_parts(problem: Problem) -> str | None:
    """The refusal of methods that add up other numbers than an output's own products, and in floats."""
    return "could overflow halfway under weights this large" if problem.enormous else refuses_integers(problem)


def refuses_rounding(problem: Problem) -> str | None:
    """The refusal of such methods whose results must also be rounded to be exact."""
    if problem.bound is not None and problem.bound >= ROUNDED:
        return "would not be exact for sums this large"
    return refuses_parts(problem)


def rounded_dtype(problem: Problem) -> np.dtype[Any]:
    """float64 where results must be rounded to be exact."""
    return np.dtype(problem.dtype if problem.bound is None else "float64")


def smallest_dtype(problem: Problem) -> np.dtype[Any]:
    """The smallest of the dtypes that hold the sums."""
    return smallest_for(problem.dtype, problem.bound)


def smallest_for(dtype: str, bound: int | None) -> np.dtype[Any]:
    """For sums in ``dtype``: integers where they are exact and no greater than ``bound``, half the memory of floats."""
    if bound is None or bound >= 1 << 31 or dtype == "object":
        return np.dtype(dtype)
    return np.dtype("int16" if bound < 1 << 15 else "int32")


def share_out(count: int, most: int) -> int:
    """How many of ``count`` at a time make about equal portions of no more than ``most``."""
    return -(-count // -(-count // most))


def fit_tile(problem: Problem, values: int, rows: int = 1) -> Pair:
    """Output rows and columns of a tile whose input block has about ``values`` numbers.

    As wide as fits above the least ``rows``, then as high as fits. Columns are shared out evenly, to which end a tile
    may be half as wide again; so are rows, as a rule into an even number, for two threads to take as many each. Under a
    large or much dilated kernel most of a block is border that the next tile reads again; then the least is half the
    kernel's height, and the block grows to three times the kernel's width, up to ``MOST_VALUES``.
    """
    (height, width), (ky, kx) = problem.window.output, problem.window.effective
    (sy, sx), depth = problem.window.stride, problem.channels * problem.pitch
    least = min(height, max(rows, ky // (2 * sy)))
    tall = problem.window.under(0, least)
    values = max(values, min(MOST_VALUES, tall * 3 * kx * depth))
    columns = min(width, max(16, (values // (depth * tall) - kx) // sx + 1))
    columns = -(-width // max(1, round(width / columns)))  # no sliver at the end
    wide = problem.window.under(1, columns)
    most = min(height, max(least, (values // (depth * wide) - ky) // sy + 1))
    count = -(-height // most)
    count += count > 1 and problem.planes * count % 2
    return max(least, -(-height // count)), columns


def block_values(problem: Problem, tile: Pair) -> int:
    """Numbers of the padded input block of a tile."""
    cells = prod(problem.window.under(axis, tile[axis]) for axis in (0, 1))
    return problem.groups * problem.channels * cells * problem.pitch


def count_tiles(problem: Problem, tile: Pair) -> int:
    """Tiles of all planes, those at the ends cut off."""
    height, width = problem.window.output
    return -(-problem.planes // problem.groups) * -(-height // tile[0]) * -(-width // tile[1])
