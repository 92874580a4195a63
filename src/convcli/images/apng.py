"""The frames of an animated PNG (PNG specification, third edition, sections 11.3.6 and 12.5).

Pillow composes them, too, but at 8 bits, and partial transparency and clearing not as the specification says.
"""

import struct
from typing import BinaryIO

from convcli.errors import PictureError
from convcli.images.animation import CLEAR, Animation, Frame
from convcli.images.checksums import crc32
from convcli.images.chunks import SIGNATURE, chunk, chunks

GRAY_TYPES, VEILED_TYPES = (0, 4), (4, 6)  # of colour


class PngAnimation(Animation):
    """An animated PNG; a poster's frame covers all, for no time.

    Raises PictureError for frames that lie outside, have no data, or are not there.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.frames, self.loop = [], 0
        self._shared: list[bytes] = []  # chunks that every frame needs: the palette, the transparent colour
        self._header, self._promised = b"", 0
        for kind, place, length in chunks(file):
            self._take(kind, place, length)
        height, width = self.size
        if len(self.frames) - self.poster != self._promised:
            raise PictureError(f"damaged picture: {self._promised:,} frames are promised, {len(self.frames):,} there")
        for frame in self.frames:
            top, left, tall, wide = frame.box
            if not (0 < tall <= height - top and 0 < wide <= width - left):
                raise PictureError("damaged picture: a frame lies outside")
            if not frame.places:
                raise PictureError("damaged picture: a frame has no data")

    def _take(self, kind: bytes, place: int, length: int) -> None:
        if kind == b"IHDR":
            self._header = self._read(place, length)
            width, height = struct.unpack(">II", self._header[:8])
            self.size, self.colors = (height, width), 1 if self._header[9] in GRAY_TYPES else 3
            self.holed = self._header[9] in VEILED_TYPES
        elif kind == b"acTL":
            self._promised, self.loop = struct.unpack(">II", self._read(place, 8))
        elif kind in (b"PLTE", b"tRNS"):
            self._shared += chunk(kind, self._read(place, length))
            self.holed = self.holed or kind == b"tRNS"
        elif kind == b"fcTL":
            _, width, height, left, top, share, of, disposal, blend = struct.unpack(">5I2H2B", self._read(place, 26))
            delay = 1000 * share / (of or 100)
            self.add(Frame((top, left, height, width), delay, disposal, blend == 1, []))
        elif kind == b"IDAT":
            if not self.frames:
                self.poster = True
                self.add(Frame((0, 0, *self.size), 0.0, CLEAR, over=False, places=[]))
            self.frames[0].places.append((place, length))
        elif kind == b"fdAT" and self.frames:
            self.frames[-1].places.append((place + 4, length - 4))

    def standing_alone(self, frame: Frame) -> bytes:
        """A PNG of one frame."""
        _, _, tall, wide = frame.box
        header = struct.pack(">II", wide, tall) + self._header[8:]
        data = b"".join(self._read(place, length) for place, length in frame.places)
        parts = *chunk(b"IHDR", header), *self._shared, *chunk(b"IDAT", data), *chunk(b"IEND")
        return b"".join([SIGNATURE, *parts])

    def _read(self, place: int, length: int) -> bytes:
        self._file.seek(place)
        data = self._file.read(length)
        if len(data) != length:
            raise PictureError("truncated picture: a chunk is cut off")
        return data


def is_animated(file: BinaryIO) -> bool:
    """Whether a PNG says so, before its pixels."""
    for kind, _, _ in chunks(file):
        if kind in (b"acTL", b"IDAT"):
            return kind == b"acTL"
    return False


def check_sums(file: BinaryIO) -> None:
    """Raise PictureError for pixels that are not what was written: Pillow does not look at their checksums."""
    for kind, place, length in chunks(file):
        if kind == b"IDAT":
            file.seek(place)
            data, stored = file.read(length), file.read(4)
            if len(stored) == 4 and crc32(data, crc32(kind)) != int.from_bytes(stored):
                raise PictureError("damaged picture: a checksum of its pixels is wrong")
