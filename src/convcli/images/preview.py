"""A picture in a terminal: two pixels a character cell, or letters from dark to light where there is no colour."""

from typing import TYPE_CHECKING, Any

from convcli.images.picture import Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDEST, TALLEST = 100, 60  # characters
LETTERS, HALF_BLOCK = " .:-=+*#%@", "▀"
CHECKS = 0.4, 0.6  # of the board behind what can be seen through


def shrink(picture: Picture, columns: int) -> Picture:
    """What a preview of at most so many characters shows, no wider than the picture: a pixel for half a character."""
    import numpy as np

    height, width = picture.size
    across = max(1, min(columns, WIDEST, width, 2 * TALLEST * width // height))
    down = max(1, min(2 * TALLEST, round(height * across / width)))  # a cell is twice as high as wide: two pixels
    pixels = np.nan_to_num(_shrunk(picture, 2 * -(-down // 2), across)).clip(0, 1)
    return Picture(pixels[::2] if down == 1 else pixels, 1.0)


def preview(shrunk: Picture, *, color: bool) -> str:
    """Lines of characters, with ANSI escapes of 24-bit colours if ``color``."""
    import numpy as np

    pixels = shrunk.pixels if len(shrunk.pixels) > 1 else shrunk.pixels.repeat(2, axis=0)
    if not color:
        gray = pixels.mean(axis=2).reshape(len(pixels) // 2, 2, -1).mean(axis=1)
        places = np.rint(gray * (len(LETTERS) - 1)).astype(int)
        return "\n".join("".join(LETTERS[one] for one in row).rstrip() for row in places)
    codes = np.rint(pixels * 255).astype(int)
    return "\n".join(
        "".join(_cell(upper, lower) for upper, lower in zip(*rows, strict=True)) + "\x1b[0m"
        for rows in zip(codes[::2].tolist(), codes[1::2].tolist(), strict=True)
    )


def _cell(upper: list[int], lower: list[int]) -> str:
    """The upper half in the foreground's colour, the lower in the background's."""
    (r, g, b), (x, y, z) = upper, lower
    return f"\x1b[38;2;{r};{g};{b};48;2;{x};{y};{z}m{HALF_BLOCK}"


def _shrunk(picture: Picture, height: int, width: int) -> "NDArray[Any]":
    """``(height, width, 3)`` fractions: means of blocks, colours weighted by alpha, laid over a chequered board."""
    import numpy as np

    def means(values: "NDArray[Any]", size: int, axis: int) -> "NDArray[Any]":
        starts = np.arange(size) * values.shape[axis] // size
        counts = np.maximum(1, np.diff(np.append(starts, values.shape[axis])))
        sums = np.add.reduceat(values, starts, axis=axis, dtype=np.float64)
        return sums / counts.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))

    def shrunk(values: "NDArray[Any]") -> "NDArray[Any]":
        return means(means(values, width, 1), height, 0)

    channels = picture.pixels.shape[2]
    if channels > 4 or (channels == 2 and not picture.alpha):  # feature maps: the first of them
        picture = Picture(picture.pixels[..., :1], picture.white)
    if not picture.alpha:
        return np.broadcast_to(shrunk(picture.pixels) / picture.white, (height, width, 3))
    board = np.array(CHECKS)[(np.arange(height)[:, None] // 2 + np.arange(width) // 2) % 2][..., None]
    alpha = picture.pixels[..., -1:] / picture.white
    return np.broadcast_to(
        shrunk(picture.color * alpha) / picture.white + board * (1 - shrunk(alpha)), (height, width, 3)
    )
