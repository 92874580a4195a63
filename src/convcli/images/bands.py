"""Large PNGs decoded on several threads.

Pillow undoes the filters of one row after another; but a row that leans on none above it begins a band that can be
decoded by itself.
"""

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from convcli.engine.threads import map_all
from convcli.images.chunks import SIGNATURE, chunk, chunks, header
from convcli.images.decoding import EIGHT_BIT_MODES

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_PIXELS, MOST_PIXELS = 1 << 20, 1 << 26  # what is worth it, and what may be held inflated beside the pixels
SELF_RELIANT = 1  # the filters none and sub; those behind look at the row above
BANDS = 8  # few at a time take memory
STORED = 0xFFFF  # bytes of a block of deflate that is not packed


def decode_in_bands(file: BinaryIO, image: Any, threads: int) -> "NDArray[Any] | None":
    """The pixels ``(H, W, C)`` of an 8-bit PNG whose header Pillow has read; None for one that is to be decoded in the
    usual way, which also says what is wrong with a damaged one."""
    import numpy as np
    from PIL import Image

    width, height = image.size
    usual = image.mode not in EIGHT_BIT_MODES or image.info.get("interlace") or threads < 2
    if usual or not LEAST_PIXELS <= width * height <= MOST_PIXELS:
        return None
    channels = len(image.mode)
    rows = _inflated(file, height * (1 + width * channels))
    if rows is None:
        return None
    lines = np.frombuffer(rows, np.uint8).reshape(height, -1)
    alone = np.flatnonzero(lines[:, 0] <= SELF_RELIANT)
    marks = np.searchsorted(alone, [height * one // BANDS for one in range(1, BANDS)])
    starts = sorted({0, *(int(alone[one]) for one in marks if one < len(alone))})
    if len(starts) < 2:
        return None
    del rows
    pixels = np.empty((height, width, channels), np.uint8)

    def decode(span: tuple[int, int]) -> None:
        first, last = span
        data = _stored(lines[first:last].data.cast("B"))
        png = b"".join([SIGNATURE, *header(width, last - first, 8, channels), *chunk(b"IDAT", data), *chunk(b"IEND")])
        with Image.open(io.BytesIO(png), formats=["PNG"]) as band:
            band.decodermaxblock = len(png)
            band.load()
            pixels[first:last] = np.asarray(band).reshape(last - first, width, channels)

    for _ in map_all(decode, list(zip(starts, [*starts[1:], height], strict=True)), threads):
        pass
    if "Raw profile type exif" not in image.info:
        image.info.setdefault("exif", b"")  # else Pillow would decode all to look for it behind the pixels
    return pixels


def _inflated(file: BinaryIO, size: int) -> bytes | None:
    """The filtered rows of a PNG, by ISA-L, which is twice as quick as zlib; None if they are not that many bytes."""
    try:
        from isal import isal_zlib
    except ImportError:
        return None
    before = file.tell()
    inflater, parts, left = isal_zlib.decompressobj(), list[bytes](), size + 1
    try:
        for kind, place, length in chunks(file):
            if kind == b"IDAT" and left > 0:
                file.seek(place)
                parts.append(inflater.decompress(file.read(length), left))
                left -= len(parts[-1])
            elif parts and kind != b"IEND":
                return None  # what stands behind the pixels Pillow reads when it decodes them
    except Exception:  # isal_zlib.error, which is no type for mypy: the usual way says what is wrong
        return None
    finally:
        file.seek(before)
    return b"".join(parts) if left == 1 and inflater.eof else None


def _stored(data: memoryview) -> bytes:
    """A zlib stream of data as they are (RFC 1951, section 3.2.4)."""
    parts: list[bytes | memoryview] = [b"\x78\x01"]
    for place in range(0, len(data), STORED):
        block = data[place : place + STORED]
        last = place + STORED >= len(data)
        parts += [struct.pack("<BHH", last, len(block), STORED - len(block)), block]
    return b"".join([*parts, struct.pack(">I", zlib.adler32(data))])
