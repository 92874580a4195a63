"""What tests of pictures and of the files they are in share."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from convcli.images.formats import FORMATS
from convcli.images.writing import Encoding, encode


def encoded(frames, name, **encoding):
    """The bytes of a file in the format of a name."""
    return encoded_and_said(frames, name, **encoding)[0]


def encoded_and_said(frames, name, **encoding):
    """The bytes, and the notices."""
    pieces, notices = encode(frames, FORMATS[name], Encoding(**encoding))
    return b"".join(pieces), notices


def noise(*shape, dtype=np.uint8, seed=11):
    """Random codes over all of their range."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(path, pixels, **options):
    """A file of pixels as Pillow writes it, and the folders it is in; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def load(source):
    """The pixels of a file, or of its bytes."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return np.asarray(image)


def chunk(kind, data=b""):
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chunks_of(source):
    """The kinds and contents of the chunks of a PNG in order, every length and checksum looked at."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, found = 8, []
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + 8 + length]
        assert data[place : place + 12 + length] == chunk(kind, body)
        found.append((kind, body))
        place += 12 + length
    return found


def tree(folder):
    """Every path below a folder in order and what it holds: bytes, where a link leads to, or nothing."""
    found = {}
    for one in sorted(folder.rglob("*")):
        name = str(one.relative_to(folder))
        found[name] = str(one.readlink()) if one.is_symlink() else one.read_bytes() if one.is_file() else None
    return found


def files(folder):
    """The names of the files below a folder, in order."""
    return [name for name, data in tree(folder).items() if data is not None]
