"""Decoding: any supported file to an upright :class:`Picture`, its size read from the header before memory is taken."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from convcli.engine.threads import Shared
from convcli.errors import PictureError, system_words
from convcli.images.picture import EXIF_PREFIX, PICTURE_FORMATS, Metadata, Picture
from convcli.words import MAX_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = {
    "PNG": (b"\x89PNG",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+"),
    "WEBP": (b"RIFF",),
    "BMP": (b"BM",),
    "GIF": (b"GIF8",),
    "PPM": (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"),
}
USUAL_SUFFIX = {name: suffix for suffix, name in reversed(PICTURE_FORMATS.items())}  # the first of each
MAX_STREAM_BYTES = 2**31
READABLE = "PNG, JPEG, TIFF, WebP, BMP, GIF or PNM"

ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
EIGHT_BIT_MODES = ("L", "LA", "RGB", "RGBA")
GRAY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L")
BITS_PER_SAMPLE, ORIENTATION = 258, 274  # TIFF and EXIF tags
SIDEWAYS = 5  # orientations from here on turn height into width


def read_picture(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode the first frame of a file, or of a file's bytes.

    EXIF orientation is baked in; palettes become RGB(A), 1-bit becomes grey, other colour spaces RGB. 16-bit grey
    keeps its codes. Raises PictureError for what is missing, not a picture, damaged, or larger than ``max_pixels``.
    """
    try:
        with _opened(source) as (file, image):
            return _decode(image, _bit_depth(file, image), max_pixels)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # damaged files raise whatever their decoder stumbles over
        raise PictureError(_reason(error)) from None


def read_shape(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[tuple[int, int, int], bool]:
    """Colour channels, height and width that a file's header claims, and whether there is alpha.

    Raises as :func:`read_picture` does.
    """
    try:
        with _opened(path) as (_, image):
            _check_size(image, max_pixels)
            height, width = image.height, image.width
            if image.getexif().get(ORIENTATION, 1) >= SIDEWAYS:
                height, width = width, height
            alpha = image.mode in ALPHA_MODES or "transparency" in image.info
            return (1 if image.mode in GRAY_MODES else 3, height, width), alpha
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(_reason(error)) from None


@contextmanager
def _opened(source: Path | bytes) -> Iterator[tuple[BinaryIO, Any]]:
    """A file and the Pillow image it is, its header read."""
    from PIL import Image

    if isinstance(source, Path) and not source.is_file():
        with source.open("rb") as pipe:  # which can't be wound back
            source = read_all(pipe)
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        formats = _formats(file.read(16))
        if not formats:
            raise PictureError(f"not a picture that can be read ({READABLE})")
        opened = file if isinstance(source, bytes) else source
        silence = quiet_decoder if formats == ["TIFF"] else nullcontext()
        with own_limits, silence, Image.open(opened, formats=formats) as image:
            yield file, image


def read_all(stream: BinaryIO) -> bytes:
    """What a stream holds, up to a bound. Raises PictureError for more."""
    data = stream.read(MAX_STREAM_BYTES + 1)
    if len(data) > MAX_STREAM_BYTES:
        raise PictureError(f"more than {MAX_STREAM_BYTES // 2**30} GiB came in, which is no picture")
    return data


def sniff_suffix(path: Path) -> str | None:
    """The suffix that a file's first bytes ask for, if they are a picture's. Raises OSError."""
    with path.open("rb") as file:
        formats = _formats(file.read(16))
    return USUAL_SUFFIX[formats[0]] if formats else None


def _formats(start: bytes) -> list[str]:
    """The one format that a file's first bytes say: no other plug-in is loaded, or ever sees the file."""
    return [name for name, magic in MAGIC.items() if start.startswith(magic)]


def _check_size(image: Any, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise PictureError(
            f"its header says {image.height}x{image.width}, {image.height * image.width:,} pixels,"
            f" more than {max_pixels:,}; raise --max-pixels if that is right"
        )


def _decode(image: Any, depth: int, max_pixels: int) -> Picture:
    import numpy as np

    _check_size(image, max_pixels)
    notices = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notices.append(f"only the first of {frames} frames is read")
    if depth == 16 and image.mode in EIGHT_BIT_MODES:
        notices.append("16-bit colour is read as 8-bit")
    image.load()
    try:
        _turn_upright(image)
    except MemoryError:
        raise
    except Exception:  # EXIF data can hold anything, and what it holds is used unchecked
        image.info.pop("exif", None)
        notices.append("damaged EXIF data is ignored")
    icc = image.info.get("icc_profile")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notices.append(f"{image.mode} is converted to RGB")
        icc = None  # it describes the inks, not the RGB that comes out
    key = image.info.get("transparency")
    pixels = np.asarray(_plain(image))
    pixels = pixels.reshape(*pixels.shape[:2], -1).astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype.kind == "i":
        pixels = _sixteen_bit(pixels)
    white = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
    if key is not None and pixels.shape[2] in (1, 3):
        pixels = _with_key(pixels, key, depth, white)
    exif = (image.info.get("exif") or b"").removeprefix(EXIF_PREFIX) or None
    metadata = Metadata(icc, exif, _resolution(image.info.get("dpi")))
    return Picture(pixels, white, pixels.shape[2] in (2, 4), metadata, tuple(notices), frames)


def _turn_upright(image: Any) -> None:
    """Bake the EXIF orientation into the pixels and take the tag away."""
    if image.getexif().get(ORIENTATION, 1) != 1:
        from PIL import ImageOps

        ImageOps.exif_transpose(image, in_place=True)


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


def _sixteen_bit(pixels: "NDArray[Any]") -> "NDArray[Any]":
    """Pillow holds some 16-bit pictures as int32; wider codes have no known white."""
    import numpy as np

    if pixels.min() < 0 or pixels.max() > 65535:
        raise PictureError("32-bit integer pictures are not read, since what their white is isn't known; use .npy")
    return pixels.astype(np.uint16)


def _bit_depth(file: Any, image: Any) -> int:
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


def _resolution(dpi: Any) -> tuple[float, float] | None:
    """Dots per inch, if they make sense."""
    try:
        x, y = float(dpi[0]), float(dpi[1])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None
    return (x, y) if 1 < x < 1e6 and 1 < y < 1e6 else None  # 1 is what Pillow says of a TIFF that says nothing


def _reason(error: BaseException) -> str:
    """The system's words, or those of the decoder, made one clause."""
    if isinstance(error, IsADirectoryError | FileNotFoundError):
        return "is a folder" if isinstance(error, IsADirectoryError) else "no such file"
    if isinstance(error, OSError) and error.strerror:
        return system_words(error)
    text = str(error) or type(error).__name__
    if "cannot identify" in text:
        text = "its header can't be read"
    return f"{'truncated' if 'truncated' in text else 'damaged'} picture: {text}"


def _take_over() -> Any:
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    filters = warnings.catch_warnings()
    filters.__enter__()
    warnings.simplefilter("ignore")
    return limit, filters


def _hand_back(state: Any) -> None:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS, filters = state
    filters.__exit__()


def _silence_stderr() -> int | None:
    try:
        kept = os.dup(2)
    except OSError:  # closed: nothing can be printed
        return None
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 2)
    return kept


def _restore_stderr(kept: int | None) -> None:
    if kept is not None:
        os.dup2(kept, 2)
        os.close(kept)


own_limits = Shared(_take_over, _hand_back)  # Pillow's limit and warnings off: our check comes before any decoding
quiet_decoder = Shared(_silence_stderr, _restore_stderr)  # libtiff complains on stderr, past Python; ours is one line
