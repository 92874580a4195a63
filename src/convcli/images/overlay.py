"""A box around a region of a picture."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convcli.errors import ShapeError
from convcli.images.picture import Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINE, LINE_EDGE = (1.0, 0.85, 0.0), (0.0, 0.0, 0.0)  # fractions of white
DIMMED = 0.6
ROOMY = 16  # a region this many times as wide as the line can spare some pixels for it


def draw_box(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    """A picture ``(H, W, 1 to 4)`` made RGB(A), a line around a region, all else dimmed to 60 %; its depth is kept.

    ``box`` is the first and last row, first and last column; where it reaches beyond the picture it stays open. The
    line is outside of it; but where it ends at the edge of the picture the line is inside, if the box is large, or
    left out. Raises ShapeError for a box whose last row or column comes before its first.
    """
    import numpy as np

    top, bottom, left, right = box
    if top > bottom or left > right:
        raise ShapeError(f"a box can't go from row {top} to {bottom} and from column {left} to {right}")
    height, width = picture.size
    thick = max(1, round(max(height, width) / 500))
    edge, line, inside = zip(_spans(top, bottom, height, thick), _spans(left, right, width, thick), strict=True)
    colors = np.broadcast_to(picture.color, (height, width, 3))
    plain = np.concatenate([colors, picture.pixels[..., -1:]], axis=2) if picture.alpha else colors
    pixels = plain.copy()
    pixels[..., :3] = _dimmed(picture.color)
    for part, color in ((edge, LINE_EDGE), (line, LINE)):
        pixels[part] = [one * picture.white for one in (*color, 1.0)[: pixels.shape[2]]]  # opaque
    pixels[inside] = plain[inside]
    return replace(picture, pixels=pixels)


def _spans(first: int, last: int, size: int, thick: int) -> list[slice]:
    """Along one axis: what the line's dark edge, the line, and its inside reach over on the picture."""
    start, stop = first - 2 * thick, last + 1 + 2 * thick
    if min(last + 1, size) - max(first, 0) >= ROOMY * thick:
        start = 0 if 0 <= first < thick else start
        stop = size if 0 <= size - 1 - last < thick else stop
    ends = ((start + ring * thick, stop - ring * thick) for ring in range(3))
    return [slice(min(max(one, 0), size), min(max(other, 0), size)) for one, other in ends]


def _dimmed(color: "NDArray[Any]") -> "NDArray[Any]":
    """The codes at a fraction of their light, in the same type."""
    import numpy as np

    codes = color if color.dtype.kind == "f" else np.arange(np.iinfo(color.dtype).max + 1)  # a table is fast and small
    dimmed: NDArray[Any] = codes * DIMMED
    return dimmed if color.dtype.kind == "f" else np.rint(dimmed).astype(color.dtype)[color]
