"""Windows along one axis, each folded into one value by a ufunc: the inner loop of pools and of box sums."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcli.engine.scratch import Scratch

Array = NDArray[Any]


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

    Tap by tap, ``size`` - 1 passes over the outputs; or, where that is less work, by doubling: pairs, then pairs of
    pairs, and of those as many as make up the window. Maxima and minima may overlap, sums may not.
    """
    doublings = size.bit_length() - 1
    overlap = ufunc is not np.add
    pieces = (1 if size == 1 << doublings else 2) if overlap else size.bit_count()
    if (size - 1) <= (doublings + pieces - 1) * stride:
        parts = [(cells, i * dilation) for i in range(size)]
    else:
        levels = [cells]
        length = (outputs - 1) * stride + (size - 1) * dilation + 1
        for level in range(doublings):
            step = dilation << level
            length -= step
            target = scratch(f"fold {axis} {level}", _resized(cells, axis, length), cells.dtype)
            ufunc(_taken(levels[-1], axis, 0, length), _taken(levels[-1], axis, step, length), out=target)
            levels.append(target)
        if overlap:
            parts = [(levels[-1], 0), (levels[-1], (size - (1 << doublings)) * dilation)][:pieces]
        else:
            chosen = [level for level in range(doublings + 1) if size >> level & 1]
            parts = [(levels[level], (size & ((1 << level) - 1)) * dilation) for level in chosen]
    first, *rest = [_taken(array, axis, offset, outputs, stride) for array, offset in parts]
    folded = scratch(f"folded {axis}", _resized(cells, axis, outputs), cells.dtype) if out is None else out
    if not rest:
        folded[...] = first
        return folded
    ufunc(first, rest[0], out=folded)
    for part in rest[1:]:
        ufunc(folded, part, out=folded)
    return folded


def passes(size: int, stride: int) -> float:
    """Passes of a sum over the outputs that :func:`fold` needs."""
    return min(size - 1, (size.bit_length() + size.bit_count() - 2) * stride) + 1


def _taken(cells: Array, axis: int, first: int, count: int, step: int = 1) -> Array:
    place = (slice(None),) * axis + (slice(first, first + (count - 1) * step + 1, step),)
    return cells[place]


def _resized(cells: Array, axis: int, count: int) -> tuple[int, ...]:
    return (*cells.shape[:axis], count, *cells.shape[axis + 1 :])
