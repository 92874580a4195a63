"""Finished values on their way into the result: scaled, rounded once, clipped, cast, their range noted in passing."""

from math import floor
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


Interval = tuple[float, float]  # of the least and the greatest that a number can be
ANY_NUMBER: Interval = (-np.inf, np.inf)
NOISE = 5e-6  # of white: less than half a step of 16 bits; a mean of white in float32 may be that much more
FLOAT32_EXACT = 2**24  # integers up to this are held exactly
ROUNDED_AWAY = 0.4  # beyond a range: less than the half that would round up, for sums that err


class Extent:
    """The values a result had before clipping: least, greatest, how many lay below 0, below -1 and above 1."""

    def __init__(self) -> None:
        self.minimum, self.maximum = np.inf, -np.inf
        self.below = self.far_below = self.above = self.count = 0
        self._lock = Lock()

    def note(self, values: Array, unit: float) -> None:
        """Take in some more values, 1 being ``unit`` of them; safe from several threads."""
        if not values.size:
            return
        least, most = float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None))
        zero, white = -NOISE * unit, unit + NOISE * unit
        if values.dtype.kind in "iu":  # a comparison of integers with a float would turn them all into floats
            zero, white = 0, floor(unit)
        below = int(np.count_nonzero(values < zero)) if least < zero else 0
        far_below = int(np.count_nonzero(values < -white)) if least < -white else 0
        above = int(np.count_nonzero(values > white)) if most > white else 0
        with self._lock:
            self.minimum, self.maximum = min(self.minimum, least), max(self.maximum, most)
            self.below, self.far_below, self.above = self.below + below, self.far_below + far_below, self.above + above
            self.count += values.size

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._lock = Lock()

    def merge(self, other: "Extent") -> None:
        """Take in what another has seen."""
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self.below, self.far_below = self.below + other.below, self.far_below + other.far_below
        self.above, self.count = self.above + other.above, self.count + other.count


class Tone(NamedTuple):
    """``absolute`` value first, then ``v * gain / divisor + offset``, then the limits.

    A division, since codes times 1/255 would not give the nearest fractions.
    """

    absolute: bool = False
    gain: float = 1.0
    divisor: float = 1.0
    offset: float = 0.0
    limits: tuple[float, float] | None = None

    def apply(self, values: Array) -> Array:
        """The same array, changed in place."""
        if self.absolute:
            np.absolute(values, out=values)
        if self.gain != 1:
            values *= self.gain
        if self.divisor != 1:
            values /= self.divisor
        if self.offset:
            values += self.offset
        if self.limits is not None:
            np.clip(values, *self.limits, out=values)
        return values


PLAIN = Tone()


class Store:
    """A result array ``(N, C, H', W', P)`` and the rules by which values enter it."""

    def __init__(
        self,
        array: Array,
        *,
        tone: Tone = PLAIN,
        extent: Extent | None = None,
        unit: float = 1.0,
    ) -> None:
        self.array, self.tone = array, tone
        self.extent, self.unit = extent, unit

    def direct(self, dtype: np.dtype[Any]) -> bool:
        """Whether values of ``dtype`` may be written straight into the array, a row of which lies in one piece."""
        _, _, _, column, value = self.array.strides
        in_rows = value == self.array.itemsize and column == value * self.array.shape[4]
        return self.extent is None and self.tone == PLAIN and dtype == self.array.dtype and in_rows

    def transposed(self) -> "Store":
        """The same with rows and columns exchanged: what is put there lands here."""
        return self._over(self.array.swapaxes(2, 3))

    def apart(self) -> "Store":
        """A single item's, with values that lie side by side as items of their own."""
        return self._over(self.array.swapaxes(0, 4))

    def reshaped(self, shape: tuple[int, ...]) -> "Store":
        """The same in another shape, the array being contiguous: else what is put there would land in a copy."""
        return self._over(self.array.reshape(shape))

    def _over(self, array: Array) -> "Store":
        """The same rules for a view of the array."""
        return Store(array, tone=self.tone, extent=self.extent, unit=self.unit)

    def put(self, place: tuple[Any, ...], values: Array, known: Interval | None = None) -> None:
        """Store finished values, which are used up on the way; their range is ``known``, or they may hold a NaN."""
        if self.extent is not None:
            self.extent.note(values, self.unit)
        if self.tone != PLAIN:
            values = self.tone.apply(values if values.dtype.kind == "f" else values.astype(np.float32))
            known = known and ANY_NUMBER
        cast_into(self.array[place], values, known)


def cast_into(target: Array, values: Array, known: Interval | None = None) -> None:
    """Values into ``target``; for an integer target rounded half to even and clipped to its range, NaN as 0.

    Never wraps: NumPy's own cast turns 300 into 44 and -20 into 236 for uint8. ``values`` is used up. If their range
    is ``known``, and so that there is no NaN, they are only searched for what there can be.
    """
    if target.dtype.kind not in "iu":
        target[...] = values
        return
    info = np.iinfo(target.dtype)
    inside = (
        known is not None
        and max(info.min, -FLOAT32_EXACT) - ROUNDED_AWAY < known[0]
        and known[1] < min(info.max, FLOAT32_EXACT) + ROUNDED_AWAY
    )
    if values.dtype.kind != "f":
        np.copyto(target, values if inside else np.clip(values, info.min, info.max), casting="unsafe")
        return
    np.rint(values, out=values)
    high = values.dtype.type(info.max)
    if not inside:
        np.clip(values, info.min, high, out=values)
    if known is None and np.isnan(values.sum()):
        np.nan_to_num(values, copy=False)
    with np.errstate(invalid="ignore"):  # int32 from float32, int64 from float64: their top is not a float, see below
        np.copyto(target, values, casting="unsafe")
    if int(high) > info.max:
        target[values == high] = info.max
