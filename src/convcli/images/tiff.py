"""The TIFFs that Pillow neither reads nor writes: floats and 16 bits in colour, through tifffile."""

import io
import logging
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

from convcli.errors import PictureError
from convcli.images.decoding import turned_upright
from convcli.images.metadata import ORIENTATION
from convcli.images.picture import Metadata, Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

ICC_PROFILE = 34675  # TIFF tag
GRAY_IS_INK, GRAY, RGB = 0, 1, 2  # photometric interpretations
PREMULTIPLIED, STRAIGHT = 1, 2  # kinds of extra samples that are alpha
INCH, CENTIMETRE = 2, 3  # units of resolution


class Pages:
    """The pages of a TIFF, each read when asked for. Raises PictureError for what is no picture."""

    def __init__(self, file: BinaryIO) -> None:
        import tifffile

        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is said once, by us
        file.seek(0)
        self._pages: Any = tifffile.TiffFile(file).pages

    def __len__(self) -> int:
        return len(self._pages)

    def shape(self, number: int) -> tuple[tuple[int, int, int], bool]:
        """Colour channels, height and width as the picture is to be seen, and whether there is alpha."""
        page = self._pages[number]
        height, width = page.imagelength, page.imagewidth
        if _tag(page, ORIENTATION, 1) >= 5:
            height, width = width, height
        return (_colors(page), height, width), _alpha(page) is not None

    def read(self, number: int) -> Picture:
        """One page."""
        import numpy as np

        page = self._pages[number]
        if page.photometric not in (GRAY_IS_INK, GRAY, RGB):
            raise PictureError(f"a TIFF of {page.photometric.name} with {page.bitspersample} bits is not read")
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise PictureError(f"its compression, {page.compression.name}, needs convcli[codecs]") from None
            raise
        pixels = _in_rows(page, pixels)
        if pixels.dtype.kind == "f":
            pixels, white = pixels.astype(np.float32, copy=False), 1.0
        elif pixels.dtype in (np.uint8, np.uint16):
            white = float(np.iinfo(pixels.dtype).max)
        else:
            raise PictureError(f"{pixels.dtype} pictures are not read, since what their white is isn't known; use .npy")
        colors, alpha = _colors(page), _alpha(page)
        if page.photometric == GRAY_IS_INK:
            pixels = np.concatenate([white - pixels[..., :1], pixels[..., 1:]], axis=2).astype(pixels.dtype)
        pixels = pixels[..., : colors + (alpha is not None)]
        if alpha == PREMULTIPLIED:
            pixels = _straight(pixels, white)
        pixels = turned_upright(pixels, _tag(page, ORIENTATION, 1))
        return Picture(pixels, white, alpha is not None, _metadata(page))


def _tag(page: Any, code: int, default: Any) -> Any:
    return page.tags[code].value if code in page.tags else default


def _colors(page: Any) -> int:
    return 3 if page.photometric == RGB else 1


def _alpha(page: Any) -> int | None:
    """What kind of alpha follows the colours, if that does."""
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
    icc = _tag(page, ICC_PROFILE, None)
    dpi = None
    if _tag(page, 296, INCH) in (INCH, CENTIMETRE) and 282 in page.tags:
        x, y = page.get_resolution(INCH)
        dpi = (float(x), float(y)) if 1 < x < 1e6 and 1 < y < 1e6 else None
    return Metadata(icc=bytes(icc) if icc else None, dpi=dpi)


def encode_tiff(pictures: Sequence[Picture]) -> bytes:
    """The bytes of a TIFF of uint8, uint16 or float32 pictures, a page each, deflated."""
    import numpy as np
    import tifffile

    from convcli.engine.threads import cores

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for picture in pictures:
            dpi, icc = picture.metadata.dpi, picture.metadata.icc
            pixels = picture.pixels if picture.pixels.dtype.kind == "u" else picture.pixels.astype(np.float32)
            writer.write(
                pixels if pixels.shape[2] > 1 else pixels[..., 0],
                photometric="rgb" if picture.color.shape[2] == 3 else "minisblack",
                planarconfig="contig" if picture.pixels.shape[2] > 1 else None,
                extrasamples=["unassalpha"] if picture.alpha else None,
                compression="zlib",
                compressionargs={"level": 1},
                predictor=picture.pixels.dtype.kind == "u",
                rowsperstrip=max(1, (1 << 18) // max(1, picture.pixels[0].nbytes)),
                maxworkers=cores(),
                resolution=dpi,
                resolutionunit="INCH" if dpi else None,
                iccprofile=icc,
                metadata=None,
                software=False,
            )
    return buffer.getvalue()
