"""Encoding: the bytes of files from :class:`Frames`, each format in its way."""

import io
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
WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Encoding:
    """How results become files: ``png`` as in :func:`parse_packing`, ``quality`` from 1 to 100 or None for the
    input's, what is laid behind transparency in fractions of white, and whether all but the pixels is left out.

    ``made`` is the program and the command that a PNG says it was made by.
    """

    png: str = FAST
    quality: int | None = None
    background: tuple[float, float, float] = WHITE
    strip: bool = False
    made: tuple[str, str] | None = None
    threads: int | None = None


USUAL = Encoding()


def parse_background(text: str) -> tuple[float, float, float]:
    """A colour by name or as ``#rrggbb``, in fractions of white. Raises ConvcliError."""
    from PIL import ImageColor

    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        raise ConvcliError(f"must be a colour such as white, black or #ff8000, not {text!r}") from None
    return red / 255, green / 255, blue / 255


def encode(frames: Frames | Picture, target: Format, encoding: Encoding = USUAL) -> tuple[list[bytes], list[str]]:
    """The pieces of a file, and what there is to say of how it holds the frames.

    Raises PictureError for what the format can't hold: other depths than its own, channels, sizes.
    """
    import numpy as np

    if isinstance(frames, Picture):
        frames = Frames([frames])
    notices: list[str] = []
    pictures = [_fitted(one, target, encoding, notices) for one in frames.pictures]
    frames = replace(frames, pictures=pictures)
    if len({one.pixels.shape for one in pictures}) > 1 and target.name != "TIFF":
        raise PictureError(f"its frames have different sizes, which {target.name} can't hold; write TIFF, or {{frame}}")
    if target.name == "PNG":
        return encode_png(frames, encoding.png, encoding.made, encoding.threads), notices
    if target.name == "TIFF" and pictures[0].pixels.dtype != np.uint8:
        from convcli.images.tiff import encode_tiff

        if pictures[0].metadata.exif:
            notices.append("EXIF data is left out of a TIFF of 16 bits or floats")
        return [encode_tiff(pictures)], notices
    return [_saved(frames, target, encoding)], notices


def _fitted(picture: Picture, target: Format, encoding: Encoding, notices: list[str]) -> Picture:
    """The picture as a format can hold it: alpha laid over the background, 16 bits brought to 8, metadata left out."""
    import numpy as np

    if picture.color.shape[2] not in (1, 3):
        raise PictureError(
            f"a picture has 1, 3 or 4 channels, but this result has {picture.pixels.shape[2]}; write it to .npy"
        )
    if encoding.strip:
        picture = replace(picture, metadata=NOTHING_KEPT._replace(jpeg=picture.metadata.jpeg))
    said: list[str] = []
    if picture.alpha and not target.alpha:
        picture, said = _flat(picture, target, encoding.background)
    if picture.white == WHITE_16 and Depth.SIXTEEN not in target.depths:
        picture = replace(picture, pixels=np.rint(picture.pixels / np.float32(257)).astype(np.uint8), white=255.0)
        said = [*said, f"16 bits brought to 8 for {target.name}"]
    metadata, more = fitting(picture.metadata, target, gray=picture.color.shape[2] == 1)
    notices += [one for one in (*said, *more) if one not in notices]
    return replace(picture, metadata=metadata)


def _flat(picture: Picture, target: Format, background: tuple[float, float, float]) -> tuple[Picture, list[str]]:
    """The picture laid over a colour, as grey only if that is grey."""
    import numpy as np

    if picture.opaque():
        return picture.without_alpha(), []
    colors = picture.color
    if colors.shape[2] == 1 and len(set(background)) > 1:
        colors = np.broadcast_to(colors, (*picture.size, 3))
    behind = np.array(background[: colors.shape[2]], np.float32) * picture.white
    cover = picture.pixels[..., -1:] / np.float32(picture.white)
    flat = np.rint(colors * cover + behind * (1 - cover)).astype(picture.pixels.dtype)
    name = "#" + "".join(f"{round(255 * one):02x}" for one in background)
    words = {"#ffffff": "white", "#000000": "black"}.get(name, name)
    return replace(picture, pixels=flat, alpha=False), [f"{target.name} has no transparency: laid over {words}"]


def _saved(frames: Frames, target: Format, encoding: Encoding) -> bytes:
    """What Pillow makes of 8-bit pictures."""
    first = frames.pictures[0]
    options = save_options(first.metadata, target) | _quality(first, target, encoding)
    image, *others = (
        _image(one.pixels, target, encoding.threads)
        for one in frames.pictures[frames.poster and target.name != "TIFF" :]
    )
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
    return buffer.getvalue()


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
    image = Image.new(mode, (width, height), None)
    tall = max(1, STRIP_PIXELS // width)
    for _ in map_all(
        lambda top: image.paste(share(top, tall), (0, top)), range(0, height, tall), check_threads(threads)
    ):
        pass
    return image


def _quality(picture: Picture, target: Format, encoding: Encoding) -> dict[str, Any]:
    """How much may be lost: what the user says, or what the input had lost, or the usual."""
    if target.name == "TIFF":
        return {"compression": "tiff_deflate"}
    if not target.quality:
        return {}
    tables = picture.metadata.jpeg
    if target.name != "JPEG" or encoding.quality is not None or tables is None:
        return {"quality": QUALITY if encoding.quality is None else encoding.quality}
    return {"qtables": tables.quantization, "subsampling": max(0, tables.subsampling)}


def _timing(frames: Frames, target: Format) -> dict[str, Any]:
    """Delays and repetitions; transparent frames of a GIF are cleared away before the next."""
    options: dict[str, Any] = {"duration": [round(one) for one in frames.delays[frames.poster :]]}
    if target.name == "WEBP":
        options["loop"] = 1 if frames.loop is None else frames.loop
    elif target.name == "GIF":
        if frames.loop is not None:
            options["loop"] = frames.loop
        options["disposal"] = 2 if frames.pictures[0].alpha else 1
    return options


class _Named(io.BytesIO):
    """A buffer whose name tells Pillow which one of its plug-ins to load."""

    def __init__(self, target: Format) -> None:
        super().__init__()
        self.name = f"picture{target.suffixes[0]}"
