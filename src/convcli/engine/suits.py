"""What the numbers of a block tell of the methods that suit it."""

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SAMPLED = 8  # cells from one that is looked at to the next: areas of twice as many rows and columns are seen
DARK = 1000  # times as large as a small cell a block is in root mean square: fft then errs by 4e-4 of what is small


def line_energies(block: Array) -> Array:
    """The sum of squares of each row of each channel, by BLAS; not finite where a number is not or is enormous."""
    lines = block.reshape(*block.shape[:2], -1)
    return np.asarray(np.vecdot(lines, lines))


def dark_in_part(block: Array, energy: float) -> bool:
    """Whether cells are so small that the rounding of the others, whose squares sum up to ``energy``, would show there.

    Four cells next to each other, in all channels, or a quarter of all; only every ``SAMPLED``-th of a row and column
    is looked at. Zeros do not count, for pads are, nor do four cells that hold one.
    """
    some, small = np.abs(block[:, ::SAMPLED, ::SAMPLED]), sqrt(energy / block.size) / DARK
    if some.min() >= small:
        return False
    some = some.max(axis=0)
    held = some[some > 0]
    areas = np.where(some > 0, some, np.inf)
    for axis in (0, 1):
        lines = areas.swapaxes(0, axis)
        areas = np.maximum(lines[:-1], lines[1:]).swapaxes(0, axis) if len(lines) > 1 else areas
    return bool(areas.min() < small or 4 * np.count_nonzero(held < small) > held.size)


def modest(block: Array) -> bool:
    """Whether all numbers are finite and far from overflow."""
    return bool(np.isfinite(line_energies(block)).all())
