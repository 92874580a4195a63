"""The frames of a GIF (Graphics Interchange Format, version 89a, W3C 1990). Pillow composes them, too, but a frame that
is cleared, or does not say what becomes of it, not as others show it."""

import struct
from typing import BinaryIO

from convcli.errors import PictureError
from convcli.images.animation import CLEAR, LEAVE, RESTORE, Animation, Frame

EXTENSION, IMAGE, END = 0x21, 0x2C, 0x3B
CONTROL, APPLICATION = 0xF9, 0xFF
DISPOSALS = {2: CLEAR, 3: RESTORE}
LOOPS = b"NETSCAPE2.0", b"ANIMEXTS1.0"


class GifAnimation(Animation):
    """A GIF. Raises PictureError for one that is cut off."""

    colors = 3

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.frames = []
        file.seek(0)
        self._head = self._read(13)
        width, height, flags = struct.unpack_from("<HHB", self._head, 6)
        self.size = height, width
        self._table = self._read(_table_size(flags))
        control = b""
        while (start := file.read(1)) and (kind := start[0]) != END:  # some have no end
            if kind == EXTENSION:
                label, place = self._read(1)[0], file.tell()
                data = self._blocks()
                if label == CONTROL and len(data) >= 4:
                    file.seek(place)
                    control = bytes([EXTENSION, CONTROL]) + self._read(6)
                elif label == APPLICATION and data[:11] in LOOPS and len(data) >= 14:
                    again = struct.unpack_from("<H", data, 12)[0]
                    self.loop = again + 1 if again else 0  # it says how often again; 0 is for ever
            elif kind == IMAGE:
                self._take(control)
                control = b""
            else:
                raise PictureError("damaged picture: what follows a frame is none")

    def _take(self, control: bytes) -> None:
        start = self._file.tell() - 1
        left, top, width, height, flags = struct.unpack("<4HB", self._read(9))
        self._read(_table_size(flags) + 1)
        self._blocks()
        fields, delay = struct.unpack_from("<BH", control, 3) if control else (0, 0)
        self.holed = self.holed or bool(fields & 1)
        if height > self.size[0] or width > self.size[1]:
            raise PictureError("damaged picture: a frame is larger than the picture")
        box = top, left, height, width
        length = self._file.tell() - start
        disposal = DISPOSALS.get(fields >> 2 & 7, LEAVE)
        self.add(Frame(box, 10.0 * delay, disposal, over=True, places=[(start, length)], extra=control))

    def standing_alone(self, frame: Frame) -> bytes:
        """A GIF of one frame, at its own size."""
        _, _, height, width = frame.box
        self._file.seek(frame.places[0][0])
        image = bytes([IMAGE, 0, 0, 0, 0]) + self._read(frame.places[0][1])[5:]
        screen = struct.pack("<HH", width, height)
        return self._head[:6] + screen + self._head[10:] + self._table + frame.extra + image + bytes([END])

    def _blocks(self) -> bytes:
        """The data of sub-blocks up to the empty one."""
        parts = []
        while length := self._read(1)[0]:
            parts.append(self._read(length))
        return b"".join(parts)

    def _read(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) != length:
            raise PictureError("truncated picture: it ends within a frame")
        return data


def _table_size(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
