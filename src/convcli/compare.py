"""Two pictures side by side in numbers: how far apart they are, where most, and how alike they look."""

from dataclasses import replace
from math import inf, log10
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcli.engine.conv import conv2d
from convcli.errors import ShapeError
from convcli.images.picture import Picture
from convcli.kernels.reading import read_kernel

Array = NDArray[Any]

# Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004
SSIM_WINDOW = "gaussian:sigma=1.5,size=11"
SSIM_LEVELS = 0.01**2, 0.03**2  # C1 and C2 for a range of 1


class Comparison(NamedTuple):
    """Differences in fractions of white: the greatest, where it is (row, column, channel), the mean, the root of the
    mean square; PSNR in dB, infinite for equal pictures; SSIM from -1 to 1, None for pictures smaller than its window;
    the share of pixels that differ."""

    greatest: float
    place: tuple[int, int, int]
    mean: float
    rms: float
    psnr: float
    ssim: float | None
    differing: float


def compare(one: Picture, other: Picture) -> tuple[Comparison, Picture]:
    """How two pictures of one size and number of channels differ, and the magnitudes of the differences as a picture,
    the greatest white.

    Depths may differ: both are taken as fractions of white. Raises ShapeError for pictures that can't be compared.
    """
    one, other = _seen(one), _seen(other)
    if one.pixels.shape != other.pixels.shape:
        sizes = " and ".join("x".join(map(str, (*side.size, side.pixels.shape[2]))) for side in (one, other))
        raise ShapeError(f"pictures of one size and number of channels are compared, not {sizes}")
    first, second = one.fractions(), other.fractions()
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ShapeError("pictures that hold NaN or infinity can't be compared")
    errors = np.abs(first - second)
    greatest = float(errors.max())
    row, column, channel = map(int, np.unravel_index(int(errors.argmax()), errors.shape))
    square = float(np.square(errors).mean())
    found = Comparison(
        greatest,
        (row, column, channel),
        float(errors.mean()),
        square**0.5,
        -10 * log10(square) if square else inf,
        ssim(first, second),
        float((errors > 0).any(axis=2).mean()),
    )
    shown = np.rint(errors * (255 / greatest if greatest else 0)).astype(np.uint8)
    return found, Picture(shown, 255.0, one.alpha).without_alpha()


def _seen(picture: Picture) -> Picture:
    """A picture as far as it can be seen: opaque alpha forgotten, colours that are hidden black."""
    if picture.opaque():
        return picture.without_alpha()
    hidden = picture.pixels[..., -1:] == 0
    return replace(picture, pixels=np.where(hidden, 0, picture.pixels).astype(picture.pixels.dtype))


def ssim(first: Array, second: Array) -> float | None:
    """The mean structural similarity of ``(H, W, C)`` fractions; None if they are smaller than its window."""
    window = read_kernel(SSIM_WINDOW).weights
    if min(first.shape[:2]) < len(window):
        return None
    one, other = (np.moveaxis(side, 2, 0) for side in (first, second))

    def mean(values: Array) -> Array:
        result: Array = conv2d(values, window)
        return result

    low, high = SSIM_LEVELS
    m1, m2 = mean(one), mean(other)
    v1, v2, both = mean(one * one) - m1 * m1, mean(other * other) - m2 * m2, mean(one * other) - m1 * m2
    alike = (2 * m1 * m2 + low) * (2 * both + high) / ((m1 * m1 + m2 * m2 + low) * (v1 + v2 + high))
    return float(alike.mean())
