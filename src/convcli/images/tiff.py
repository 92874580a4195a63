"""The TIFFs that Pillow neither reads nor writes: floats and 16 bits in colour, through tifffile."""

import io
import logging
import struct
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

from convcli.engine.threads import check_threads
from convcli.errors import PictureError
from convcli.images.decoding import UNKNOWN_WHITE, turned_upright
from convcli.images.metadata import (
    DESCRIBING,
    EXIF_PREFIX,
    INSIDE,
    ORIENTATION,
    SIDEWAYS,
    exif_of_tiff,
    known_orientation,
    known_resolution,
    turned_resolution,
    upright_xmp,
)
from convcli.images.picture import Metadata, Picture, white_of
from convcli.images.quiet import own_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

X_RESOLUTION, RESOLUTION_UNIT, XMP, ICC_PROFILE = 282, 296, 700, 34675  # TIFF tags
COMPRESSIONS = 1, 8, 32773, 32946  # none, deflate, PackBits, deflate's older number
GRAY_IS_INK, GRAY, RGB = 0, 1, 2  # photometric interpretations
PREMULTIPLIED, STRAIGHT = 1, 2  # kinds of extra samples that are alpha
APART = 2  # planes
STRIP = 1 << 18  # bytes of rows that are deflated together
Text = tuple[int, str, int, bytes, bool]  # of a directory, as tifffile takes it
INCH, CENTIMETRE = 2, 3  # units of resolution


def check_chain(file: BinaryIO) -> None:
    """Raise PictureError if a page's directory lies behind the end of the file: readers take that for the last page."""
    file.seek(0)
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    big = start[2:4] in (b"+\0", b"\0+")
    count_form, next_form, entry = (f"{order}Q", f"{order}Q", 20) if big else (f"{order}H", f"{order}I", 12)
    seen: set[int] = set()
    place = struct.unpack_from(next_form, start, 8 if big else 4)[0]
    while place:
        file.seek(place)
        head = file.read(struct.calcsize(count_form))
        if len(head) < struct.calcsize(count_form):
            raise PictureError(f"truncated picture: page {len(seen)} is not there")
        file.seek(struct.unpack(count_form, head)[0] * entry, 1)
        tail = file.read(struct.calcsize(next_form))
        if len(tail) < struct.calcsize(next_form):
            raise PictureError(f"truncated picture: page {len(seen)} is cut off")
        if place in seen:
            raise PictureError("damaged picture: its pages lead to one another in a circle")
        seen.add(place)
        place = struct.unpack(next_form, tail)[0]


class Pages:
    """The pages of a TIFF, each read when asked for. Raises PictureError for what is no picture."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = Lock()
        self._metadata: dict[int, tuple[Metadata, tuple[str, ...]]] = {}
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._pages: Any = tifffile().TiffFile(file).pages

    def __len__(self) -> int:
        return len(self._pages)

    def page(self, number: int) -> Any:
        """The library's page."""
        return self._pages[number]

    def is_upright(self, number: int) -> bool:
        """Whether a page is stored as it is to be seen."""
        return _orientation(self._pages[number]) == 1

    def stored(self, place: int, count: int) -> bytes:
        """Some bytes of the file; threads may ask side by side."""
        with self._lock:
            self._file.seek(place)
            data = self._file.read(count)
        if len(data) < count:
            raise PictureError("truncated picture: it is shorter than its header says")
        return data

    def knows(self, number: int) -> bool:
        """Whether a page is read here: grey or RGB, of a compression that needs no other library."""
        page = self._pages[number]
        plain = page.photometric in (GRAY_IS_INK, GRAY, RGB) and page.bitspersample in (8, 16, 32, 64)
        return page.planarconfig == APART or (plain and page.compression in COMPRESSIONS)

    def shape(self, number: int) -> tuple[tuple[int, int, int], bool]:
        """Colour channels, height and width as the picture is to be seen, and whether there is alpha."""
        page = self._pages[number]
        height, width = page.imagelength, page.imagewidth
        if _orientation(page) >= SIDEWAYS:
            height, width = width, height
        return (_colors(page), height, width), _alpha(page) is not None

    def read(self, number: int) -> Picture:
        """One page."""
        page = self._pages[number]
        if page.photometric not in (GRAY_IS_INK, GRAY, RGB):
            kind = getattr(page.photometric, "name", page.photometric)
            raise PictureError(f"a TIFF of {kind} with {page.bitspersample} bits is not read")
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise PictureError(f"its compression, {page.compression.name}, needs convcli[codecs]") from None
            raise
        return self.picture(number, _in_rows(page, pixels))

    def picture(self, number: int, pixels: "NDArray[Any]") -> Picture:
        """The picture of a page's samples ``(H, W, C)``, or of some rows of them."""
        import numpy as np

        page = self._pages[number]
        if pixels.dtype.kind == "f":
            pixels, white = pixels.astype(np.float32, copy=False), 1.0
        elif pixels.dtype in (np.uint8, np.uint16):
            white = white_of(pixels.dtype)
        else:
            raise PictureError(UNKNOWN_WHITE.format(8 * pixels.dtype.itemsize))
        colors, alpha = _colors(page), _alpha(page)
        if page.photometric == GRAY_IS_INK:
            pixels = np.concatenate([white - pixels[..., :1], pixels[..., 1:]], axis=2).astype(pixels.dtype)
        pixels = pixels[..., : colors + (alpha is not None)]
        if alpha == PREMULTIPLIED:
            pixels = _straight(pixels, white)
        pixels = turned_upright(pixels.astype(pixels.dtype.newbyteorder("="), copy=False), _orientation(page))
        if number not in self._metadata:
            self._metadata[number] = self._described(page)
        return Picture(pixels, white, alpha is not None, *self._metadata[number])

    def _described(self, page: Any) -> tuple[Metadata, tuple[str, ...]]:
        """What describes a page, and what is wrong with that."""
        try:
            return _metadata(page)._replace(exif=exif_of_tiff(self._file, page.offset)), ()
        except MemoryError:
            raise
        except Exception:  # as of other formats: it can hold anything
            return _metadata(page), ("damaged EXIF data is ignored",)


def _tag(page: Any, code: int, default: Any) -> Any:
    return page.tags[code].value if code in page.tags else default


def _orientation(page: Any) -> int:
    return known_orientation(_tag(page, ORIENTATION, 1))


def _colors(page: Any) -> int:
    return 3 if page.photometric == RGB else 1


def _alpha(page: Any) -> int | None:
    """What kind of alpha follows the colours, if that does. Some programs do not say that the fourth channel is."""
    if page.samplesperpixel == _colors(page) + 1 and not page.extrasamples:
        return STRAIGHT
    kinds = [int(one) for one in page.extrasamples[:1] if page.samplesperpixel > _colors(page)]
    return kinds[0] if kinds and kinds[0] in (PREMULTIPLIED, STRAIGHT) else None


def _in_rows(page: Any, pixels: "NDArray[Any]") -> "NDArray[Any]":
    """``(H, W, C)`` from however the samples lie."""
    import numpy as np

    if page.axes.endswith("SYX"):
        pixels = np.moveaxis(pixels, -3, -1)
    shape = page.imagelength, page.imagewidth, page.samplesperpixel
    if pixels.size != prod(shape):
        raise PictureError("a TIFF of volumes is not read")
    return pixels.reshape(shape)


def _straight(pixels: "NDArray[Any]", white: float) -> "NDArray[Any]":
    """Colours divided by their alpha."""
    import numpy as np

    alpha = pixels[..., -1:] / np.float32(white)
    colors = np.divide(pixels[..., :-1], alpha, out=np.zeros(pixels[..., :-1].shape, np.float32), where=alpha > 0)
    if pixels.dtype.kind != "f":
        colors = np.rint(colors.clip(0, white))
    return np.concatenate([colors.astype(pixels.dtype), pixels[..., -1:]], axis=2)


def _metadata(page: Any) -> Metadata:
    icc, xmp, dpi = _tag(page, ICC_PROFILE, None), _tag(page, XMP, None), None
    with suppress(ValueError, TypeError, ArithmeticError):
        if _tag(page, RESOLUTION_UNIT, INCH) in (INCH, CENTIMETRE) and X_RESOLUTION in page.tags:
            dpi = known_resolution(page.get_resolution(INCH))
    return Metadata(
        icc=icc if isinstance(icc, bytes) else None,
        dpi=turned_resolution(dpi, _orientation(page)),
        xmp=upright_xmp(xmp) if isinstance(xmp, bytes) else None,
    )


def encode_tiff(pictures: Sequence[Picture], threads: int | None = None) -> bytes:
    """The bytes of a TIFF of uint8, uint16 or float32 pictures, a page each, deflated; EXIF data are the first's."""
    import numpy as np

    buffer = io.BytesIO()
    exif = [tag_directories(one.metadata.exif) for one in pictures]
    with tifffile().TiffWriter(buffer, byteorder="<", bigtiff=False) as writer:
        for picture, (_, texts) in zip(pictures, exif, strict=True):
            pixels = picture.pixels if picture.pixels.dtype.kind == "u" else picture.pixels.astype(np.float32)
            writer.write(
                pixels if pixels.shape[2] > 1 else pixels[..., 0],
                compressionargs={"level": 1},
                rowsperstrip=max(1, STRIP // max(1, pixels[0].nbytes)),
                maxworkers=check_threads(threads),
                **page_options(picture, texts),
            )
    if inside := exif[0][0]:
        write_directories(buffer, inside)
    return buffer.getvalue()


def page_options(picture: Picture, texts: list[Text]) -> dict[str, Any]:
    """What a page says of itself, as tifffile takes it."""
    dpi, icc, xmp = picture.metadata.dpi, picture.metadata.icc, picture.metadata.xmp
    return {
        "photometric": "rgb" if picture.color.shape[2] == 3 else "minisblack",
        "planarconfig": "contig" if picture.pixels.shape[2] > 1 else None,
        "extrasamples": ["unassalpha"] if picture.alpha else None,
        "compression": "zlib",
        "predictor": picture.pixels.dtype.kind == "u",
        "resolution": dpi,
        "resolutionunit": "INCH" if dpi else None,
        "iccprofile": icc,
        "extratags": [*texts, *([(XMP, "B", len(xmp), xmp, True)] if xmp else [])],
        "metadata": None,
        "software": False,
    }


def tag_directories(data: bytes | None) -> tuple[dict[int, dict[int, Any]], list[Text]]:
    """EXIF data as the directories inside, by the tag that leads to each, and texts for the TIFF's own directory."""
    from PIL import Image

    if not data:
        return {}, []
    tags = Image.Exif()
    with own_limits, suppress(Exception):  # it can hold anything, and was said to be damaged when it was read
        tags.load(EXIF_PREFIX + data)
        texts = {tag: str(tags[tag]).encode("ascii", "replace") for tag in DESCRIBING if tag in tags}
        inside = {tag: found for tag in INSIDE if (found := dict(tags.get_ifd(tag)))}
        return inside, [(tag, "s", 0, text, True) for tag, text in texts.items() if text]
    return {}, []


def write_directories(buffer: BinaryIO, inside: dict[int, dict[int, Any]]) -> None:
    """Directories at the end of a little-endian TIFF, and behind them its first one once more, with entries that lead
    to them: tifffile writes no such entries."""
    buffer.seek(4)
    (place,) = struct.unpack("<I", buffer.read(4))
    buffer.seek(place)
    (count,) = struct.unpack("<H", buffer.read(2))
    entries = [buffer.read(12) for _ in range(count)]
    following = buffer.read(4)
    for tag, values in inside.items():
        start = _even_end(buffer)
        buffer.write(_directory(values, start))
        entries.append(struct.pack("<HHII", tag, 4, 1, start))  # a 32-bit number
    start = _even_end(buffer)
    buffer.write(
        struct.pack("<H", len(entries))
        + b"".join(sorted(entries, key=lambda entry: struct.unpack_from("<H", entry)))
        + following
    )
    buffer.seek(4)
    buffer.write(struct.pack("<I", start))


def _even_end(buffer: BinaryIO) -> int:
    """The end of a file, at an even place, as a directory's must be."""
    buffer.write(b"\0" * (buffer.seek(0, io.SEEK_END) % 2))
    return buffer.tell()


def _directory(values: dict[int, Any], place: int) -> bytes:
    """A directory's bytes at a place."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    directory = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    for key, value in values.items():
        with suppress(Exception):
            if not isinstance(value, dict):  # a directory inside the directory: makers' own
                directory[key] = value
    return bytes(directory.tobytes(place))


def tifffile() -> Any:
    """The library; what is wrong is said once, by us."""
    import tifffile as library

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    return library
