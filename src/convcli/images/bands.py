"""Large PNGs decoded on several threads.

Pillow undoes the filters of one row after another; but a row that leans on none above it begins a band that can be
decoded by itself, while the next one is still being inflated. NumPy, which takes as long to import, is not needed
before the end.
"""

import io
import mmap
import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from convcli.errors import PictureError
from convcli.images.apng import check_sums
from convcli.images.checksums import adler32
from convcli.images.chunks import SIGNATURE, chunk, chunks, header
from convcli.images.decoding import EIGHT_BIT_MODES

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_PIXELS, MOST_PIXELS = 1 << 20, 1 << 26  # what is worth it, and what may be held inflated beside the pixels
SELF_RELIANT = 1  # the filters none and sub; those behind look at the row above
BANDS, AHEAD = 32, 6  # few at a time take memory: so many are inflated that wait to be decoded, or are
AT_ONCE = 1 << 20  # bytes to inflate: between two calls other threads, which import NumPy, hold the interpreter
GROWTH = 4  # times as many bytes may come out of it
STORED = 0xFFFF  # bytes of a block of deflate that is not packed


def in_bands(image: Any, depth: int, threads: int) -> bool:
    """Whether :func:`decode_in_bands` is worth a try for a PNG of ``depth`` bits whose header Pillow has read."""
    usual = depth != 8 or image.mode not in EIGHT_BIT_MODES or {"interlace", "transparency"} & image.info.keys()
    return not usual and threads > 1 and LEAST_PIXELS <= image.width * image.height <= MOST_PIXELS


def decode_in_bands(file: BinaryIO, image: Any, threads: int) -> "NDArray[Any] | None":
    """The pixels ``(H, W, C)`` of a PNG, its checksums looked at; None for one that is to be decoded in the usual way,
    which also says what is wrong with a damaged one. Raises PictureError for a wrong checksum."""
    try:
        from isal import isal_zlib  # twice as quick as zlib
    except ImportError:
        check_sums(file)
        return None
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    height, line = image.height, 1 + image.width * len(image.mode)
    with ThreadPoolExecutor(threads) as pool:
        whole = _room(height * (line - 1))
        try:
            rows = _inflated(data, isal_zlib.decompressobj(), height * line)
            tasks = list[Future[None]]()
            for first, band in _bands(rows, line, max(1, height // BANDS)):
                if len(tasks) >= AHEAD:
                    tasks[-AHEAD].result()
                tasks.append(pool.submit(_decode, whole, image, first, band))
            check_sums(io.BytesIO(data))  # while the last bands are being decoded
            for task in tasks:
                task.result()
        except MemoryError:
            raise
        except Exception:  # of the decoders, whatever they call it
            check_sums(io.BytesIO(data))
            return None
    if "Raw profile type exif" not in image.info:
        image.info.setdefault("exif", b"")  # else Pillow would decode all to look for it behind the pixels
    import numpy as np

    return np.frombuffer(whole, np.uint8).reshape(height, image.width, -1)


def _room(size: int) -> mmap.mmap:
    """So many bytes of memory, which nobody has touched: NumPy, which would give as much, is still being imported."""
    private = {"flags": mmap.MAP_PRIVATE} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        room = mmap.mmap(-1, size, **private)
    except OSError:
        raise MemoryError from None
    with suppress(AttributeError, OSError):  # a system without it, and a kernel
        room.madvise(mmap.MADV_HUGEPAGE)  # as NumPy does: a page fault for 2 MB rather than for 4 KB
    return room


def _packed(data: bytes) -> Iterator[bytes]:
    """The stream of a PNG's pixels in pieces. Raises PictureError if something stands behind it, which Pillow reads
    when it decodes."""
    held, count, begun = list[memoryview](), 0, False
    for kind, place, length in chunks(io.BytesIO(data)):
        if kind == b"IDAT":
            begun = True
            for start in range(place, place + length, AT_ONCE):
                held.append(memoryview(data)[start : min(start + AT_ONCE, place + length)])
                count += len(held[-1])
                if count >= AT_ONCE:
                    yield b"".join(held)
                    held, count = [], 0
        elif begun and kind != b"IEND":
            raise PictureError("something stands behind the pixels")
    yield b"".join(held)


def _inflated(data: bytes, inflater: Any, size: int) -> Iterator[memoryview]:
    """The filtered rows of a PNG in pieces. Raises PictureError if they are not so many bytes."""
    left = size
    for packed in _packed(data):
        while piece := inflater.decompress(packed, min(GROWTH * AT_ONCE, left + 1)):
            packed, left = inflater.unconsumed_tail, left - len(piece)
            if left < 0:
                raise PictureError("more than its header says")
            yield memoryview(piece)
    if left or not inflater.eof:
        raise PictureError("less than its header says")


def _bands(pieces: Iterable[memoryview], line: int, least: int) -> Iterator[tuple[int, list[memoryview]]]:
    """At ``least`` so many filtered rows of ``line`` bytes at a time, as soon as the next ones lean on none of them;
    with the number of the first. In pieces still: each copy is a page fault every 4 KB."""
    held, count, first = list[memoryview](), 0, 0
    for piece in pieces:
        while (cut := _cut(piece, count, line, least)) is not None:
            yield first, [*held, piece[:cut]]
            first += (count + cut) // line
            held, count, piece = [], 0, piece[cut:]
        held.append(piece)
        count += len(piece)
    yield first, held


def _cut(piece: memoryview, before: int, line: int, least: int) -> int | None:
    """Where in a piece with so many bytes of a band ``before`` it the next band may begin."""
    start = -before % line
    rows = enumerate(piece[start::line], (before + start) // line)
    return next((row * line - before for row, kind in rows if row >= least and kind <= SELF_RELIANT), None)


def _decode(whole: mmap.mmap, image: Any, first: int, rows: Sequence[memoryview]) -> None:
    """Filtered rows from ``first`` on in their place among the pixels."""
    from PIL.PngImagePlugin import PngImageFile

    line = image.width * len(image.mode)
    height = sum(map(len, rows)) // (1 + line)
    stream = _stored(rows)
    idat = struct.pack(">I4s", sum(map(len, stream)), b"IDAT"), *stream, bytes(4)  # Pillow asks for no checksum
    png = b"".join([SIGNATURE, *header(image.width, height, 8, len(image.mode)), *idat, *chunk(b"IEND")])
    with PngImageFile(io.BytesIO(png)) as band:  # not Image.open, which brings in other formats
        band.decodermaxblock = len(png)
        band.load()
        whole[first * line : (first + height) * line] = band.tobytes()


def _stored(pieces: Sequence[memoryview]) -> list[bytes | memoryview]:
    """A zlib stream of data as they are (RFC 1951, section 3.2.4), in pieces."""
    stream: list[bytes | memoryview] = [b"\x78\x01"]
    checksum = 1
    for piece in pieces:
        checksum = adler32(piece, checksum)
        for place in range(0, len(piece), STORED):
            block = piece[place : place + STORED]
            stream += [struct.pack("<BHH", 0, len(block), STORED - len(block)), block]
    return [*stream, struct.pack("<BHH", 1, 0, STORED), struct.pack(">I", checksum)]
