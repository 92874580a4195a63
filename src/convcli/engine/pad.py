"""The border: which picture cell stands at which place of the padded picture, fetched tile by tile."""

from functools import lru_cache
from operator import index
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pads, Pair
from convcli.errors import ConvcliError
from convcli.words import BOUNDARY_ALIASES, Boundary

Array = NDArray[Any]
BoundaryLike = str | float

REMEMBERED_PLACES = 1 << 16  # of an index, at most
_FILL = -1  # stands in a source index where the border is a number, not a cell


def parse_boundary(value: BoundaryLike) -> Boundary | float:
    """A boundary word, an alias of one, or a finite number, a whole one as an int, which no float may hold."""
    if isinstance(value, str):
        try:
            return BOUNDARY_ALIASES.get(value) or Boundary(value)
        except ValueError:
            words = ", ".join([*Boundary, *BOUNDARY_ALIASES])
            raise ConvcliError(f"boundary must be {words} or a number, not {value!r}") from None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConvcliError(f"boundary must be a word or a number, not {value!r}") from None
    except OverflowError:
        number = np.inf
    if not np.isfinite(number):
        raise ConvcliError(f"boundary must be a finite number that float64 holds, not {value!r}")
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        return number


def source_index(n: int, before: int, after: int, boundary: Boundary | float) -> NDArray[np.intp]:
    """For each of ``before + n + after`` padded places the index of its cell, or -1 where a number stands. Read-only.

    ``np.pad`` on the indices themselves, so that a border wider than the picture goes on exactly as it does there.
    """
    known = _known_index if before + n + after <= REMEMBERED_PLACES else _padded_index
    return known(n, before, after, boundary)


def _padded_index(n: int, before: int, after: int, boundary: Boundary | float) -> NDArray[np.intp]:
    cells = np.arange(n, dtype=np.intp)
    of_cells = isinstance(boundary, Boundary) and boundary is not Boundary.ZERO  # its words are those of np.pad
    how: dict[str, Any] = {"mode": str(boundary)} if of_cells else {"constant_values": _FILL}
    index: NDArray[np.intp] = np.pad(cells, (before, after), **how)
    index.flags.writeable = False
    return index


_known_index = lru_cache(maxsize=16)(_padded_index)  # pictures of a size come one after another


class Border:
    """A picture's border: made once from sizes, then laid around any items ``(..., H, W, P)``, tile by tile."""

    def __init__(self, size: Pair, pads: Pads, boundary: Boundary | float) -> None:
        self.size = size
        number = 0.0 if boundary is Boundary.ZERO else boundary
        self.fill = None if isinstance(number, Boundary) else number
        self.before = pads[0][0], pads[1][0]
        self.rows = source_index(size[0], *pads[0], boundary)
        self.columns = source_index(size[1], *pads[1], boundary)

    def tile(
        self, cells: Array, rows: Pair, columns: Pair, dtype: DTypeLike, scratch: Scratch, tall: int | None = None
    ) -> Array:
        """The padded rows and columns ``[first, last)`` of ``cells`` as ``dtype``, contiguous within a row.

        A view if nothing changes, else memory of ``scratch``. Rows that make it ``tall`` are zeros at the end.
        """
        top, bottom = self._inside(0, rows)
        left, right = self._inside(1, columns)
        inner = cells[..., top:bottom, left:right, :]
        deep, wide = rows[1] - rows[0], columns[1] - columns[0]
        tall = tall or deep
        if inner.shape[-3:-1] == (tall, wide) and inner.dtype == dtype and _in_rows(inner):
            return inner
        out = scratch("block", (*inner.shape[:-3], tall, wide, inner.shape[-1]), dtype)
        y = min(deep, max(0, top + self.before[0] - rows[0]))  # a tile may lie wholly in front of the picture or behind
        x = max(0, left + self.before[1] - columns[0])
        y_end, x_end = y + inner.shape[-3], x + inner.shape[-2]
        out[..., y:y_end, x:x_end, :] = inner
        out[..., deep:, :, :] = 0
        if (y, y_end, x, x_end) == (0, deep, 0, wide):
            return out
        row_index, column_index = self.rows[slice(*rows)], self.columns[slice(*columns)]
        for strip in (slice(0, x), slice(x_end, wide)):
            out[..., y:y_end, strip, :] = cells[..., top:bottom, column_index[strip], :]
        for strip in (slice(0, y), slice(y_end, deep)):
            if strip.start < strip.stop:
                out[..., strip, :, :] = cells[..., row_index[strip, None], column_index, :]
        if self.fill is not None:
            fill = int(self.fill) if out.dtype.kind == "O" else self.fill  # a float among Python integers would spread
            out[..., :deep, :, :][..., row_index == _FILL, :, :] = fill
            out[..., :deep, column_index == _FILL, :] = fill
        return out

    def _inside(self, axis: int, span: Pair) -> Pair:
        """The part of a padded span that lies on the picture, in picture coordinates; it may be empty."""
        n, before = self.size[axis], self.before[axis]
        first = min(max(span[0] - before, 0), n)
        return first, max(first, min(span[1] - before, n))


def _in_rows(cells: Array) -> bool:
    """Whether ``(..., rows, columns, P)`` lies as BLAS and the methods take it: rows apart, nothing within."""
    (line, column, value), (width, pitch) = cells.strides[-3:], cells.shape[-2:]
    packed = value == cells.itemsize and column == pitch * value
    return packed and line >= width * column and cells.flags.aligned
