"""Working memory of one thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

KEPT_BYTES = 64 << 20  # that are laid by for the next calls, in all

_idle: list["Scratch"] = []


class Scratch:
    """Arrays that one thread works in, made once and used again: fresh memory costs a page fault every 4 KB."""

    def __init__(self) -> None:
        self._memory: dict[str, NDArray[Any]] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array with anything in it, the caller's until the same name is asked for again."""
        kind = np.dtype(dtype)
        if kind.kind == "O":
            return np.empty(shape, kind)
        size = prod(shape) * kind.itemsize
        memory = self._memory.get(name)
        if memory is None or memory.nbytes < size:
            memory = self._memory[name] = np.empty(size, np.uint8)
        return memory[:size].view(kind).reshape(shape)

    @property
    def nbytes(self) -> int:
        """What all its arrays take."""
        return sum(memory.nbytes for memory in self._memory.values())


@contextmanager
def borrowed_scratch() -> Iterator[Scratch]:
    """A scratch that nobody else uses meanwhile; laid by for whoever comes next, if that is not too much."""
    try:
        scratch = _idle.pop()
    except IndexError:
        scratch = Scratch()
    try:
        yield scratch
    finally:
        if scratch.nbytes + sum(one.nbytes for one in list(_idle)) <= KEPT_BYTES:
            _idle.append(scratch)
