"""What is asked of every input: layers, then range, then rounding; and what came of it."""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from convcli.engine.shapes import Window
from convcli.engine.threads import cores
from convcli.errors import PictureError
from convcli.layers import Layer, Row, Shape, report_rows
from convcli.words import AUTO, MAX_PIXELS, Alpha, Depth, Range

if TYPE_CHECKING:
    from convcli.engine.store import Extent

WEIGHT_BYTES = 12  # as a float64, and once more as a float32
ENGINE_BYTES = 24 << 20  # of a thread at work, at most; docs/performance.md


@dataclass(frozen=True)
class Recipe:
    """Everything asked for but the files.

    ``range`` None means: clip for picture files, none for arrays; ``depth`` None: the input's, as far as the file of
    the result can hold it. ``wholes`` are the layers' windows over the picture that a strip is of.
    """

    layers: tuple[Layer, ...]
    range: Range | None = None
    gray: bool = False
    linear: bool = False
    alpha: Alpha = Alpha.AUTO
    mix: float = 1.0
    depth: Depth | None = None
    method: str = AUTO
    threads: int | None = None
    max_pixels: int = MAX_PIXELS
    wholes: tuple[Window, ...] = ()

    def rows(self, shape: Shape, itemsize: int = 4) -> list[Row]:
        """The shape report over colours ``(C, H, W)``; PictureError if a layer's output has too many pixels."""
        rows = list(report_rows(self.layers, (1, *shape[1:]) if self.gray and shape[0] == 3 else shape, itemsize))
        for row in rows:
            _, height, width = row.output
            if height * width > self.max_pixels:
                raise PictureError(
                    f"the output of {row.layer} would have {height}x{width}, {height * width:,} pixels,"
                    f" more than {self.max_pixels:,}; raise --max-pixels if that is right"
                )
        return rows

    def memory(self, shape: Shape, itemsize: int = 4, items: int = 1, copies: int = 0) -> int:
        """About how many bytes are in use at most over inputs ``(C, H, W)``, activations of ``itemsize`` bytes.

        A layer's input, output and weights, or the result with its ``copies`` on the way into a file; and the picture
        itself and what the engine's threads work in.
        """
        rows = self.rows(shape, itemsize)
        layers = [items * (prod(row.input) + prod(row.output)) * itemsize + row.params * WEIGHT_BYTES for row in rows]
        copies += 2 if self.linear or self.mix != 1 or self.range is Range.MINMAX else 0
        result = (1 + copies) * items * prod(rows[-1].output) * itemsize
        return max(*layers, result) + items * prod(shape) * 2 + (self.threads or cores()) * ENGINE_BYTES


class Outcome(NamedTuple):
    """What happened: the shape report, the values before clipping with the code of white, each plan as text."""

    rows: tuple[Row, ...]
    extent: "Extent"
    unit: float
    plans: tuple[str, ...]
    range: Range = Range.CLIP

    def spread(self) -> dict[str, float]:
        """Least and greatest value in units, and the shares that lay below 0 and above 1."""
        seen = self.extent
        count = max(1, seen.count)
        return {
            "min": seen.minimum / self.unit,
            "max": seen.maximum / self.unit,
            "below": seen.below / count,
            "above": seen.above / count,
        }

    def lost(self) -> tuple[float, float]:
        """The shares that were clipped below and above: only what lay beyond -1 and 1 under ``abs`` and ``signed``."""
        if self.range in (Range.MINMAX, Range.NONE):
            return 0.0, 0.0
        count = max(1, self.extent.count)
        below = self.extent.below if self.range is Range.CLIP else self.extent.far_below
        return below / count, self.extent.above / count
