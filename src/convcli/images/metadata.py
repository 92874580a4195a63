"""What a file says besides its pixels: read from it, and told to the file of the result, each format in its way."""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from convcli.images.chunks import chunks
from convcli.images.formats import Format
from convcli.images.picture import JpegTables, Metadata

EXIF_PREFIX = b"Exif\0\0"  # stands in front of the data in JPEG files, and in no others
MAX_JPEG_EXIF = 65_533 - len(EXIF_PREFIX)  # a segment holds no more
MAX_COMMAND = 1 << 16  # characters
MAX_CHUNKS = 16 << 20  # bytes of PNG chunks that are carried
ORIENTATION = 274  # EXIF tag
SIDEWAYS = 5  # orientations from here on turn height into width
DESCRIBING = 270, 271, 272, 306, 315, 33432  # what is said of a TIFF, not how it is stored: make, artist ...
INSIDE = 34665, 34853  # tags that lead to more of them: how it was taken, and where
XMP_ORIENTATION = re.compile(rb'\s*tiff:Orientation="\d"|<tiff:Orientation>\d</tiff:Orientation>')
XMP_KEYWORD, SOFTWARE_KEYWORD, COMMAND_KEYWORD = b"XML:com.adobe.xmp", b"Software", b"convcli"
RENEWED = XMP_KEYWORD, SOFTWARE_KEYWORD, COMMAND_KEYWORD, b"Raw profile type exif", b"Raw profile type APP1"
COLOR_CHUNKS = b"gAMA", b"cHRM", b"sRGB", b"cICP"
TEXT_CHUNKS = b"tEXt", b"zTXt", b"iTXt"
COARSE = 2  # Pillow's number of 4:2:0, which is nearest to what it has no number for
PHOTOGRAPHIC = "JPEG", "WEBP", "AVIF", "HEIF", "JXL"
METRES_PER_INCH = 0.0254


def read_metadata(file: BinaryIO, image: Any, orientation: int, *, same_colors: bool = True) -> tuple[Metadata, bool]:
    """What a Pillow image and its open file say, as of a picture that was turned upright; the colour profile only if
    the pixels still are what it describes. And whether its EXIF data could be read: they can hold anything."""
    info = image.info
    icc, xmp = info.get("icc_profile"), info.get("xmp")
    sound, exif = True, None
    try:
        exif = _exif(image)
    except MemoryError:
        raise
    except Exception:
        sound = False
    metadata = Metadata(
        icc=icc if same_colors and isinstance(icc, bytes) else None,
        exif=exif,
        dpi=turned_resolution(known_resolution(info.get("dpi")), orientation),
        xmp=upright_xmp(xmp) if isinstance(xmp, bytes) else None,
        comment=_comment(info.get("comment")),
        chunks=tuple(_carried(file)) if image.format == "PNG" else (),
        jpeg=_tables(image) if image.format in ("JPEG", "MPO") else None,
    )
    return metadata, sound


def known_orientation(found: Any) -> int:
    """1 to 8, as Exif has them; 1 of what is none of them."""
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def upright_xmp(xmp: bytes) -> bytes:
    """XMP without the orientation."""
    return XMP_ORIENTATION.sub(b"", xmp)


def turned_resolution(dpi: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    """The resolution of a picture that was turned upright."""
    return dpi[::-1] if dpi and orientation >= SIDEWAYS else dpi


def _exif(image: Any) -> bytes | None:
    if image.format == "TIFF":
        return _describing(image.getexif())
    found = image.info.get("exif")
    data = found.removeprefix(EXIF_PREFIX) if isinstance(found, bytes) else b""
    tags = image.getexif()  # a PNG may have them in a text, too
    if ORIENTATION in tags or (not data and len(tags)):
        tags.pop(ORIENTATION, None)
        data = tags.tobytes().removeprefix(EXIF_PREFIX) if len(tags) else b""
    return bytes(data) or None


BIG_TIFF = b"+"  # 43 in a header, which is 42 otherwise


def exif_of_tiff(file: BinaryIO, place: int) -> bytes | None:
    """The tags that describe the picture in a TIFF's directory at a place, as EXIF data."""
    from PIL import Image

    file.seek(0)
    start = file.read(4)
    tags = Image.Exif()
    tags.endian = "<" if start[:2] == b"II" else ">"
    tags.bigtiff = BIG_TIFF in start
    file.seek(0)
    tags.load_from_fp(file, place)
    return _describing(tags)


def _describing(tags: Any) -> bytes | None:
    from PIL import Image

    kept = Image.Exif()
    for tag in DESCRIBING:
        if tag in tags:
            kept[tag] = tags[tag]
    for tag in INSIDE:
        if more := dict(tags.get_ifd(tag)):
            kept.get_ifd(tag).update(more)
            kept[tag] = kept.get_ifd(tag)
    return bytes(kept.tobytes()).removeprefix(EXIF_PREFIX) if len(kept) else None


def known_resolution(dpi: Any) -> tuple[float, float] | None:
    """Dots per inch, if they make sense."""
    try:
        x, y = float(dpi[0]), float(dpi[1])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None
    return (x, y) if 1 < x < 1e6 and 1 < y < 1e6 else None  # 1 is what Pillow says of a TIFF that says nothing


def _comment(comment: Any) -> bytes | None:
    if isinstance(comment, str):
        comment = comment.encode(errors="replace")
    return comment if isinstance(comment, bytes) and comment else None


def _tables(image: Any) -> JpegTables | None:
    from PIL import JpegImagePlugin

    sampling = JpegImagePlugin.get_sampling(image)
    tables = {number: list(table) for number, table in image.quantization.items()}
    return JpegTables(tables, sampling if sampling >= 0 else COARSE) if tables else None


def _carried(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    for kind, data in _chunks(file, COLOR_CHUNKS + TEXT_CHUNKS):
        if data.partition(b"\0")[0] not in RENEWED:
            yield kind, data


def _chunks(file: BinaryIO, kinds: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of some kinds in a PNG, as they are."""
    before, left = file.tell(), MAX_CHUNKS
    for kind, place, length in chunks(file):
        if kind in kinds and length <= left:
            left -= length
            file.seek(place)
            yield kind, file.read(length)
    file.seek(before)


def read_command(file: BinaryIO) -> str | None:
    """The command that a PNG says it was made by, if convcli made it."""
    for kind, data in _chunks(file, TEXT_CHUNKS):
        keyword, _, text = data.partition(b"\0")
        if keyword == COMMAND_KEYWORD and kind != b"zTXt" and len(text) <= MAX_COMMAND:
            return text.removeprefix(b"\0\0\0\0" if kind == b"iTXt" else b"").decode(errors="replace")
    return None


def png_chunks(metadata: Metadata, made: tuple[str, str] | None) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG that say what the metadata say, and by which program and command it was made."""
    colors, texts = ([one for one in metadata.chunks if one[0] in kinds] for kinds in (COLOR_CHUNKS, TEXT_CHUNKS))
    if metadata.icc:
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)
        colors = [one for one in colors if one[0] != b"sRGB"]  # never both, says the specification
    yield from colors
    if metadata.dpi:
        x, y = (round(one / METRES_PER_INCH) for one in metadata.dpi)
        yield b"pHYs", struct.pack(">IIB", x, y, 1)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield _international(XMP_KEYWORD, metadata.xmp)
    yield from texts
    if made is not None:
        software, text = (one.encode(errors="backslashreplace") for one in made)
        yield b"tEXt", SOFTWARE_KEYWORD + b"\0" + software
        yield (b"tEXt", COMMAND_KEYWORD + b"\0" + text) if text.isascii() else _international(COMMAND_KEYWORD, text)


def _international(keyword: bytes, text: bytes) -> tuple[bytes, bytes]:
    return b"iTXt", keyword + b"\0\0\0\0\0" + text


def save_options(metadata: Metadata, target: Format) -> dict[str, Any]:
    """Options of Pillow's ``save`` for the metadata that a format holds."""
    name = target.name
    options: dict[str, Any] = {}
    if metadata.icc and name in PHOTOGRAPHIC:
        options["icc_profile"] = metadata.icc
    if metadata.exif and name in PHOTOGRAPHIC:
        options["exif"] = EXIF_PREFIX + metadata.exif
    if metadata.xmp and name in PHOTOGRAPHIC:
        options["xmp"] = metadata.xmp
    if metadata.dpi and name in ("JPEG", "BMP"):
        options["dpi"] = metadata.dpi
    if metadata.comment and name in ("JPEG", "GIF"):
        options["comment"] = metadata.comment
    return options


def fitting(metadata: Metadata, target: Format, *, gray: bool) -> tuple[Metadata, list[str]]:
    """The metadata that a format can hold, a colour profile only if it is of the picture's colour space, and notices
    of what is left out."""
    icc, notices = metadata.icc, []
    if icc and icc[16:20] != (b"GRAY" if gray else b"RGB "):
        icc = None
    if icc and target.name not in ("PNG", "TIFF", *PHOTOGRAPHIC):
        if b"sRGB" not in icc and b"s\0R\0G\0B" not in icc:
            notices.append(f"{target.name} holds no colour profile, without which colours may look different")
        icc = None
    exif = metadata.exif
    if exif and target.name == "JPEG" and len(exif) > MAX_JPEG_EXIF:
        notices.append(f"{len(exif):,} bytes of EXIF data do not fit into a JPEG and are left out")
        exif = None
    return metadata._replace(icc=icc, exif=exif), notices
