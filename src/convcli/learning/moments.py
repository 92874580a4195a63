"""Moments of a pair of pictures: sums of products of patches with themselves and with the pixels they became.

They are the normal equations of least squares, and all that fitting needs to know: gathered once, in tiles, on threads,
apart for the rows to learn from and for rows held out. Only windows that lie inside the picture count, so that no
border has a say.
"""

from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from convcli.engine.shapes import Pair
from convcli.engine.threads import cores, share
from convcli.errors import ShapeError

Array = NDArray[Any]

HELD_OUT = 5  # of so many bands of rows one is held out
BAND = 8  # rows of a band
TILE = 4096  # patches at a time: they stay in cache
MOST_PRODUCTS = 4e10  # multiply-adds that moments may take; of a larger pair every few bands are enough


Tell = Callable[[float], None]


def nobody(_share: float) -> None:
    """Nobody wants to know."""


class Moments(NamedTuple):
    """Sums over patches, each with a 1 behind it: of products ``gram`` (n+1, n+1), ``cross`` (n+1,) with the target,
    and the target's ``energy``."""

    gram: Array
    cross: Array
    energy: float

    @classmethod
    def none(cls, n: int) -> "Moments":
        """Nothing gathered yet."""
        return cls(np.zeros((n + 1, n + 1)), np.zeros(n + 1), 0.0)

    def plus(self, other: "Moments") -> "Moments":
        """Those of both."""
        return Moments(self.gram + other.gram, self.cross + other.cross, self.energy + other.energy)

    def divided(self, before: float, after: float) -> "Moments":
        """Those of patches and targets divided by codes of white."""
        scale = np.full(len(self.cross), 1 / before)
        scale[-1] = 1
        gram = self.gram * scale * scale[:, None]
        return Moments(gram, self.cross * scale / after, self.energy / after**2)

    @property
    def patches(self) -> int:
        """Patches."""
        return round(float(self.gram[-1, -1]))

    def loss(self, weights: Array) -> float:
        """The summed squared error of weights ``(n+1,)``, the bias last."""
        error = self.energy - 2 * weights @ self.cross + weights @ self.gram @ weights
        return max(0.0, float(error))

    def r2(self, weights: Array) -> float:
        """The share of the target's variance that weights explain; 1 of a constant target that they hit."""
        spread = self.energy - self.cross[-1] ** 2 / max(1, self.patches)
        loss = self.loss(weights)
        if spread <= 1e-12 * self.energy:
            return 1.0 if loss <= 1e-9 * max(self.energy, 1e-300) else 0.0
        return 1 - loss / float(spread)


class Gathered(NamedTuple):
    """The moments of rows to learn from and of rows held out, and how many windows there are in all."""

    train: Moments
    held: Moments
    windows: int

    @property
    def all(self) -> Moments:
        """Both."""
        return self.train.plus(self.held)

    def part(self, index: Array) -> "Gathered":
        """Those of some of the weights, the 1 behind them included."""
        index = np.append(index, -1)
        place = np.ix_(index, index)
        train, held = (Moments(one.gram[place], one.cross[index], one.energy) for one in self[:2])
        return Gathered(train, held, self.windows)

    @classmethod
    def of(cls, parts: "Iterable[Gathered]") -> "Gathered":
        """Several taken together."""
        train, held, windows = zip(*parts, strict=True)
        return cls(added(train), added(held), sum(windows))


class Geometry(NamedTuple):
    """How outputs lie over the input: the window's size, its steps, and the pads above and to the left."""

    kernel: Pair
    stride: Pair
    before: Pair

    def inside(self, axis: int, n: int, outputs: int) -> range:
        """The outputs of one axis whose windows lie inside ``n`` cells."""
        k, s, p = self.kernel[axis], self.stride[axis], self.before[axis]
        first = max(0, -(-p // s))
        return range(first, max(first, min(outputs, (n + p - k) // s + 1)))


class Example(NamedTuple):
    """Channels ``(C, H, W)`` before, and ``(C', H', W')`` after, in codes of which ``white`` is 1, before and after.

    Cells after that are not between the ``limits`` were clipped, and are left out. ``name`` is for messages.
    """

    before: Array
    after: Array
    white: tuple[float, float] = (1.0, 1.0)
    limits: tuple[float, float] | None = None
    name: str = ""

    def error(self, what: str) -> str:
        """What is wrong, with the example's name in front."""
        return f"{self.name}: {what}" if self.name else what

    def rounding(self) -> float:
        """The mean square of what rounding to codes takes away: a twelfth of a step's square."""
        return 1 / (12 * self.white[1] ** 2) if self.after.dtype.kind in "iu" and self.white[1] > 1 else 0.0

    def identical(self) -> bool:
        """Whether nothing changed."""
        return self.white[0] == self.white[1] and np.array_equal(self.before, self.after)

    def of(self, channels: slice, target: int) -> "Example":
        """Some channels, and one after."""
        return self._replace(before=self.before[channels], after=self.after[target : target + 1])

    def clipped(self) -> int:
        """Cells that are left out."""
        if self.limits is None:
            return 0
        low, high = self.limits
        return sum(int(np.count_nonzero((one <= low) | (one >= high))) for one in self.after)


def gather(
    example: Example,
    geometry: Geometry,
    *,
    most: float = MOST_PRODUCTS,
    threads: int | None = None,
    tell: Tell = nobody,
) -> Gathered:
    """The moments of an example's channels before under its first channel after, in units of white.

    Of a pair that would take more than ``most`` multiply-adds, bands of rows evenly spread over it are heeded.
    ``tell(share)`` is called now and then with the share that is done. Raises ShapeError if no window lies inside.
    """
    before, after = example.before, example.after[0]
    channels, height, width = before.shape
    rows = geometry.inside(0, height, after.shape[0])
    columns = geometry.inside(1, width, after.shape[1])
    if not rows or not columns:
        raise ShapeError(f"no {geometry.kernel[0]}x{geometry.kernel[1]} window lies inside {height}x{width}")
    n = channels * prod(geometry.kernel)
    products = len(rows) * len(columns) * n * n / 2
    every = max(1, round(products / most))
    high = min(BAND, max(1, len(rows) // (2 * HELD_OUT)))
    bands = [range(top, min(top + high, rows.stop)) for top in range(rows.start, rows.stop, high)]
    done: list[Gathered] = []
    finished: list[range] = []

    def work(tasks: Iterator[tuple[bool, range]]) -> None:
        sums = [Moments.none(n), Moments.none(n)]
        for held, band in tasks:
            sums[held] = sums[held].plus(_of_band(example, geometry, band, columns))
            finished.append(band)
            tell(len(finished) / len(kept))
        done.append(Gathered(sums[0], sums[1], 0))

    tasks = [(number % HELD_OUT == HELD_OUT - 1, band) for number, band in enumerate(bands)]
    kept = [task for number, task in enumerate(tasks) if number // HELD_OUT % every == 0]
    share(work, kept, (threads or cores()) if products > 1e7 else 1)
    codes = Gathered.of(done)
    train, held = (one.divided(*example.white) for one in codes[:2])
    return Gathered(train, held, len(rows) * len(columns))


def added(moments: Iterable[Moments]) -> Moments:
    """Those of all."""
    first, *others = moments
    for one in others:
        first = first.plus(one)
    return first


def _of_band(example: Example, geometry: Geometry, rows: range, columns: range) -> Moments:
    """The moments of some output rows."""
    before, after = example.before, example.after[0]
    (kh, kw), (sy, sx) = geometry.kernel, geometry.stride
    plane, line, value = before.strides
    n = len(before) * kh * kw
    sums, step = Moments.none(n), max(1, TILE // len(rows))
    for left in range(columns.start, columns.stop, step):
        wide = min(left + step, columns.stop) - left
        corner = before[:, rows.start * sy - geometry.before[0] :, left * sx - geometry.before[1] :]
        shape = len(before), kh, kw, len(rows), wide
        patches = np.ones((n + 1, len(rows) * wide))
        patches[:n].reshape(shape)[...] = as_strided(corner, shape, (plane, line, value, sy * line, sx * value))
        codes = after[rows.start : rows.stop, left : left + wide].ravel()
        target = codes.astype(np.float64)
        if example.limits is not None:
            heeded = (codes > example.limits[0]) & (codes < example.limits[1])
            patches *= heeded
            target *= heeded
        sums = sums.plus(Moments(patches @ patches.T, patches @ target, float(target @ target)))
    return sums
