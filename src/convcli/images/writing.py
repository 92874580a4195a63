"""Encoding: the bytes of files from :class:`Frames`, each format in its way."""

import io
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from convcli.engine.threads import check_threads, map_all
from convcli.errors import ConvcliError, PictureError
from convcli.images.decoding import STRIP_PIXELS
from convcli.images.formats import Format
from convcli.images.metadata import fitting, save_options
from convcli.images.picture import NOTHING_KEPT, Frames, Picture
from convcli.images.png import FAST, encode_png
from convcli.words import Depth

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
SHARED_MODES = "L", "RGBA"
WHITE_16 = 65535
QUALITY = 90  # of JPEG, WebP, AVIF and HEIF, unless told or the file had tables of its own
Color = tuple[float, float, float]  # fractions of white
WHITE: Color = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Encoding:
    """How results become files: ``png`` as in :func:`parse_packing`, ``quality`` from 1 to 100 or None for the
    input's, what is laid behind transparency in fractions of white, and whether all but the pixels is left out.

    ``made`` is the program and the command that a PNG says it was made by.
    """

    png: str = FAST
    quality: int | None = None
    background: Color = WHITE
    strip: bool = False
    made: tuple[str, str] | None = None
    threads: int | None = None


USUAL = Encoding()


def parse_background(text: str) -> Color:
    """A colour by name or as ``#rrggbb``, in fractions of white. Raises ConvcliError."""
    from PIL import ImageColor

    with suppress(ValueError):
        red, green, blue, *alpha = ImageColor.getrgb(text)
        if max(red, green, blue) <= 255 and not alpha:
            return red / 255, green / 255, blue / 255
    raise ConvcliError(f"must be a colour such as white, black or #ff8000, not {text!r}")


def encode(frames: Frames | Picture, target: Format, encoding: Encoding = USUAL) -> tuple[list[bytes], list[str]]:
    """The pieces of a file, and what there is to say of how it holds the frames.

    Raises PictureError for what the format can't hold: other depths than its own, channels, sizes.
    """
    if isinstance(frames, Picture):
        frames = Frames([frames])
    notices: list[str] = []
    pictures = [fitted(one, target, encoding, notices) for one in frames.pictures]
    frames = replace(frames, pictures=pictures)
    if len({one.pixels.shape for one in pictures}) > 1 and target.name != "TIFF":
        raise PictureError(f"its frames have different sizes, which {target.name} can't hold; write TIFF, or {{frame}}")
    if target.name == "PNG":
        return encode_png(frames, encoding.png, encoding.made, encoding.threads), notices
    if target.name == "TIFF":
        from convcli.images.tiff import encode_tiff

        return [encode_tiff(pictures, encoding.threads)], notices
    return [_saved(frames, target, encoding)], notices


def fitted(picture: Picture, target: Format, encoding: Encoding, notices: list[str]) -> Picture:
    """The picture as a format can hold it: alpha laid over the background, 16 bits brought to 8, metadata left out."""
    import numpy as np

    if picture.color.shape[2] not in (1, 3):
        raise PictureError(
            f"a picture has 1, 3 or 4 channels, but this result has {picture.pixels.shape[2]}; write it to .npy"
        )
    if encoding.strip:
        picture = replace(picture, metadata=NOTHING_KEPT._replace(jpeg=picture.metadata.jpeg))
    said: list[str] = []
    if picture.alpha and target.name == "GIF":
        picture, said = _cut_out(picture)
    if picture.alpha and not target.alpha:
        picture, said = _flat(picture, target, encoding.background)
    if picture.white == WHITE_16 and Depth.SIXTEEN not in target.depths:
        picture = replace(picture, pixels=np.rint(picture.pixels / np.float32(257)).astype(np.uint8), white=255.0)
        said = [*said, f"16 bits brought to 8 for {target.name}"]
    metadata, more = fitting(picture.metadata, target, gray=picture.color.shape[2] == 1)
    notices += [one for one in (*said, *more) if one not in notices]
    return replace(picture, metadata=metadata)


def _flat(picture: Picture, target: Format, background: Color) -> tuple[Picture, list[str]]:
    if picture.opaque():
        return picture.without_alpha(), []
    name = "#" + "".join(f"{round(255 * one):02x}" for one in background)
    words = {"#ffffff": "white", "#000000": "black"}.get(name, name)
    return laid_over(picture, background), [f"{target.name} has no transparency: laid over {words}"]


def laid_over(picture: Picture, background: Color) -> Picture:
    """The picture over a colour, fractions of white; grey only if that is grey, too."""
    import numpy as np

    if not picture.alpha:
        return picture
    colors = picture.color
    if colors.shape[2] == 1 and len(set(background)) > 1:
        colors = np.broadcast_to(colors, (*picture.size, 3))
    behind = np.array(background[: colors.shape[2]], np.float32) * picture.white
    cover = picture.pixels[..., -1:] / np.float32(picture.white)
    flat = colors * cover + behind * (1 - cover)
    if picture.pixels.dtype.kind != "f":
        flat = np.rint(flat)
    return replace(picture, pixels=flat.astype(picture.pixels.dtype), alpha=False)


def _cut_out(picture: Picture) -> tuple[Picture, list[str]]:
    """The picture with alpha all or nothing."""
    import numpy as np

    alpha = picture.pixels[..., -1:]
    whole = np.where(alpha * 2.0 >= picture.white, picture.white, 0).astype(alpha.dtype)
    if np.array_equal(whole, alpha):
        return picture, []
    pixels = np.concatenate([picture.color, whole], axis=2)
    return replace(picture, pixels=pixels), ["GIF knows no half transparency: alpha is cut at one half"]


def _saved(frames: Frames, target: Format, encoding: Encoding) -> bytes:
    """What Pillow makes of 8-bit pictures."""
    first = frames.pictures[0]
    options = save_options(first.metadata, target) | _quality(first, target, encoding)
    image, *others = (_image(one.pixels, target, encoding.threads) for one in frames.pictures[frames.poster :])
    if target.name == "AVIF":
        options["max_threads"] = check_threads(encoding.threads)
    if others:
        options |= {"save_all": True, "append_images": others}
    if others and frames.delays:
        options |= _timing(frames, target)
    target.load_plugin()
    buffer = _Named(target)
    try:
        image.save(buffer, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise PictureError(f"can't be written as {target.name}: {error}") from None
    data = buffer.getvalue()
    if target.name == "WEBP" and others and first.alpha:
        return _flagged_as_transparent(data)
    return data


def _flagged_as_transparent(data: bytes) -> bytes:
    """An animated WebP whose header says that there is alpha (RFC 9649, 2.7), which libwebp may have found in none of
    the parts that changed."""
    if data[12:16] != b"VP8X":
        return data
    return data[:20] + bytes([data[20] | 0x10]) + data[21:]


def _image(pixels: "NDArray[Any]", target: Format, threads: int | None) -> Any:
    """A Pillow image of 8-bit pixels: what Pillow lays out as we do is shared, the rest copied in strips."""
    import numpy as np
    from PIL import Image

    if pixels.shape[2] == 2 and target.name == "GIF":
        pixels = pixels[..., [0, 0, 0, 1]]  # Pillow's GIF writer knows the alpha of RGBA only
    pixels = np.ascontiguousarray(pixels)
    height, width, channels = pixels.shape
    mode = MODES[channels]

    def share(top: int, rows: int) -> Any:
        strip = pixels[top : top + rows]
        return Image.frombuffer(mode, (width, len(strip)), strip, "raw", mode, 0, 1)

    if mode in SHARED_MODES:
        return share(0, height)
    tall = max(1, STRIP_PIXELS // width)
    tops = range(0, height, tall)
    if mode == "RGB" and target.name == "JPEG":  # whose encoder also takes four bytes a pixel, as Pillow lays them out
        wide = np.empty((height, width, 4), np.uint8)
        deque(map_all(lambda top: _widen(pixels[top : top + tall], wide[top:]), tops, check_threads(threads)), 0)
        return Image.frombuffer("RGBX", (width, height), wide, "raw", "RGBX", 0, 1)
    image = Image.new(mode, (width, height), None)
    deque(map_all(lambda top: image.paste(share(top, tall), (0, top)), tops, check_threads(threads)), 0)
    return image


def _widen(rows: "NDArray[Any]", wide: "NDArray[Any]") -> None:
    """Pixels of three bytes into pixels of four, of which the last means nothing: each number of four bytes begins
    three after the one before it, which copies several times as fast as byte by byte."""
    import numpy as np

    count = rows.shape[0] * rows.shape[1]
    wide.reshape(-1, 4)[count - 1, :3] = rows[-1, -1]  # after which there is no fourth byte to read
    overlapping = np.ndarray((count - 1,), np.uint32, rows, strides=(3,))
    wide.reshape(-1, 4)[: count - 1].view(np.uint32)[:, 0] = overlapping


def _quality(picture: Picture, target: Format, encoding: Encoding) -> dict[str, Any]:
    """How much may be lost: what the user says, or what the input had lost, or the usual."""
    if not target.quality:
        return {}
    tables = picture.metadata.jpeg
    if target.name != "JPEG" or encoding.quality is not None or tables is None:
        return {"quality": QUALITY if encoding.quality is None else encoding.quality}
    return {"qtables": tables.quantization, "subsampling": max(0, tables.subsampling)}


def _timing(frames: Frames, target: Format) -> dict[str, Any]:
    """Delays and repetitions; transparent frames of a GIF are cleared away before the next."""
    delays = frames.delays[frames.poster :]
    if target.name != "GIF":
        return {"duration": [round(one) for one in delays], "loop": frames.loop}
    options = {"duration": [10 * round(one / 10) for one in delays], "disposal": 2 if frames.pictures[0].alpha else 1}
    if frames.loop != 1:
        options["loop"] = max(0, frames.loop - 1)  # how often it is shown again; 0 is for ever
    return options


class _Named(io.BytesIO):
    """A buffer whose name tells Pillow which one of its plug-ins to load."""

    def __init__(self, target: Format) -> None:
        super().__init__()
        self.name = f"picture{target.suffixes[0]}"
