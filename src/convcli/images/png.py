"""A PNG writer: rows filtered by NumPy, strips deflated side by side into one zlib stream, 8 and 16 bits.

Several times as fast as Pillow's, and it keeps 16-bit colour, which Pillow can't write. The format is that of the PNG
specification, third edition (W3C, 2025): sections 5 (chunks), 9 (filters) and 10 (compression).
"""

import struct
import zlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from convcli.engine.threads import check_threads, map_all
from convcli.images.picture import EXIF_PREFIX, Metadata, Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: grey, grey and alpha, RGB, RGBA
NONE, SUB, UP = 0, 1, 2  # what is subtracted from a byte: nothing, the pixel to the left, the pixel above
STRIP_BYTES = 1 << 20
SAMPLE_ROWS = 16
ADLER = 65521
METRES_PER_INCH = 0.0254


def encode_png(picture: Picture, threads: int | None = None) -> bytes:
    """The bytes of a PNG file of a uint8 or uint16 picture with 1 to 4 channels."""
    import numpy as np

    pixels = picture.pixels
    height, width, channels = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    rows = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    step = channels * pixels.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, COLOR_TYPES[channels], 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header)]
    parts += [_chunk(kind, data) for kind, data in _carried(picture.metadata)]
    parts += [_chunk(b"IDAT", data) for data in _deflated(rows, step, check_threads(threads))]
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def _deflated(rows: "NDArray[Any]", step: int, threads: int) -> Iterator[bytes]:
    """The rows as one zlib stream in pieces: its header with the first strip, its checksum behind the last."""
    height = len(rows)
    tall = max(1, STRIP_BYTES // max(1, rows.shape[1]))
    strips = [(top, min(top + tall, height)) for top in range(0, height, tall)]
    work = partial(_strip, rows, step, _choose_filter(rows, step))
    checksum = 1
    for place, (data, adler, length) in enumerate(map_all(work, strips, threads)):
        checksum = _adler_of_both(checksum, adler, length)
        start = b"\x78\x01" if place == 0 else b""
        yield start + data + (struct.pack(">I", checksum) if place == len(strips) - 1 else b"")


def _strip(rows: "NDArray[Any]", step: int, kind: int, span: tuple[int, int]) -> tuple[bytes, int, int]:
    """One strip filtered and deflated, with the Adler-32 and length of what went in."""
    lines: Any = _filtered(rows, step, kind, span)  # a buffer, which its type does not say on 3.11
    # run lengths only, at level 1: on photographs the size of the default in a third of its time
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_RLE)
    data = packer.compress(lines)
    data += packer.flush(zlib.Z_FINISH if span[1] == len(rows) else zlib.Z_FULL_FLUSH)
    return data, zlib.adler32(lines), lines.size


def _filtered(rows: "NDArray[Any]", step: int, kind: int, span: tuple[int, int]) -> "NDArray[Any]":
    """Rows ``[first, last)`` with their filter byte in front."""
    import numpy as np

    first, last = span
    lines = np.empty((last - first, 1 + rows.shape[1]), np.uint8)
    lines[:, 0] = kind
    lines[:, 1:] = rows[first:last]
    if kind == UP:
        above = max(first, 1)
        np.subtract(rows[above:last], rows[above - 1 : last - 1], out=lines[above - first :, 1:])
    elif kind == SUB:
        np.subtract(rows[first:last, step:], rows[first:last, :-step], out=lines[:, 1 + step :])
    return lines


def _choose_filter(rows: "NDArray[Any]", step: int) -> int:
    """The filter under which some bands of rows, spread over the picture, deflate best."""
    height = len(rows)
    starts = sorted({height * part // 8 for part in (1, 4, 7)})
    spans = [(start, min(start + SAMPLE_ROWS, height)) for start in starts]
    return min((NONE, UP, SUB), key=lambda kind: sum(len(_strip(rows, step, kind, span)[0]) for span in spans))


def _carried(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of colour profile, resolution and EXIF."""
    if metadata.icc:
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        x, y = (round(one / METRES_PER_INCH) for one in metadata.dpi)
        yield b"pHYs", struct.pack(">IIB", x, y, 1)
    if metadata.exif:
        yield b"eXIf", metadata.exif.removeprefix(EXIF_PREFIX)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _adler_of_both(first: int, second: int, length: int) -> int:
    """The Adler-32 of two pieces of data from those of each (RFC 1950, section 8) and the second's length."""
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + length * ((first & 0xFFFF) - 1)
    return high % ADLER << 16 | low % ADLER
