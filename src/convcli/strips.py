"""A picture larger than memory: a TIFF read, filtered and written in strips of rows.

For the rows of a strip each layer needs some rows of the one before it, so a strip is planned from the last layer to
the first. Where it ends at the edge of the picture a layer is padded as usual, elsewhere not at all: every row is
computed once, from the same rows as in the whole picture.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from convcli.engine.shapes import Pads, Pair, Window
from convcli.engine.store import Extent
from convcli.errors import PictureError
from convcli.filtering import filter_picture
from convcli.images.picture import Picture
from convcli.images.reading import reason, sniff_suffix
from convcli.images.tiff import Pages, check_chain
from convcli.images.tiffrows import RowReader, write_rows
from convcli.images.writing import fitted
from convcli.layers import Conv, Each, Filter, Gray, Layer, Pool, Row
from convcli.produce import PICTURE_CHANNELS, Task, stored_dtype
from convcli.recipe import Outcome
from convcli.words import Alpha, Boundary, Padding, Pointwise, Range

STRIP_BYTES = 1 << 23  # of decoded rows at a time
WHOLE_BYTES = 1 << 27  # decoded pictures below that are held whole
MIRRORS = Boundary.REFLECT, Boundary.SYMMETRIC
BAND_BYTES = 1 << 27  # of a row of stored strips or tiles, decoded, at most


class Strip(NamedTuple):
    """Rows of a result from ``first`` to before ``last``, the rows of the picture they come of, and the layers padded
    for them."""

    first: int
    last: int
    start: int
    stop: int
    layers: tuple[Layer, ...]


def plan_strips(layers: Sequence[Layer], size: Pair, height: int) -> list[Strip]:
    """The strips of a picture's result, so many rows high or more. Raises ShapeError where a layer does not fit."""
    sizes = [size, *(window.output for window in windows(layers, size))]
    rows = sizes[-1][0]
    while height < rows:
        ends = [*range(height, rows - height + 1, height), rows]
        found = [_strip(layers, sizes, first, last) for first, last in zip([0, *ends], ends, strict=False)]
        strips = [one for one in found if one is not None]
        if len(strips) == len(found):
            return strips
        height *= 2
    return [Strip(0, rows, 0, size[0], tuple(layers))]


def windows(layers: Iterable[Layer], size: Pair) -> Iterator[Window]:
    """The windows of layers over a picture, one after another. Raises ShapeError where a layer does not fit."""
    for layer in layers:
        window = layer.window(size)
        size = window.output
        yield window


def _strip(layers: Sequence[Layer], sizes: Sequence[Pair], first: int, last: int) -> Strip | None:
    """None where a border would be mirrored from rows that the strip does not have."""
    start, stop, padded = first, last, list[Layer]()
    for layer, size in zip(reversed(layers), reversed(sizes[:-1]), strict=True):
        if isinstance(layer, Filter | Conv | Pool):
            window = layer.window(size)
            (before, after), across = window.pads
            top = start * window.stride[0] - before
            end = (stop - 1) * window.stride[0] - before + window.effective[0]
            above, below = max(0, -top), min(after, max(0, end - size[0]))
            start, stop = max(0, top), min(size[0], end)
            mirrored = not isinstance(layer, Pool) and layer.boundary in MIRRORS
            if stop - start <= (max(above, below) if mirrored else 0):
                return None
            layer = _padded(layer, ((above, below), across))
        padded.append(layer)
    strip = Strip(first, last, start, stop, tuple(reversed(padded)))
    *_, result = windows(strip.layers, (stop - start, sizes[0][1]))
    return strip if result.output == (last - first, sizes[-1][1]) else None


def _padded(layer: Filter | Conv | Pool, pads: Pads) -> Layer:
    return replace(layer, padding=pads) if isinstance(layer, Pool) else replace(layer, padding=pads, keep_size=False)


class WholeError(PictureError):
    """It is to be done whole."""


class Strips:
    """A TIFF on its way into another one. What it gave is known when all is written."""

    def __init__(self, path: Path, task: Task, frame: int | None) -> None:
        self._file = path.open("rb")
        self._task = task
        self._extent = Extent()
        self._outcome: Outcome | None = None
        self.notices: tuple[str, ...] = ()
        self.remarks: list[str] = []
        self.size = 0
        try:
            self._open(frame)
        except BaseException:
            self._file.close()
            raise

    def _open(self, frame: int | None) -> None:
        check_chain(self._file)
        pages = Pages(self._file)
        number = frame or 0
        if len(pages) <= number or (len(pages) > 1 and (frame is None or self._task.in_place)):
            raise WholeError
        self._reader = RowReader(pages, number, self._task.recipe.threads)
        (colors, height, width), alpha = pages.shape(number)
        recipe = self._task.recipe
        self.shape = colors + (alpha and recipe.alpha is Alpha.FILTER), height, width
        if height * width > recipe.max_pixels or not self._reader.readable(BAND_BYTES):
            raise WholeError
        self.rows = recipe.rows(self.shape)
        if not _local(recipe.layers, self.rows, alpha=alpha) or recipe.range is Range.MINMAX:
            raise WholeError
        if recipe.mix != 1 and self.rows[-1].output != self.rows[0].input:
            raise WholeError
        shrunk = height / self.rows[-1].output[1]
        wider = max(prod(row.input) + prod(row.output) for row in self.rows) / (2 * prod(self.shape))
        tall = max(1, int(STRIP_BYTES / self._reader.row_bytes / shrunk / max(1.0, wider)))
        self._wholes = tuple(windows(recipe.layers, (height, width)))
        self._strips = plan_strips(recipe.layers, (height, width), tall)

    def check(self) -> None:
        """Raise PictureError if the file ends before its pixels do."""
        try:
            self._reader.check()
        except PictureError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def memory(self) -> int:
        """About how many bytes are in use at most."""
        tallest = max(strip.stop - strip.start for strip in self._strips)
        rows = tallest + 2 * self._reader.band
        return self._task.recipe.memory((self.shape[0], rows, self.shape[2]), copies=self._task.target.copies)

    @property
    def bytes(self) -> int:
        """Of the whole picture, decoded."""
        return self._reader.row_bytes * self._reader.height

    def write(self, file: BinaryIO) -> None:
        """Write the result. Raises PictureError for what is damaged, OSError where it can't be written."""
        self._extent, self._outcome, self.remarks = Extent(), None, []
        self.remarks += write_rows(file, self._made(), self.rows[-1].output[1], self._task.recipe.threads)
        self.size = file.seek(0, 2)

    def outcome(self) -> Outcome:
        """What happened, once it is written."""
        assert self._outcome is not None
        rows = [row._replace(method=one.method) for row, one in zip(self.rows, self._outcome.rows, strict=True)]
        return self._outcome._replace(rows=tuple(rows), extent=self._extent)

    def _made(self) -> Iterator[Picture]:
        task, recipe = self._task, self._task.recipe
        for strip in self._strips:
            source = self._read(strip.start, strip.stop)
            dtype = stored_dtype(source.pixels.dtype, recipe, task.target)
            beneath = slice(strip.first - strip.start, strip.last - strip.start)
            part = replace(recipe, layers=strip.layers, wholes=self._wholes)
            made, outcome = filter_picture(source, part, dtype=dtype, usual=Range.CLIP, beneath=beneath)
            self._extent.merge(outcome.extent)
            self._outcome = self._outcome or outcome
            self.notices = made.notices
            yield fitted(made, task.target, task.encoding, self.remarks)

    def _read(self, start: int, stop: int) -> Picture:
        try:
            return self._reader.read(start, stop)
        except (PictureError, MemoryError):
            raise
        except Exception as error:  # damaged files raise whatever their decoder stumbles over
            raise PictureError(reason(error)) from None


def in_strips(path: Path, task: Task, frame: int | None) -> Strips | None:
    """The strips of a TIFF that is to become a TIFF, if it is large and can go in strips. Raises PictureError for one
    that is cut off."""
    if task.split or not path.is_file():
        return None
    try:
        if sniff_suffix(path) not in task.target.suffixes:
            return None
        strips = Strips(path, task, frame)
    except MemoryError:
        raise
    except Exception:  # done whole, or found wanting there
        return None
    if strips.bytes < WHOLE_BYTES:
        strips.__exit__()
        return None
    strips.check()
    return strips


def _local(layers: Sequence[Layer], rows: Sequence[Row], *, alpha: bool) -> bool:
    """Whether every row of the result comes of some rows of the picture, and is a picture's."""
    for layer in layers:
        match layer:
            case Filter() | Conv():
                local = layer.boundary != Boundary.WRAP and not (alpha and layer.padding == Padding.SAME_LOWER)
            case Pool():
                local = layer.size is not None
            case Each():
                local = layer.function is not Pointwise.NORMALIZE
            case _:
                local = isinstance(layer, Gray)
        if not local:
            return False
    return rows[-1].output[0] in PICTURE_CHANNELS and prod(rows[-1].output) > 0
