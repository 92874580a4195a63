"""The frames of an animated PNG, each as it is to be seen (PNG specification, third edition, section 12.5 and 11.3.6).

Pillow composes them, too, but at 8 bits, and partial transparency and clearing not as the specification says.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from convcli.errors import PictureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Decode = Callable[[bytes], tuple[NDArray[Any], float]]  # a PNG's bytes to pixels and their white

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEAVE, CLEAR, RESTORE = range(3)  # what becomes of a frame before the next one
OVER = 1  # blended, not put in the place of what was there
MAX_FRAMES = 1_000_000


class Frame(NamedTuple):
    """Where a frame goes, ``(top, left, height, width)``, for how many milliseconds, and how; its data are at places in
    the file."""

    box: tuple[int, int, int, int]
    delay: float
    disposal: int
    blend: int
    data: list[tuple[int, int]]


class Animation:
    """An animated PNG, its frames found but not decoded.

    ``poster`` says that the first picture is no part of the animation; its frame covers all, for no time. Raises
    PictureError for frames that lie outside, or have no data.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.frames: list[Frame] = []
        self.loop, self.poster = 0, False
        self._shared: list[bytes] = []  # chunks that every frame needs: the palette, the transparent colour
        self._header, self._promised = b"", 0
        self._next = 0
        self._canvas: NDArray[Any] | None = None
        for kind, place, length in _chunks(file):
            self._take(kind, place, length)
        height, width = self.size
        if len(self.frames) - self.poster != self._promised:
            raise PictureError(f"damaged picture: {self._promised:,} frames are promised, {len(self.frames):,} there")
        for frame in self.frames:
            top, left, tall, wide = frame.box
            if not (0 < tall <= height - top and 0 < wide <= width - left):
                raise PictureError("damaged picture: a frame lies outside")
            if not frame.data:
                raise PictureError("damaged picture: a frame has no data")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        width, height = struct.unpack(">II", self._header[:8])
        return height, width

    @property
    def colors(self) -> int:
        """Colour channels, as the frames are decoded."""
        return 1 if self._header[9] in (0, 4) else 3

    @property
    def veiled(self) -> bool:
        """Whether anything may be seen through."""
        whole = (0, 0, *self.size)
        partial = any(one.box != whole or one.disposal == CLEAR for one in self.frames)
        return partial or self._header[9] in (4, 6) or any(b"tRNS" in one[4:8] for one in self._shared)

    def _take(self, kind: bytes, place: int, length: int) -> None:
        if kind == b"IHDR":
            self._header = self._read(place, length)
        elif kind == b"acTL":
            self._promised, self.loop = struct.unpack(">II", self._read(place, 8))
        elif kind in (b"PLTE", b"tRNS"):
            self._shared.append(_chunk(kind, self._read(place, length)))
        elif kind == b"fcTL":
            _, width, height, left, top, share, of, disposal, blend = struct.unpack(">5I2H2B", self._read(place, 26))
            delay = 1000 * share / (of or 100)
            self.frames.append(Frame((top, left, height, width), delay, disposal, blend, []))
            if len(self.frames) > MAX_FRAMES:
                raise PictureError(f"it has more than {MAX_FRAMES:,} frames")
        elif kind == b"IDAT":
            if not self.frames:
                self.poster = True
                self.frames.append(Frame((0, 0, *self.size), 0.0, CLEAR, 0, []))
            self.frames[0].data.append((place, length))
        elif kind == b"fdAT" and self.frames:
            self.frames[-1].data.append((place + 4, length - 4))

    def composed(self, number: int, decode: "Decode") -> tuple["NDArray[Any]", float]:
        """A frame ``(H, W, C)``, laid over those before it, and its white. Going on is cheap, going back is not."""
        if number < self._next:
            self._next, self._canvas = 0, None
        while True:
            seen, white = self._compose(self.frames[self._next], decode)
            self._next += 1
            if self._next > number:
                return (seen if self.veiled else seen[..., :-1]), white

    def _compose(self, frame: Frame, decode: "Decode") -> tuple["NDArray[Any]", float]:
        """What is seen of one frame; the canvas becomes what the next one is laid over."""
        import numpy as np

        pixels, white = decode(self._standing_alone(frame))
        top, left, tall, wide = frame.box
        if pixels.shape[2] == self.colors:
            pixels = np.concatenate([pixels, np.full((tall, wide, 1), white, pixels.dtype)], axis=2)
        first = self._canvas is None
        if self._canvas is None:
            self._canvas = np.zeros((*self.size, self.colors + 1), pixels.dtype)
        seen = self._canvas.copy()
        place = seen[top : top + tall, left : left + wide]
        place[...] = _over(pixels, place, white) if frame.blend == OVER else pixels
        if frame.disposal == LEAVE:
            self._canvas = seen
        elif frame.disposal == CLEAR or first:  # there is nothing to restore before the first
            self._canvas = seen.copy()
            self._canvas[top : top + tall, left : left + wide] = 0
        return seen, white

    def _standing_alone(self, frame: Frame) -> bytes:
        """A PNG of one frame."""
        _, _, tall, wide = frame.box
        header = struct.pack(">II", wide, tall) + self._header[8:]
        data = b"".join(self._read(place, length) for place, length in frame.data)
        return b"".join(
            [SIGNATURE, _chunk(b"IHDR", header), *self._shared, _chunk(b"IDAT", data), _chunk(b"IEND", b"")]
        )

    def _read(self, place: int, length: int) -> bytes:
        self._file.seek(place)
        data = self._file.read(length)
        if len(data) != length:
            raise PictureError("truncated picture: a chunk is cut off")
        return data


def is_animated(file: BinaryIO) -> bool:
    """Whether a PNG says so, before its pixels."""
    for kind, _, _ in _chunks(file):
        if kind in (b"acTL", b"IDAT"):
            return kind == b"acTL"
    return False


def check_sums(file: BinaryIO) -> None:
    """Raise PictureError for pixels that are not what was written: Pillow does not look at their checksums."""
    for kind, place, length in _chunks(file):
        if kind == b"IDAT":
            file.seek(place)
            data, stored = file.read(length), file.read(4)
            if len(stored) == 4 and zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(stored):
                raise PictureError("damaged picture: a checksum of its pixels is wrong")


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """The kinds of chunks, where their data begin, and how long they are."""
    place = len(SIGNATURE)
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, place + 8, length
        place += length + 12


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _over(upper: "NDArray[Any]", lower: "NDArray[Any]", white: float) -> "NDArray[Any]":
    """Straight colours with alpha laid over others (section 13.16)."""
    import numpy as np

    above, below = upper[..., -1:] / white, lower[..., -1:] / white
    alpha = above + below * (1 - above)
    mixed = upper[..., :-1] * above + lower[..., :-1] * below * (1 - above)
    colors = np.divide(mixed, alpha, out=np.zeros(mixed.shape), where=alpha > 0)
    codes: NDArray[Any] = np.rint(np.concatenate([colors, alpha * white], axis=2)).astype(upper.dtype)
    return codes
