"""Make the sample pictures that are drawn or derived here: text-6x8.png, chart.png and coffee.jpg.

Run it with ``python make_samples.py``; it needs NumPy and Pillow and writes beside itself.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

HERE = Path(__file__).resolve().parent
PAPER = (240, 238, 232)
VIVID = ["ff0000", "ff8000", "ffff00", "00ff00", "00ffff", "0000ff", "8000ff", "ff00ff"]
MUTED = ["8c4a3f", "d9a07a", "d8c268", "5f7d4a", "5fa8a0", "3f5f8f", "75608f", "c98aa0"]


def text_picture() -> Pixels:
    """White, 6 rows by 8 columns, with columns 2 to 5 black."""
    picture = np.full((6, 8), 255, dtype=np.uint8)
    picture[:, 2:6] = 0
    return picture


def grey(values: NDArray[np.floating]) -> Pixels:
    """RGB pixels of the grey levels ``values``, where 0 is black and 1 is white."""
    return np.repeat(np.rint(255 * values).astype(np.uint8)[..., np.newaxis], 3, axis=-1)


def ramps(steps: int = 16, step_width: int = 30) -> Pixels:
    """A stepped grey ramp standing on a smooth one."""
    stepped = np.repeat(np.linspace(0, 1, steps), step_width)
    smooth = np.linspace(0, 1, stepped.size)
    return grey(np.vstack([np.tile(stepped, (40, 1)), np.tile(smooth, (24, 1))]))


def siemens_star(size: int = 224, spokes: int = 36, oversample: int = 4) -> Pixels:
    """A disc of black and white wedges, each pixel the mean of ``oversample`` squared points."""
    axis = (np.arange(size * oversample) + 0.5) / oversample - size / 2
    x, y = axis[np.newaxis, :], axis[:, np.newaxis]
    wedges = 255.0 * (np.sin(spokes * np.arctan2(y, x)) > 0)
    inside = np.hypot(x, y)[..., np.newaxis] < size / 2
    points = np.where(inside, wedges[..., np.newaxis], np.array(PAPER, dtype=np.float64))
    means: NDArray[np.float64] = points.reshape(size, oversample, size, oversample, 3).mean(axis=(1, 3))
    return np.rint(means).astype(np.uint8)


def grating(across: int, down: int, period: int, height: int = 64, width: int = 48) -> Pixels:
    """Lines that repeat every ``period`` pixels: (1, 0) upright, (0, 1) level, (1, 1) diagonal."""
    y, x = np.mgrid[:height, :width]
    return grey(((across * x + down * y) % period >= period // 2).astype(np.float64))


def patches(colours: list[str], height: int = 32, width: int = 60) -> Pixels:
    """A row of solid patches."""
    row = np.array([list(bytes.fromhex(colour)) for colour in colours], dtype=np.uint8)
    return np.tile(np.repeat(row, width, axis=0), (height, 1, 1))


def dots(background: int, height: int = 80, width: int = 112) -> Pixels:
    """Single pixels on a flat field: a row of the opposite grey, and a row with R, G and B changed."""
    panel = np.full((height, width, 3), background, dtype=np.uint8)
    panel[height // 4, 14::28] = 255 - background
    for channel in range(3):
        panel[3 * height // 4, 28 + 28 * channel, channel] = 255 - background
    return panel


def edges(softness: tuple[int, ...] = (1, 8, 32, 128), height: int = 20, width: int = 240) -> Pixels:
    """One strip for each softness: the number of pixels over which black turns to white."""
    x = np.arange(width) + 0.5 - width / 2
    ramp = np.clip(x / np.array(softness)[:, np.newaxis] + 0.5, 0, 1)
    return grey(np.repeat(ramp * ramp * (3 - 2 * ramp), height, axis=0))


def chart() -> Pixels:
    """The 512 by 512 test chart."""
    page = np.tile(np.array(PAPER, dtype=np.uint8), (512, 512, 1))

    def paste(top: int, left: int, block: Pixels) -> None:
        page[top : top + block.shape[0], left : left + block.shape[1]] = block

    paste(16, 16, ramps())
    paste(96, 16, siemens_star())
    for row, (across, down) in enumerate([(1, 0), (0, 1), (1, 1)]):
        for column, period in enumerate([16, 8, 4, 2]):
            paste(96 + 80 * row, 256 + 64 * column, grating(across, down, period))
    paste(336, 16, np.vstack([patches(VIVID), patches(MUTED)]))
    paste(416, 16, np.hstack([dots(0), dots(255)]))
    paste(416, 256, edges())
    return page


def main() -> None:
    """Write the three pictures."""
    Image.fromarray(text_picture()).save(HERE / "text-6x8.png", optimize=True)
    Image.fromarray(chart()).save(HERE / "chart.png", optimize=True)
    with Image.open(HERE / "coffee.png") as photograph:
        photograph.convert("RGB").save(HERE / "coffee.jpg", quality=92)


if __name__ == "__main__":
    main()
