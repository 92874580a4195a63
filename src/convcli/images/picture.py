"""A picture as data: codes, what white is, whether the last channel is alpha, and what the file said about itself."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from convcli.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LUMA = 0.299, 0.587, 0.114  # ITU-R BT.601, as Pillow's "L" and OpenCV's grey


class JpegTables(NamedTuple):
    """What a JPEG was coded with: its quantization tables, and by how much its colours are coarser."""

    quantization: dict[int, list[int]]
    subsampling: int


class Metadata(NamedTuple):
    """What a file says of its picture, carried to the file of the result.

    ``exif`` has no prefix, ``chunks`` are PNG chunks of colour space and text as they are, ``dpi`` is x and y.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    comment: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    jpeg: JpegTables | None = None


NOTHING_KEPT = Metadata()


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels ``(H, W, C)``: 1 or 3 colour channels, then alpha if there is any; ``white`` is the code of full light."""

    pixels: "NDArray[Any]"
    white: float
    alpha: bool = False
    metadata: Metadata = NOTHING_KEPT
    notices: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def color(self) -> "NDArray[Any]":
        """The colour channels alone, a view ``(H, W, 1 or 3)``."""
        return self.pixels[..., :-1] if self.alpha else self.pixels

    def opaque(self) -> bool:
        """Whether there is nothing to see through."""
        return not self.alpha or bool((self.pixels[..., -1] == self.white).all())

    def without_alpha(self) -> "Picture":
        """The colours as they are, alpha forgotten."""
        return replace(self, pixels=self.color, alpha=False)

    def gray(self) -> "Picture":
        """0.299 R + 0.587 G + 0.114 B in float32, unrounded; alpha stays."""
        import numpy as np

        color = self.color
        if color.shape[2] == 1:
            return self
        luma = color @ np.array(LUMA, np.float64 if color.dtype == np.float64 else np.float32)
        planes = [luma[..., None], self.pixels[..., -1:]] if self.alpha else [luma[..., None]]
        return replace(self, pixels=np.concatenate(planes, axis=2))

    def fractions(self) -> "NDArray[Any]":
        """The pixels as fractions of white, float64."""
        import numpy as np

        return self.pixels.astype(np.float64) / self.white

    def to_array(self) -> "NDArray[Any]":
        """``(H, W)`` of one channel, else ``(C, H, W)``: how an array file holds a picture."""
        import numpy as np

        return self.pixels[..., 0] if self.pixels.shape[2] == 1 else np.moveaxis(self.pixels, 2, 0)


def white_of(dtype: Any) -> float:
    """The code of full light: 1 of floats, the greatest number of others."""
    import numpy as np

    return 1.0 if np.dtype(dtype).kind == "f" else float(np.iinfo(dtype).max)


@dataclass
class Frames:
    """The pictures of a file in order: one, the frames of an animation, or a TIFF's pages, which have no delays.

    ``delays`` are milliseconds, ``loop`` how often an animation is shown, 0 for ever. ``poster`` says that
    the first picture is no part of the animation, but what is shown where there is none. ``count`` is the number in
    the file, ``pictures`` those that were read.
    """

    pictures: list[Picture]
    count: int = 1
    delays: tuple[float, ...] = ()
    loop: int = 1
    poster: bool = False


def picture_from_array(array: "NDArray[Any]", white: float, *, any_channels: bool = False) -> Picture:
    """``(H, W)``, ``(C, H, W)`` or ``(1, C, H, W)`` of 1, 3 or 4 channels as a picture; 4 means alpha at the end.

    With ``any_channels`` as something that is to be taken apart.
    """
    import numpy as np

    planes = array.reshape(1, *array.shape) if array.ndim == 2 else array[0] if array.shape[:-3] == (1,) else array
    if planes.ndim != 3 or not (any_channels or planes.shape[0] in (1, 3, 4)):
        raise ShapeError(
            f"a picture has 1, 3 or 4 channels, but this result is {'x'.join(map(str, array.shape))}; write it to .npy"
        )
    return Picture(np.moveaxis(planes, 0, 2), white, alpha=planes.shape[0] == 4)
