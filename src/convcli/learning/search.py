"""What is looked for before a fit: how a pair lies together, how large its kernel is, how far it is shifted."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcli.engine.shapes import PaddingLike, Pair, conv_window
from convcli.errors import ShapeError
from convcli.learning.fitting import Wish, quick_fit
from convcli.learning.moments import Example, Gathered, Geometry, gather
from convcli.words import Padding

Array = NDArray[Any]

LARGEST = 15  # rows and columns of a kernel whose size is looked for
ENOUGH = 1.02  # times the least error that any size, or shift, leaves
FARTHEST = 8  # pixels that one picture may be shifted against the other
SEARCHED = 192  # rows and columns in which a shift is looked for
SHIFTED = 0.5  # times the error without a shift: above it there is none
MIDDLING, SMALL = 9, 5  # most rows and columns of the window for that, the latter if the size is not known


def geometry_of(example: Example, size: Pair, padding: PaddingLike | None, stride: Pair) -> Geometry:
    """How the outputs of a pair lie over its input. Raises ShapeError that says which sizes would fit."""
    given, wanted = example.before.shape[1:], example.after.shape[1:]
    words = [Padding.SAME, Padding.VALID, Padding.FULL] if padding is None else [padding]
    tried = []
    for padding in words:
        try:
            window = conv_window((given[0], given[1]), size, padding=padding, stride=stride)
        except ShapeError:
            continue
        if window.output == wanted:
            return Geometry(size, stride, (window.pads[0][0], window.pads[1][0]))
        tried.append(f"{window.output[0]}x{window.output[1]} ({padding})")
    steps = f" and stride {stride[0]}x{stride[1]}" if stride != (1, 1) else ""
    made = f"a {size[0]}x{size[1]} kernel{steps} makes {given[0]}x{given[1]} into {' or '.join(tried) or 'nothing'}"
    raise ShapeError(example.error(f"{made}, but the second picture is {wanted[0]}x{wanted[1]}"))


def largest_size(example: Example) -> Pair:
    """The largest size to look at: odd, or what the sizes of the pictures leave no choice about."""
    given, wanted = example.before.shape[1:], example.after.shape[1:]
    less = [n - m for n, m in zip(given, wanted, strict=True)]
    if any(less) and (min(less) >= 0 or max(less) <= 0):
        return abs(less[0]) + 1, abs(less[1]) + 1
    most = (min(LARGEST, (n + 1) // 2) for n in given)
    height, width = (n - 1 + n % 2 for n in most)
    return height, width


def smallest_size(outputs: Sequence[Gathered], channels: int, size: Pair, wish: Wish) -> tuple[Pair, Array]:
    """The least kernel around the same centre that does about as well on rows held out, and where its weights are."""
    places = np.arange(channels * prod(size)).reshape(channels, *size)
    errors, index = {}, {}
    for height, width in np.ndindex(*size):
        top, left = (_centre(size[0]) - _centre(height + 1)), (_centre(size[1]) - _centre(width + 1))
        chosen = places[:, top : top + height + 1, left : left + width + 1].ravel()
        parts = [one.part(chosen) for one in outputs]
        index[height + 1, width + 1] = chosen
        errors[height + 1, width + 1] = sum(one.held.loss(quick_fit(one.train, wish.bias)) for one in parts)
    enough = ENOUGH * min(errors.values()) + 1e-12 * sum(one.held.energy for one in outputs)
    best = min((one for one in errors if errors[one] <= enough), key=lambda one: (prod(one), one))
    return best, index[best]


def _centre(size: int) -> int:
    """The cell of a kernel that ``same`` keeps in place."""
    return (size - 1) // 2


def find_shift(example: Example, geometry: Geometry, *, auto: bool) -> Pair:
    """How far the second picture is shifted, looked for in the middle of the first one: (0, 0) unless a shift leaves
    much less error. Of shifts that do about as well, since the kernel has room to move in its window, the middle."""
    most = SMALL if auto else MIDDLING
    size = min(geometry.kernel[0], most), min(geometry.kernel[1], most)
    if geometry.stride != (1, 1) or min(example.after.shape[1:]) < 3 * FARTHEST + max(size):
        return 0, 0
    middle = minus(geometry.before, (_centre(geometry.kernel[0]), _centre(geometry.kernel[1])))
    before = plus(middle, (_centre(size[0]) + FARTHEST, _centre(size[1]) + FARTHEST))
    wide = Geometry((size[0] + 2 * FARTHEST, size[1] + 2 * FARTHEST), (1, 1), before)
    rows, columns = (
        wide.inside(axis, example.before.shape[axis + 1], example.after.shape[axis + 1]) for axis in (0, 1)
    )
    if not rows or not columns:
        return 0, 0
    top, left = (span[max(0, (len(span) - SEARCHED) // 2)] for span in (rows, columns))
    crop = example.after[:1, top : top + SEARCHED, left : left + SEARCHED]
    wide = wide._replace(before=minus(wide.before, (top, left)))
    moments = gather(example._replace(before=example.before[:1], after=crop), wide)
    places = np.arange(prod(wide.kernel)).reshape(wide.kernel)
    errors = {}
    for dy, dx in np.ndindex(2 * FARTHEST + 1, 2 * FARTHEST + 1):
        part = moments.part(places[dy : dy + size[0], dx : dx + size[1]].ravel()).all
        errors[FARTHEST - dy, FARTHEST - dx] = part.loss(quick_fit(part, bias=True))
    best, floor = min(errors.values()), 1e-6 * moments.all.energy
    if best + floor > SHIFTED * errors[0, 0]:
        return 0, 0
    tied = np.array([one for one, error in errors.items() if error <= ENOUGH * best + floor])
    middle = np.rint(tied.mean(axis=0)).astype(int)
    return int(middle[0]), int(middle[1])


def plus(one: Pair, other: Pair) -> Pair:
    """The sums."""
    return one[0] + other[0], one[1] + other[1]


def minus(one: Pair, other: Pair) -> Pair:
    """The differences."""
    return one[0] - other[0], one[1] - other[1]
