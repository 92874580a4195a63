"""From what Pillow holds to the pixels of a :class:`Picture`: every mode, at the depth that the file has."""

import io
import re
from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from convcli.engine.threads import check_threads, map_all
from convcli.errors import PictureError
from convcli.images.metadata import SIDEWAYS
from convcli.images.picture import white_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Opener = Callable[[], Any]

ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
EIGHT_BIT_MODES = ("L", "LA", "RGB", "RGBA")
GRAY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L")
FOREIGN_MODES = ("CMYK", "YCbCr", "LAB", "HSV")
BITS_PER_SAMPLE = 258  # TIFF tag
VEILED_GRAY_16 = "LA;16B"  # Pillow's name for what 16-bit grey with alpha is in a PNG
READ_BYTES = 1 << 24  # at a time: between two readings a decoder has to wait for other threads
UNKNOWN_WHITE = "signed or {}-bit integer pictures are not read, since what their white is isn't known; use .npy"
STRIP_PIXELS = 1 << 18
SMALL_PIXELS = 1 << 22  # their memory is found again by the next picture of a batch, and costs no page faults
OTHER_BYTE = {"L": "B", "B": "L", "N": "B"}  # the raw modes that keep the low byte of 16 bits for the high one


class Decoded(NamedTuple):
    """Pixels ``(H, W, C)``, what white is, and what there is to say of them."""

    pixels: "NDArray[Any]"
    white: float
    notices: tuple[str, ...] = ()


def decode(image: Any, depth: int, again: "Opener", threads: int | None = None) -> Decoded:
    """The pixels of a Pillow image whose file has ``depth`` bits; ``again()`` opens the same picture once more."""
    notices: list[str] = []
    if depth == 16 and image.mode in EIGHT_BIT_MODES:
        return _finished(_sixteen_bit_color(image, again, threads), image.info.get("transparency"), depth, notices)
    image.decodermaxblock = READ_BYTES
    image.load()
    import numpy as np  # not before: another thread may be at it

    if image.mode in FOREIGN_MODES:
        image = _to_rgb(image, notices)
    key = image.info.get("transparency")
    pixels = pixels_of(_plain(image), threads)
    if pixels.dtype.kind == "i":
        if depth > 16:
            raise PictureError(UNKNOWN_WHITE.format(depth))
        pixels = pixels.astype(np.uint16)
    if 8 < depth < 16 and pixels.dtype == np.uint16:
        pixels = np.rint(pixels * (65535 / (2**depth - 1))).astype(np.uint16)
    return _finished(pixels, key, depth, notices)


def _finished(pixels: "NDArray[Any]", key: Any, depth: int, notices: list[str]) -> Decoded:
    white = white_of(pixels.dtype)
    if key is not None and pixels.shape[2] in (1, 3):
        pixels = _with_key(pixels, key, depth, white)
    return Decoded(pixels, white, tuple(notices))


def pixels_of(image: Any, threads: int | None = None) -> "NDArray[Any]":
    """The pixels ``(H, W, C)`` of a Pillow image, perhaps read-only.

    A large one is copied in strips: at once it would take twice the memory and time.
    """
    import numpy as np
    from PIL import ImageMode

    mode = ImageMode.getmode(image.mode)
    dtype = np.dtype(mode.typestr)
    width, height = image.size
    native = dtype.newbyteorder("=")
    if width * height <= SMALL_PIXELS:
        return np.frombuffer(image.tobytes(), dtype).astype(native, copy=False).reshape(height, width, -1)
    pixels = np.empty((height, width, len(mode.bands)), native)
    tall = max(1, STRIP_PIXELS // max(1, width))

    def copy(top: int) -> None:
        bottom = min(top + tall, height)
        data = image.crop((0, top, width, bottom)).tobytes()
        pixels[top:bottom] = np.frombuffer(data, dtype).reshape(bottom - top, width, -1)

    for _ in map_all(copy, range(0, height, tall), check_threads(threads)):
        pass
    return pixels


def _sixteen_bit_color(image: Any, again: "Opener", threads: int | None) -> "NDArray[Any]":
    """16-bit colour, of which Pillow keeps the high bytes: decoded once more for the low ones."""
    import numpy as np

    if image.tile[0].args == VEILED_GRAY_16:  # of a PNG: two numbers of two bytes, taken as four of one
        image.tile = [one._replace(args="RGBA") for one in image.tile]
        image.load()
        return pixels_of(image, threads).view(">u2").astype(np.uint16)
    image.load()
    high = pixels_of(image, threads)
    with again() as other:
        other.tile = [one._replace(args=_low_bytes(one.args)) for one in other.tile]
        other.load()
        low = pixels_of(other, threads)
    pixels = high.astype(np.uint16)
    pixels <<= 8
    pixels |= low
    return pixels


def _low_bytes(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return (_low_bytes(arguments[0]), *arguments[1:])
    return arguments[:-1] + OTHER_BYTE[arguments[-1]]


def _to_rgb(image: Any, notices: list[str]) -> Any:
    """Another colour space as RGB, through the file's own profile if that is one."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    try:
        if image.mode == "LAB":
            source: Any = ImageCms.createProfile("LAB")
        elif profile and image.mode == "CMYK":
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        else:
            notices.append(f"{image.mode} is converted to RGB" + " without a profile" * (image.mode == "CMYK"))
            return image.convert("RGB")
        target, exact = ImageCms.createProfile("sRGB"), ImageCms.Flags.NOOPTIMIZE  # its tables are off by 30 codes
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB", flags=exact)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notices.append(f"{image.mode} is converted to RGB, its profile being damaged or of another colour space")
        return image.convert("RGB")
    notices.append(f"{image.mode} is converted to sRGB" + " through its profile" * (image.mode == "CMYK"))
    return converted


def _plain(image: Any) -> Any:
    """A Pillow image in one of the modes L, LA, RGB, RGBA, I;16, I or F."""
    mode = image.mode
    if mode == "P":
        wanted = "RGBA" if "transparency" in image.info or image.palette.mode == "RGBA" else "RGB"
    elif mode == "1":
        wanted = "L"
    elif mode in ALPHA_MODES:
        wanted = "LA" if mode in ("LA", "La") else "RGBA"
    elif mode.startswith("I") or mode in ("L", "F"):
        wanted = mode
    else:
        wanted = "RGB"
    if mode == wanted:
        return image
    if mode != "P":
        image.info.pop("transparency", None)  # convert() would compare the key with codes of another depth
    return image.convert(wanted)


def _with_key(pixels: "NDArray[Any]", key: Any, depth: int, white: float) -> "NDArray[Any]":
    """The pixels with an alpha channel that is 0 where they have the transparent colour of a file of ``depth`` bits."""
    import numpy as np

    codes = np.atleast_1d(np.asarray(key, np.int64))
    if 1 < depth < 8:  # Pillow has scaled the key of 1 bit, but not these
        codes = codes * 255 // (2**depth - 1)
    elif depth == 16 and white == 255:
        codes = codes >> 8
    alpha = np.where((pixels == codes).all(axis=2, keepdims=True), 0, white).astype(pixels.dtype)
    return np.concatenate([pixels, alpha], axis=2)


def wide_pnm(file: BinaryIO, image: Any) -> "NDArray[Any] | None":
    """The pixels of a PNM of 16-bit colour, which Pillow brings to 8 bits; None for any other file."""
    import numpy as np

    tile = image.tile[0]
    greatest = tile.args[-1] if isinstance(tile.args, tuple) else 255
    if image.mode != "RGB" or not isinstance(greatest, int) or greatest <= 255:
        return None
    file.seek(tile.offset)
    shape = image.height, image.width, 3
    if tile.codec_name == "ppm":
        codes = np.frombuffer(file.read(prod(shape) * 2), ">u2").reshape(shape)
    else:
        words = re.sub(rb"#[^\n]*", b"", file.read(prod(shape) * 12)).split()[: prod(shape)]
        codes = np.array(words, np.int64).reshape(shape)
    return np.rint(codes * (65535 / greatest)).clip(0, 65535).astype(np.uint16)


def bit_depth(file: BinaryIO, image: Any) -> int:
    """Bits of a channel as the file has them, which Pillow does not keep for colour."""
    if image.format == "PNG":
        place = file.tell()
        file.seek(24)
        depth = file.read(1)
        file.seek(place)
        return int(depth[0]) if depth else 8
    if image.format == "TIFF":
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (8,))
        return int(max(bits) if isinstance(bits, tuple) else bits)
    if image.format == "PPM":
        arguments = image.tile[0].args
        greatest = arguments[-1] if isinstance(arguments, tuple) else 255
        return 16 if isinstance(greatest, int) and greatest > 255 else 8
    return 8


def turned_upright(pixels: "NDArray[Any]", orientation: int) -> "NDArray[Any]":
    """The pixels as the EXIF orientation 1 to 8 says they are to be seen (Exif 2.32, 4.6.4), in memory row by row."""
    import numpy as np

    if orientation >= SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    down, across = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return np.ascontiguousarray(pixels[::down, ::across])
