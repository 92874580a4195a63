"""Rows of a TIFF, read as they are needed and written as they come, so that no picture has to be held whole."""

import zlib
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

from convcli.engine.threads import check_threads, map_all
from convcli.errors import PictureError
from convcli.images.picture import Picture
from convcli.images.tiff import STRIP, Pages, page_options, tag_directories, tifffile, write_directories

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_CLASSIC = (1 << 32) - (1 << 24)  # bytes of pixels, above which a TIFF needs 64-bit places


class RowReader:
    """One page of a TIFF, rows at a time, from the top down. Raises PictureError for what is damaged."""

    def __init__(self, pages: Pages, number: int, threads: int | None) -> None:
        self._pages, self._number, self._threads = pages, number, check_threads(threads)
        self._page: Any = pages.page(number)
        page = self._page
        self._plain = page.is_contiguous and not page.is_tiled
        stored = page.tilelength if page.is_tiled else min(page.rowsperstrip, self.height)
        self.band = max(1, min(self.height, STRIP // self.row_bytes)) if self._plain else stored  # rows read together
        self._bands: dict[int, NDArray[Any]] = {}

    @property
    def height(self) -> int:
        """Rows."""
        return int(self._page.imagelength)

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row."""
        return int(self._page.imagewidth * self._page.samplesperpixel * self._page.dtype.itemsize)

    def check(self) -> None:
        """Raise PictureError if the file ends before its pixels do."""
        ends = map(sum, zip(self._page.dataoffsets, self._page.databytecounts, strict=True))
        if max(ends, default=0) > self._pages.size:
            raise PictureError("truncated picture: it is shorter than its header says")

    def readable(self, most: int) -> bool:
        """Whether rows can be had by themselves, no more than so many bytes of them being decoded at a time."""
        page, upright = self._page, self._pages.is_upright(self._number)
        known = self._pages.knows(self._number) and page.planarconfig == 1 and page.imagedepth == 1
        return bool(known and upright and page.dtype is not None and self.band * self.row_bytes <= most)

    def read(self, start: int, stop: int) -> Picture:
        """Rows from ``start`` to before ``stop``."""
        import numpy as np

        needed = range(start // self.band, -(-stop // self.band))
        self._bands = {number: band for number, band in self._bands.items() if number in needed}
        missing = [number for number in needed if number not in self._bands]
        self._bands |= dict(zip(missing, map_all(self._decoded, missing, self._threads), strict=True))
        rows = np.concatenate([self._bands[number] for number in needed]) if len(needed) > 1 else self._bands[needed[0]]
        first = start - needed[0] * self.band
        return self._pages.picture(self._number, rows[first : first + stop - start])

    def _decoded(self, band: int) -> "NDArray[Any]":
        """A row of strips or tiles ``(H, W, C)``."""
        import numpy as np

        page = self._page
        across = -(-page.imagewidth // page.tilewidth) if page.is_tiled else 1
        rows = min(self.band, self.height - band * self.band)
        if self._plain:
            place = page.dataoffsets[0] + band * self.band * self.row_bytes
            data = self._pages.stored(place, rows * self.row_bytes)
            dtype = page.dtype.newbyteorder(page.parent.byteorder)
            shape = rows, page.imagewidth, page.samplesperpixel
            return np.frombuffer(data, dtype).reshape(shape).astype(page.dtype.newbyteorder("="), copy=False)
        whole = np.empty((rows, page.imagewidth, page.samplesperpixel), page.dtype)
        for index in range(band * across, (band + 1) * across):
            place, count = page.dataoffsets[index], page.databytecounts[index]
            packed = self._pages.stored(place, count) if count else None
            segment, (_, _, _, left, _), shape = page.decode(packed, index)
            if segment is None:  # nothing stored: all zeros
                segment = np.zeros((shape[1], shape[2], page.samplesperpixel), page.dtype)
            segment = segment.reshape(-1, segment.shape[-2], segment.shape[-1])[:rows, : page.imagewidth - left]
            whole[:, left : left + segment.shape[1]] = segment
        return whole


def write_rows(file: BinaryIO, parts: Iterator[Picture], height: int, threads: int | None) -> list[str]:
    """A TIFF of a picture of some height whose rows come in parts; what there is to say of it."""
    first = next(parts)
    directories, texts = tag_directories(first.metadata.exif)
    row = first.pixels[0].nbytes
    rows = max(1, min(STRIP // max(1, row), len(first.pixels)))
    large = row * height > LARGEST_CLASSIC
    library = tifffile()
    with library.TiffWriter(file, byteorder="<", bigtiff=large) as writer:
        writer.write(
            _strips(first, parts, rows, check_threads(threads)),
            shape=(height, *first.pixels.shape[1 : 2 + (first.pixels.shape[2] > 1)]),
            dtype=first.pixels.dtype,
            rowsperstrip=rows,
            **page_options(first, texts),
        )
    if directories and not large:
        write_directories(file, directories)
    return ["EXIF data do not go into a TIFF of more than 4 GB"] if directories and large else []


def _strips(first: Picture, parts: Iterator[Picture], rows: int, threads: int) -> Iterator[bytes]:
    """Deflated strips of so many rows, whatever the parts have."""
    import numpy as np

    left = first.pixels[:0]
    for part in chain([first], parts):
        pixels = np.concatenate([left, part.pixels]) if len(left) else part.pixels
        whole = len(pixels) // rows * rows
        yield from map_all(_deflated, [pixels[start : start + rows] for start in range(0, whole, rows)], threads)
        left = pixels[whole:]
    if len(left):
        yield _deflated(left)


def _deflated(pixels: "NDArray[Any]") -> bytes:
    """A strip's bytes; of whole numbers the differences to the pixel before, as a TIFF's predictor 2 has them."""
    import numpy as np

    if pixels.dtype.kind == "u":
        pixels = np.concatenate([pixels[:, :1], np.diff(pixels, axis=1)], axis=1)
    return zlib.compress(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes(), 1)
