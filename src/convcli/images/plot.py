"""A curve as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convcli.images.picture import Picture

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

SIZE = 480, 800
MARGIN = 30, 20, 40, 80  # top, right, bottom, left
PAPER, INK, GRID, CURVE = (255, 255, 255), (60, 60, 60), (225, 225, 225), (200, 60, 30)
MOST_DECADES = 12


def loss_curve(losses: Sequence[float], title: str) -> Picture:
    """Losses over steps, on a logarithmic scale of at most 12 decades; those at or below its end lie on the floor."""
    import math

    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    height, width = SIZE
    top, right, bottom, left = MARGIN
    positive = [one for one in losses if one > 0 and math.isfinite(one)] or [1.0]
    high = math.ceil(math.log10(max(positive)))
    low = max(min(math.floor(math.log10(min(positive))), high - 1), high - MOST_DECADES)
    image = Image.new("RGB", (width, height), PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=12)

    def place(step: float, loss: float) -> tuple[float, float]:
        above = (math.log10(loss) - low) / (high - low) if loss > 0 else 0.0
        x = left + (width - left - right) * step / max(1, len(losses) - 1)
        return x, height - bottom - (height - top - bottom) * min(max(above, 0.0), 1.0)

    for decade in range(low, high + 1):
        _, y = place(0, 10.0**decade)
        draw.line([(left, y), (width - right, y)], GRID)
        _words(draw, (left - 8, y), f"1e{decade}", font, "rm")
    for step in {0, (len(losses) - 1) // 2, len(losses) - 1}:
        _words(draw, (place(step, 1)[0], height - bottom + 8), str(step), font, "mt")
    _words(draw, (left, top / 2), title, font, "lm")
    _words(draw, (width - right, height - 8), "step", font, "rb")
    points = [place(step, loss) for step, loss in enumerate(losses)]
    draw.line(points, CURVE, 2) if len(points) > 1 else draw.circle(points[0], 3, CURVE)
    return Picture(np.asarray(image), 255.0)


def _words(
    draw: "ImageDraw.ImageDraw",
    place: tuple[float, float],
    text: str,
    font: "ImageFont.FreeTypeFont | ImageFont.ImageFont",
    anchor: str,
) -> None:
    draw.text(place, text, INK, font, anchor=anchor)
