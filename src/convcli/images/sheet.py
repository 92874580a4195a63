"""Feature maps to look at: all of them on one labelled sheet."""

import math
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from convcli.errors import ShapeError, one_line
from convcli.images.picture import Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_MAPS, MAX_SHEET_PIXELS = 4096, 40_000_000
LONGEST, LEAST = 320, 64  # what the longer side of a map is shrunk to, and the least it is when there are many
USUAL, MAX_ENLARGED = 112, 32  # what the longer side of a small map is enlarged to, and by how much at most
THINNEST = 12  # the shorter side of a strip gets a scale of its own to become as wide as this
LABEL_WIDTH, TITLE_WIDTH = 112, 480  # room for words where the maps are narrower
LABEL_SIZE, TITLE_SIZE, UNDER_LABEL, GAP = 11, 16, 3, 12
PAPER, INK, PALE_INK = (28, 34, 48), (240, 240, 240), (165, 180, 205)  # bluish, so that no grey is lost in it
NOT_FINITE = (255, 0, 200)


def contact_sheet(
    maps: "NDArray[Any]", *, title: str = "", labels: Sequence[str] | None = None, stretch: bool = True
) -> Picture:
    """Maps ``(C, H, W)`` side by side under their numbers or ``labels``, an 8-bit RGB picture of at most 40 megapixels.

    Colour pictures ``(N, H, W, 3)`` will do, too, if they are not to be stretched.
    With ``stretch`` each map goes from its own least finite value (black) to its greatest (white), both written above
    it, and a constant one is mid-grey; without, values are fractions of white. What is not finite is pink. Notices say
    what is shrunk, left out or not finite. Raises ShapeError for no maps, empty maps, or labels of another number.
    """
    import numpy as np

    if (maps.ndim != 3 and (stretch or maps.ndim != 4 or maps.shape[3] != 3)) or 0 in maps.shape:
        raise ShapeError(f"a sheet shows maps CxHxW, each at least 1x1, not {'x'.join(map(str, maps.shape))}")
    if labels is not None and len(labels) != len(maps):
        raise ShapeError(f"{len(labels)} labels for {len(maps)} maps")
    count, all_finite = min(len(maps), MAX_MAPS), 0
    left_out = f"the first {count:,} of {len(maps):,} maps" if count < len(maps) else ""
    heading, small = _Font(TITLE_SIZE), _Font(LABEL_SIZE)
    title = " - ".join(filter(None, (left_out, _plain(title))))  # what is left out first: the end may be cut off
    grid = _grid(count, maps.shape[1:3], small.height * (1 + stretch) + UNDER_LABEL)
    top = GAP + (heading.height + GAP if title else 0)
    height, width = grid.size
    width = max(width, min(heading.length(title[:TITLE_WIDTH]), TITLE_WIDTH))
    canvas = np.full((top + height + GAP, width + 2 * GAP, 3), PAPER, np.uint8)
    if title:
        canvas[GAP : GAP + heading.height, GAP:-GAP] = heading.line(title, width, INK)
    for index in range(count):
        row, column = divmod(index, grid.columns)
        y, x = top + row * (grid.cell[0] + GAP), GAP + column * (grid.cell[1] + GAP)
        tile, extent, finite = _tile(maps[index], grid, stretch)
        all_finite += finite
        label = str(index) if labels is None else _plain(labels[index])
        for words, ink in ((label, INK), (extent, PALE_INK))[: 1 + stretch]:
            canvas[y : y + small.height, x : x + grid.cell[1]] = small.line(words, grid.cell[1], ink)
            y += small.height
        y += UNDER_LABEL
        canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    notices = [f"only {left_out} are shown; -o NAME.npy keeps all"] if left_out else []
    notices += _scale_notice(grid)
    if all_finite < count:
        notices.append(f"{count - all_finite:,} of {count:,} maps hold NaN or infinity, shown in pink")
    return Picture(canvas, 255.0, notices=tuple(notices))


def _plain(text: str) -> str:
    """One line without accents, since Pillow's own font has hardly more than ASCII."""
    return "".join(one for one in unicodedata.normalize("NFD", one_line(text)) if not unicodedata.combining(one))


class _Font:
    """Pillow's own font at one size, for lines that stay within their room."""

    def __init__(self, size: int) -> None:
        from PIL import ImageFont

        self.font = cast("ImageFont.FreeTypeFont", ImageFont.load_default(size=size))
        self.ascent, descent = self.font.getmetrics()
        self.height = self.ascent + descent

    def length(self, text: str) -> int:
        return math.ceil(self.font.getlength(text))

    def line(self, text: str, width: int, ink: tuple[int, int, int]) -> "NDArray[Any]":
        """``(height, width, 3)``, with an ellipsis at the end of what is too long."""
        import numpy as np
        from PIL import Image, ImageDraw

        if len(text) > width or self.length(text) > width:
            fits = bisect_right(range(min(len(text), width)), width, key=lambda n: self.length(text[:n] + "…"))
            text = text[: max(0, fits - 1)].rstrip() + "…"
        strip = Image.new("RGB", (width, self.height), PAPER)
        ImageDraw.Draw(strip).text((0, self.ascent), text, ink, self.font, anchor="ls")
        return np.asarray(strip)


class _Grid(NamedTuple):
    """How maps are laid out: shrunk by ``down``, enlarged by ``up``, in cells of a size that has room for labels."""

    down: tuple[int, ...]
    up: tuple[int, ...]
    cell: tuple[int, int]
    rows: int
    columns: int

    @property
    def size(self) -> tuple[int, int]:
        return self.rows * (self.cell[0] + GAP) - GAP, self.columns * (self.cell[1] + GAP) - GAP

    def unshapely(self, count: int) -> float:
        """How far it is from 4:3, and from having no empty cells."""
        height, width = self.size
        return abs(math.log(width / height * 3 / 4)) + (self.rows * self.columns - count) / count


def _grid(count: int, size: tuple[int, ...], label_height: int) -> _Grid:
    """The layout with the largest maps of which the sheet stays within its bound."""
    for longest in range(LONGEST, LEAST - 1, -8):
        down, up = zip(*(_scale(side, max(size), longest) for side in size), strict=True)
        height, width = (-(-side // down[axis]) * up[axis] for axis, side in enumerate(size))
        cell = label_height + height, max(width, min(LABEL_WIDTH, longest + GAP))
        ideal = min(count, round(math.sqrt(count * 4 / 3 * (cell[0] + GAP) / (cell[1] + GAP))))
        near = range(max(1, ideal - 4), min(count, ideal + 4) + 1)
        grids = (_Grid(down, up, cell, -(-count // columns), columns) for columns in near)
        grid = min(grids, key=lambda one: one.unshapely(count))
        if (grid.size[0] + 60) * (grid.size[1] + 2 * GAP) <= MAX_SHEET_PIXELS:  # 60: title and margins
            break
    return grid


def _scale(side: int, longer: int, longest: int) -> tuple[int, int]:
    """Whole numbers to shrink and to enlarge one side of a map by, given its longer side and the most that may be."""
    down = -(-longer // longest)
    up = max(1, min(MAX_ENLARGED, round(USUAL / longer), longest // longer))
    if -(-side // down) * up < THINNEST:
        return max(1, side // THINNEST), max(1, THINNEST // side)
    return down, up


def _scale_notice(grid: _Grid) -> list[str]:
    """What there is to know about the scale: nothing, if all cells of a map are seen, in their proportions."""
    height, width = (f"1/{less} of" if less > 1 else f"{more} times" for less, more in zip(*grid[:2], strict=True))
    if height == width and grid.down[0] == 1:
        return []
    scale = f"{height} their size" if height == width else f"{height} their height, {width} their width"
    return [f"maps are shown at {scale}; -o NAME.npy keeps them exactly"]


def _tile(plane: "NDArray[Any]", grid: _Grid, stretch: bool) -> tuple["NDArray[Any]", str, bool]:
    """A map ``(H, W)`` or ``(H, W, 3)`` as it is shown, its extent in words, and whether all of it is finite."""
    import numpy as np

    low, high, finite = _extent(plane)
    extent = "nothing finite" if low > high else f"all {low:.3g}" if low == high else f"{low:.3g}  to {high:.3g}"
    if stretch and max(-low, high) > 1e300:  # sums and differences would overflow
        plane, low, high = plane / 1e10, low / 1e10, high / 1e10
    values = _averaged(plane if plane.ndim == 3 else plane[..., None], grid.down)
    seen = np.isfinite(values).all(axis=2, keepdims=True)
    grays = np.where(seen, values, 0)
    if stretch:
        grays = (grays - low) / (high - low) if low < high else np.full(grays.shape, 0.5)
    codes = np.rint(255 * np.clip(grays, 0, 1))
    colors = np.where(seen, codes, NOT_FINITE).astype(np.uint8)
    return colors.repeat(grid.up[0], axis=0).repeat(grid.up[1], axis=1), extent, finite


def _extent(plane: "NDArray[Any]") -> tuple[float, float, bool]:
    """The least and the greatest finite value, inf and -inf if there is none, and whether all are finite."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        low, high = float(plane.min()), float(plane.max())
    finite = math.isfinite(low) and math.isfinite(high)
    if not finite:
        values = plane[np.isfinite(plane)]
        low, high = (float(values.min()), float(values.max())) if values.size else (math.inf, -math.inf)
    return low + 0.0, high + 0.0, finite  # + 0.0 makes 0 of -0


def _averaged(plane: "NDArray[Any]", down: tuple[int, ...]) -> "NDArray[Any]":
    """The means of blocks in float64, smaller ones at the far edges; not finite where anything in a block isn't."""
    import numpy as np

    for axis, factor in enumerate(down):
        starts = np.arange(0, plane.shape[axis], factor)
        counts = np.diff(starts, append=plane.shape[axis])
        with np.errstate(invalid="ignore", over="ignore"):
            plane = np.add.reduceat(plane, starts, axis=axis, dtype=np.float64)
        plane /= counts[:, None, None] if axis == 0 else counts[:, None]
    return plane
