"""Memory of results, used again once nobody looks at them: the system clears a fresh page before it hands it out, which
takes as long as a small kernel. The C library keeps small arrays by itself, large ones it gives back at once.
"""

from collections import deque
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LARGE_BYTES = 1 << 22  # from here on
KEPT_BYTES = 160 << 20  # and up to here: a colour picture of 12 megapixels in float32

_idle: deque[NDArray[Any]] = deque(maxlen=1)


class _Loan:
    """What an array of :func:`empty_result` is a view of: gives the memory back when the last view is gone."""

    def __init__(self, memory: NDArray[Any]) -> None:
        self._memory = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self, idle: deque[NDArray[Any]] = _idle) -> None:  # bound, since modules may be gone by then
        idle.append(self._memory)


def empty_result(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """As ``np.empty``, but in the memory that the last result left, if that is about as large; if not, it is freed."""
    kind = np.dtype(dtype)
    size = prod(shape) * kind.itemsize
    if size < LARGE_BYTES:
        return np.empty(shape, kind)
    memory = _left(size)
    if memory is None:
        memory = np.empty(size, np.uint8)
    loan = np.asarray(_Loan(memory)) if size <= KEPT_BYTES else memory
    return loan[:size].view(kind).reshape(shape)


def _left(size: int) -> NDArray[Any] | None:
    try:
        memory = _idle.pop()
    except IndexError:
        return None
    return memory if size <= memory.nbytes <= 2 * size else None
