"""Windows along one axis, each folded into one value by a ufunc: the inner loop of pools and of box sums."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcli.engine.scratch import Scratch

Array = NDArray[Any]

APART = 3  # times as long as for neighbours NumPy takes for values of a row that a stride holds apart


def fold(
    ufunc: np.ufunc,
    cells: Array,
    axis: int,
    size: int,
    outputs: int,
    scratch: Scratch,
    *,
    stride: int,
    dilation: int,
    out: Array | None = None,
) -> Array:
    """``outputs`` windows of ``size`` cells along an axis, in ``out`` or in memory of ``scratch``.

    Tap by tap; or, where that is less work, by doubling: pairs, then pairs of pairs, and of those as many as make up
    the window. Two that overlap will do for a maximum, a minimum or an "or"; sums are put together without overlap: 7
    cells are the first one, the two after it and the four after those. Only what is put together heeds the stride.
    """
    folded = scratch(f"folded {axis}", _resized(cells, axis, outputs), cells.dtype) if out is None else out
    apart = _apart(stride, axis == cells.ndim - 2)
    parts, doublings, total = _parts(size, stride, apart, ufunc is not np.add), 0, None
    length = (outputs - 1) * stride + (size - 1) * dilation + 1
    for level, first in parts:
        while doublings < level:
            step = dilation << doublings
            length, doublings = length - step, doublings + 1
            target = scratch(f"fold {axis} {doublings % 2}", _resized(cells, axis, length), cells.dtype)
            cells = ufunc(_taken(cells, axis, 0, length), _taken(cells, axis, step, length), out=target)
        part = _taken(cells, axis, first * dilation, outputs, stride)
        if total is not None:
            total = ufunc(total, part, out=folded)
        elif 0 < level < parts[-1][0] or len(parts) == 1:  # its memory is wanted again
            total = folded
            total[...] = part
        else:
            total = part
    return folded


def passes(size: int, stride: int, within_row: bool) -> int:
    """How long :func:`fold` takes for a sum, in passes over as many neighbours as there are outputs."""
    apart = _apart(stride, within_row)
    return _passes(_parts(size, stride, apart, False), stride, apart)


def _parts(size: int, stride: int, apart: int, overlap: bool) -> list[tuple[int, int]]:
    """What makes up a window: how many doublings each part has seen, and its first cell."""
    taps = [(0, first) for first in range(size)]
    if size == 1:
        return taps
    half = (size - 1).bit_length() - 1  # doublings of the largest part that is not the whole
    if overlap or size == 2 << half:
        doubled = [(half, 0), (half, size - (1 << half))]
    else:
        doubled = [(level, size & ((1 << level) - 1)) for level in range(half + 1) if size >> level & 1]
    return min(taps, doubled, key=lambda parts: _passes(parts, stride, apart))


def _passes(parts: list[tuple[int, int]], stride: int, apart: int) -> int:
    """One over all cells for a doubling, one over the outputs for each part."""
    return parts[-1][0] * stride + len(parts) * apart


def _apart(stride: int, within_row: bool) -> int:
    return APART if within_row and stride > 1 else 1


def _taken(cells: Array, axis: int, first: int, count: int, step: int = 1) -> Array:
    place = (slice(None),) * axis + (slice(first, first + (count - 1) * step + 1, step),)
    return cells[place]


def _resized(cells: Array, axis: int, count: int) -> tuple[int, ...]:
    return (*cells.shape[:axis], count, *cells.shape[axis + 1 :])
