"""The chunks of PNG files (PNG specification, third edition, section 5): found, and made."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from convcli.images.checksums import crc32

COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: grey, grey and alpha, RGB, RGBA
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """The kinds of chunks, where their data begin, and how long they are. The file may be moved in meanwhile."""
    place = len(SIGNATURE)
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, place + 8, length
        place += length + 12


def header(width: int, height: int, depth: int, channels: int) -> list[bytes]:
    """The chunk of a picture's size and kind, not interlaced, in pieces."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, COLOR_TYPES[channels], 0, 0, 0))


def chunk(kind: bytes, data: bytes = b"", number: int | None = None) -> list[bytes]:
    """A chunk in pieces, those of an animation with their number in front."""
    start = b"" if number is None else struct.pack(">I", number)
    checksum = crc32(data, crc32(kind + start))
    return [struct.pack(">I", len(start) + len(data)) + kind + start, data, struct.pack(">I", checksum)]
