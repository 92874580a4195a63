"""Windows along one axis, each folded into one value by a ufunc: the inner loop of pools and of box sums."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from convcli.engine.scratch import Scratch

Array = NDArray[Any]

LONG = 256  # cells of a row from which BLAS is worth its call


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
    pairs, and of those as many as make up the window. Two that overlap will do for a maximum, a minimum or an "or";
    sums are put together without overlap: 7 cells are the first one, the two after it and the four after those.
    """
    folded = scratch(f"folded {axis}", _resized(cells, axis, outputs), cells.dtype) if out is None else out
    doublings, overlap = size.bit_length() - 1, ufunc is not np.add
    if size - 1 <= _doubling_passes(size, overlap) * stride:
        done = 0 if overlap else _side_by_side(cells, axis, size, stride, dilation)
        parts = [_summed(cells, done, stride, folded)] if done else []
        parts += [_taken(cells, axis, i * dilation, outputs, stride) for i in range(done, size)]
    else:
        parts, done, length = [], 0, (outputs - 1) * stride + (size - 1) * dilation + 1
        for level in range(doublings + 1):
            if level:
                step = dilation << (level - 1)
                length -= step
                target = scratch(f"fold {axis} {level % 2}", _resized(cells, axis, length), cells.dtype)
                cells = ufunc(_taken(cells, axis, 0, length), _taken(cells, axis, step, length), out=target)
            if not overlap and size >> level & 1 and level < doublings:  # its memory is wanted again
                part = _taken(cells, axis, done * dilation, outputs, stride)
                parts = [np.add(parts[0], part, out=folded) if parts else _copied(part, folded)]
                done += 1 << level
        parts.append(_taken(cells, axis, done * dilation, outputs, stride))
        if overlap and size != 1 << doublings:
            parts.append(_taken(cells, axis, (size - (1 << doublings)) * dilation, outputs, stride))
    if len(parts) == 1:
        return _copied(parts[0], folded)
    ufunc(parts[0], parts[1], out=folded)
    for part in parts[2:]:
        ufunc(folded, part, out=folded)
    return folded


def passes(size: int, stride: int) -> int:
    """Passes of a sum over the outputs that :func:`fold` needs."""
    return min(size - 1, _doubling_passes(size, False) * stride) + 1


def _side_by_side(cells: Array, axis: int, size: int, stride: int, dilation: int) -> int:
    """How many cells of a window BLAS is to add up in one pass: a stride of them in a long row of numbers, or none."""
    row = axis == cells.ndim - 2 and cells.shape[-1] == dilation == 1 and cells.strides[-2] == cells.itemsize
    return stride if row and 1 < stride < size and cells.dtype == np.float32 and cells.shape[axis] >= LONG else 0


def _summed(cells: Array, count: int, stride: int, out: Array) -> Array:
    """``count`` neighbours from every stride on: NumPy's own sum of every second number takes nearly twice as long."""
    *outer, step, _ = cells.strides
    windows = as_strided(cells, (*out.shape[:-1], count), (*outer, stride * step, step))
    return np.matmul(windows, np.ones((count, 1), cells.dtype), out=out)


def _doubling_passes(size: int, overlap: bool) -> int:
    """Doublings, and what puts the window together from them."""
    pieces = int(size & (size - 1) > 0) if overlap else size.bit_count() - 1
    return size.bit_length() - 1 + pieces


def _copied(cells: Array, out: Array) -> Array:
    out[...] = cells
    return out


def _taken(cells: Array, axis: int, first: int, count: int, step: int = 1) -> Array:
    place = (slice(None),) * axis + (slice(first, first + (count - 1) * step + 1, step),)
    return cells[place]


def _resized(cells: Array, axis: int, count: int) -> tuple[int, ...]:
    return (*cells.shape[:axis], count, *cells.shape[axis + 1 :])
