"""Windows along one axis, each folded into one value by a ufunc: the inner loop of pools and of box sums."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcli.engine.scratch import Scratch

Array = NDArray[Any]

# Times as long NumPy takes for every n-th value of a row, or every n-th pixel of several values.
STRIDED, PIXELS_STRIDED = 3, 8
LONG = 16  # cells from which NumPy's own reduction is faster than a pass for each
Part = tuple[int, int]  # doublings, and its first cell in the window


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
    overlap, within_row = ufunc is not np.add, axis == cells.ndim - 2
    parts = _doubled(size, stride, _strided(stride, within_row and outputs > 1, cells.shape[-1]), overlap)
    same_order = overlap or within_row or not parts  # a lone row of a sum must not round otherwise
    if outputs == 1 and size >= LONG and same_order:
        window = _taken(cells, axis, 0, size, dilation)
        return np.asarray(ufunc.reduce(window, axis=axis, dtype=cells.dtype, keepdims=True, out=folded))
    parts, doublings, total = parts or [(0, first) for first in range(size)], 0, None
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
        elif 0 < level < parts[-1][0] or size == 1:  # its memory is wanted again, or it is all there is
            total = folded
            total[...] = part
        else:
            total = part
    return folded


def in_line(size: int, stride: int, outputs: int, within_row: bool, pitch: int) -> bool:
    """Whether :func:`fold` adds up the cells of a window one after the other, not by pairs as it or NumPy may do."""
    if _doubled(size, stride, _strided(stride, within_row and outputs > 1, pitch), False):
        return False
    return not (within_row and outputs == 1 and pitch == 1)


def passes(size: int, stride: int, within_row: bool, pitch: int) -> int:
    """How long :func:`fold` takes for a sum, in passes over as many neighbours as there are outputs."""
    strided = _strided(stride, within_row, pitch)
    parts = _doubled(size, stride, strided, False)
    return _passes(parts, stride, strided) if parts else size * strided


@lru_cache(maxsize=256)
def _doubled(size: int, stride: int, strided: int, overlap: bool) -> Sequence[Part]:
    """What doubling makes up a window of, or nothing where its cells one by one are less work."""
    if size == 1:
        return ()
    half = (size - 1).bit_length() - 1  # doublings of the largest part that is not the whole
    if overlap or size == 2 << half:
        parts = [(half, 0), (half, size - (1 << half))]
    else:
        parts = [(level, size & ((1 << level) - 1)) for level in range(half + 1) if size >> level & 1]
    return parts if _passes(parts, stride, strided) < size * strided else ()


def _passes(parts: Sequence[Part], stride: int, strided: int) -> int:
    """One over all cells for a doubling, one over the outputs for each part."""
    return parts[-1][0] * stride + len(parts) * strided


def _strided(stride: int, within_row: bool, pitch: int) -> int:
    if stride == 1 or not within_row:
        return 1
    return STRIDED if pitch == 1 else PIXELS_STRIDED


def _taken(cells: Array, axis: int, first: int, count: int, step: int = 1) -> Array:
    place = (slice(None),) * axis + (slice(first, first + (count - 1) * step + 1, step),)
    return cells[place]


def _resized(cells: Array, axis: int, count: int) -> tuple[int, ...]:
    return (*cells.shape[:axis], count, *cells.shape[axis + 1 :])
