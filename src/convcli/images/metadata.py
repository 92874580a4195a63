"""What a file says besides its pixels: read from it, and told to the file of the result, each format in its way."""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from convcli.images.formats import Format
from convcli.images.picture import JpegTables, Metadata

EXIF_PREFIX = b"Exif\0\0"  # stands in front of the data in JPEG files, and in no others
MAX_JPEG_EXIF = 65_533 - len(EXIF_PREFIX)  # a segment holds no more
MAX_CHUNKS = 16 << 20  # bytes of PNG chunks that are carried
ORIENTATION = 274  # EXIF tag
DESCRIBING = 270, 271, 272, 305, 306, 315, 33432  # what is said of a TIFF, not how it is stored: make, artist ...
INSIDE = 34665, 34853  # tags that lead to more of them: how it was taken, and where
XMP_ORIENTATION = re.compile(rb'\s*tiff:Orientation="\d"|<tiff:Orientation>\d</tiff:Orientation>')
XMP_KEYWORD, SOFTWARE_KEYWORD, COMMAND_KEYWORD = b"XML:com.adobe.xmp", b"Software", b"convcli"
RENEWED = XMP_KEYWORD, SOFTWARE_KEYWORD, COMMAND_KEYWORD
COLOR_CHUNKS = b"gAMA", b"cHRM", b"sRGB", b"cICP"
TEXT_CHUNKS = b"tEXt", b"zTXt", b"iTXt"
PHOTOGRAPHIC = "JPEG", "WEBP", "AVIF", "HEIF", "JXL"
METRES_PER_INCH = 0.0254


def read_metadata(file: BinaryIO, image: Any, *, same_colors: bool = True, exif: bool = True) -> Metadata:
    """What a Pillow image and its open file say, with the orientation taken away; the colour profile only if the
    pixels still are what it describes.

    Raises whatever damaged EXIF data makes Pillow raise.
    """
    info = image.info
    xmp = info.get("xmp")
    return Metadata(
        icc=info.get("icc_profile") if same_colors else None,
        exif=_exif(image) if exif else None,
        dpi=_resolution(info.get("dpi")),
        xmp=XMP_ORIENTATION.sub(b"", xmp) if isinstance(xmp, bytes) else None,
        comment=_comment(info.get("comment")),
        chunks=tuple(_carried(file)) if image.format == "PNG" else (),
        jpeg=_tables(image) if image.format in ("JPEG", "MPO") else None,
    )


def _exif(image: Any) -> bytes | None:
    data = (image.info.get("exif") or b"").removeprefix(EXIF_PREFIX)
    if image.format != "TIFF" and not data:
        return None
    tags = image.getexif()
    if image.format == "TIFF":
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
    if tags.get(ORIENTATION, 1) != 1:
        del tags[ORIENTATION]
        return bytes(tags.tobytes()).removeprefix(EXIF_PREFIX)
    return bytes(data)


def _resolution(dpi: Any) -> tuple[float, float] | None:
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
    return JpegTables(tables, sampling) if tables and (sampling >= 0 or image.layers == 1) else None


def _carried(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    for kind, data in _chunks(file, COLOR_CHUNKS + TEXT_CHUNKS):
        if data.partition(b"\0")[0] not in RENEWED:
            yield kind, data


def _chunks(file: BinaryIO, kinds: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of some kinds in a PNG, as they are."""
    place, left = file.tell(), MAX_CHUNKS
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in kinds and length <= left:
            left -= length
            yield kind, file.read(length)
            length = 0
        file.seek(length + 4, 1)
    file.seek(place)


def read_command(file: BinaryIO) -> str | None:
    """The command that a PNG says it was made by, if convcli made it."""
    for kind, data in _chunks(file, TEXT_CHUNKS):
        keyword, _, text = data.partition(b"\0")
        if keyword == COMMAND_KEYWORD and kind != b"zTXt":
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
    if metadata.icc and name in ("TIFF", *PHOTOGRAPHIC):
        options["icc_profile"] = metadata.icc
    if metadata.exif and name in ("TIFF", *PHOTOGRAPHIC):
        options["exif"] = EXIF_PREFIX + metadata.exif
    if metadata.xmp and name in PHOTOGRAPHIC:
        options["xmp"] = metadata.xmp
    if metadata.dpi and name in ("JPEG", "TIFF", "BMP"):
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
    exif = metadata.exif
    if exif and target.name == "JPEG" and len(exif) > MAX_JPEG_EXIF:
        notices.append(f"{len(exif):,} bytes of EXIF data do not fit into a JPEG and are left out")
        exif = None
    return metadata._replace(icc=icc, exif=exif), notices
