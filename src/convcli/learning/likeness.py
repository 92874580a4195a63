"""The named kernel that a kernel is most like."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcli.kernels.named import NAMED
from convcli.kernels.reading import read_kernel

Array = NDArray[Any]


class Likeness(NamedTuple):
    """A named kernel, what it is to be multiplied with, and the correlation of the two (the cosine)."""

    name: str
    scale: float
    correlation: float


def closest(kernel: Array) -> Likeness | None:
    """The named kernel most like one, whatever its scale; None for a kernel of zeros."""
    norm = float(np.linalg.norm(kernel))
    if norm == 0:
        return None
    found = []
    for name in _named(kernel.shape):
        other = _centred(read_kernel(name).weights, kernel.shape)
        if other is None:
            continue
        product, size = float((kernel * other).sum()), float(np.linalg.norm(other))
        found.append(Likeness(name, product / size**2, product / (norm * size)))
    return max(found, key=lambda one: (round(abs(one.correlation), 6), one.scale > 0, -len(one.name)), default=None)


def _named(shape: tuple[int, ...]) -> Iterator[str]:
    """Names to compare with: every kernel with its defaults, and those of one parameter in the sizes that fit."""
    yield from (name for name, one in NAMED.items() if one.combine is None)
    for size in range(2, min(shape) + 1):
        yield from (f"box:{size}", f"binomial:{size}")
        if size % 2:
            yield f"motion:{size}"
    side = min(shape) - 1 + min(shape) % 2
    for tenths in range(4, 10 * max(shape) // 3):
        yield f"gaussian:{tenths / 10:g}"
        yield f"gaussian:sigma={tenths / 10:g},size={side}"


def _centred(kernel: Array, shape: tuple[int, ...]) -> Array | None:
    """A kernel in zeros, its centre where that of the shape is; None if more than zeros of it would not fit."""
    firsts = [(wanted - 1) // 2 - (given - 1) // 2 for given, wanted in zip(kernel.shape, shape, strict=True)]
    room = np.pad(kernel, [(max(0, one), max(0, wanted)) for one, wanted in zip(firsts, shape, strict=True)])
    top, left = (max(0, -one) for one in firsts)
    inside = room[top : top + shape[0], left : left + shape[1]]
    return inside if np.count_nonzero(inside) == np.count_nonzero(kernel) else None
