"""Opening: any supported file as upright :class:`Picture` data, sizes read from the header before memory is taken."""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from convcli.engine.threads import check_threads
from convcli.errors import PictureError, system_words
from convcli.images.apng import PngAnimation, check_sums, is_animated
from convcli.images.bands import decode_in_bands, in_bands
from convcli.images.decoding import (
    ALPHA_MODES,
    FOREIGN_MODES,
    GRAY_MODES,
    VEILED_GRAY_16,
    Decoded,
    bit_depth,
    decode,
    turned_upright,
    wide_pnm,
)
from convcli.images.formats import FORMATS, READABLE, START, Format, sniff
from convcli.images.gif import GifAnimation
from convcli.images.metadata import MAX_CHUNKS, ORIENTATION, SIDEWAYS, known_orientation, read_metadata
from convcli.images.picture import Frames, Picture
from convcli.images.quiet import own_limits, quiet_decoder
from convcli.images.tiff import Pages, check_chain
from convcli.places import is_remote, open_slowly
from convcli.words import MAX_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_STREAM_BYTES = 2**31
NUMPY_START = b"\x93NUMPY"


class Header(NamedTuple):
    """What a file claims before it is decoded: colour channels, height and width, whether there is alpha, frames."""

    shape: tuple[int, int, int]
    alpha: bool
    frames: int


def read_picture(source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """The first, or only, picture of a file, or of a file's bytes. Raises as :func:`read_frames` does."""
    frames = read_frames(source, max_pixels, frame=0)
    picture = frames.pictures[0]
    if frames.count > 1:
        picture = replace(picture, notices=(*picture.notices, f"only the first of {frames.count} frames is read"))
    return picture


def read_frames(
    source: Path | bytes, max_pixels: int = MAX_PIXELS, *, frame: int | None = None, threads: int | None = None
) -> Frames:
    """Decode all frames of a file, or of a file's bytes, or the one asked for, each as it is to be seen.

    EXIF orientation is baked in; palettes become RGB(A), 1-bit becomes grey, other colour spaces RGB; 16 bits and
    floats stay. Raises PictureError for what is missing, not a picture, damaged, larger than ``max_pixels`` in all its
    frames, or without the frame.
    """
    try:
        with _opened(source, threads) as reader:
            pictures, delays = [], []
            for number in _wanted(reader, frame, max_pixels):
                pictures.append(reader.read(number))
                delays.append(reader.delay(number))
            if not reader.animated or len(pictures) == 1:
                return Frames(pictures, reader.count)
            return Frames(_alike(pictures), reader.count, tuple(delays), reader.loop, reader.poster)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # damaged files raise whatever their decoder stumbles over
        raise PictureError(reason(error)) from None


def read_header(source: Path | bytes, max_pixels: int = MAX_PIXELS, *, frame: int | None = None) -> Header:
    """What the header of a file or its bytes claims. Raises as :func:`read_frames` does."""
    try:
        with _opened(source, checked=False) as reader:
            wanted = _wanted(reader, frame, max_pixels)
            return Header(*reader.shape(wanted[0]), len(wanted))
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(reason(error)) from None


def load_decoder(source: Path) -> None:
    """Import what a file is read with, by opening it; what is wrong with it will be said when it is read."""
    with suppress(Exception), own_limits, source.open("rb") as file:
        found = sniff(file.read(START))
        if found is not None:
            found.load_plugin()
            with _open_image(source, found):
                pass


class _Images:
    """The frames of a file that Pillow reads."""

    def __init__(self, file: BinaryIO, image: Any, opener: Callable[[], Any], threads: int | None) -> None:
        self._file, self._image, self._opener, self._threads = file, image, opener, threads
        self.count = getattr(image, "n_frames", 1)
        self.animated = self.count > 1 and image.format not in ("TIFF", "MPO")
        self.loop = _repetitions(image)
        self.poster = bool(image.info.get("default_image"))

    def shape(self, number: int) -> tuple[tuple[int, int, int], bool]:
        """Colour channels, height and width as the picture is to be seen, and whether there is alpha."""
        image = self._at(number)
        height, width = image.height, image.width
        known = image.format != "PNG" or "exif" in image.info  # behind the pixels, it would take them to be decoded
        if known and image.format != "TIFF" and _orientation(image) >= SIDEWAYS:
            height, width = width, height
        alpha = image.mode in ALPHA_MODES or "transparency" in image.info
        gray = image.mode in GRAY_MODES or (bool(image.tile) and image.tile[0].args == VEILED_GRAY_16)
        return (1 if gray else 3, height, width), alpha

    def delay(self, number: int) -> float:
        """How many milliseconds a frame is shown that was just read."""
        return float(self._at(number).info.get("duration") or 0)

    def read(self, number: int) -> Picture:
        """One frame."""
        image = self._at(number)
        depth = bit_depth(self._file, image)
        if image.format == "PPM" and (wide := wide_pnm(self._file, image)) is not None:
            return Picture(wide, 65535.0)
        foreign = image.mode in FOREIGN_MODES
        found = self._decode(number, image, depth)
        notices = list(found.notices)
        orientation = 1 if image.format == "TIFF" else _orientation(image)  # Pillow has turned that
        metadata, sound = read_metadata(self._file, image, orientation, same_colors=not foreign)
        if not sound:
            image.info.pop("exif", None)
            notices.append("damaged EXIF data is ignored")
        pixels = turned_upright(found.pixels, orientation)
        return Picture(pixels, found.white, pixels.shape[2] in (2, 4), metadata, tuple(notices))

    def _decode(self, number: int, image: Any, depth: int) -> Decoded:
        threads = check_threads(self._threads)
        if image.format == "PNG" and in_bands(image, depth, threads):
            pixels = decode_in_bands(self._file, image, threads)
            if pixels is not None:
                return Decoded(pixels, 255.0)
        elif image.format == "PNG":
            check_sums(self._file)
        return decode(image, depth, partial(self._once_more, number), self._threads)

    def _at(self, number: int) -> Any:
        image = self._image
        if self.count > 1 and image.tell() != number:
            image.seek(number)
        return image

    @contextmanager
    def _once_more(self, number: int) -> Iterator[Any]:
        with self._opener() as image:
            if number:
                image.seek(number)
            yield image


class _Animated(_Images):
    """The frames of an animated PNG or GIF, composed by us."""

    def __init__(self, file: BinaryIO, image: Any, opener: Callable[[], Any], threads: int | None) -> None:
        super().__init__(file, image, opener, threads)
        self._animation = GifAnimation(file) if image.format == "GIF" else PngAnimation(file)
        self.count = len(self._animation.frames)
        self.animated = self.count > 1
        self.loop, self.poster = self._animation.loop, self._animation.poster

    def shape(self, number: int) -> tuple[tuple[int, int, int], bool]:
        """As of :class:`_Images`."""
        (_, height, width), _ = super().shape(number)
        return (self._animation.colors, height, width), self._animation.veiled

    def delay(self, number: int) -> float:
        """How many milliseconds a frame is shown."""
        return self._animation.frames[number].delay

    def _decode(self, number: int, image: Any, depth: int) -> Decoded:
        def decode_alone(data: bytes) -> tuple["NDArray[Any]", float]:
            opener = partial(_open_image, data, FORMATS[image.format])
            with opener() as alone:
                found = decode(alone, depth, opener, self._threads)
            return found.pixels, found.white

        pixels, white = self._animation.composed(number, decode_alone)
        if image.format == "GIF" and pixels.shape[2] == 4 and (pixels[..., -1] == white).all():
            pixels = pixels[..., :-1]  # holes showed only what was there before
        return Decoded(pixels, white)

    def _at(self, _number: int) -> Any:
        return self._image


class _Tiff(_Images):
    """The pages of a TIFF: those that are plain are read by tifffile, the others, if any, by Pillow."""

    def __init__(self, file: BinaryIO, image: Any, opener: Callable[[], Any], threads: int | None) -> None:
        self._pages = Pages(file)
        if image is not None:
            super().__init__(file, image, opener, threads)
        self._image, self.count, self.loop, self.poster = image, len(self._pages), 1, False
        self.animated = False
        if not self.count:
            raise PictureError("damaged picture: its header can't be read")

    def shape(self, number: int) -> tuple[tuple[int, int, int], bool]:
        """As of :class:`_Images`."""
        return self._pages.shape(number) if self._known(number) else super().shape(number)

    def delay(self, _number: int) -> float:
        """Pages are not shown for a time."""
        return 0.0

    def read(self, number: int) -> Picture:
        """One page."""
        return self._pages.read(number) if self._known(number) else super().read(number)

    def _known(self, number: int) -> bool:
        return self._image is None or self._pages.knows(number)


def _wanted(reader: _Images, frame: int | None, max_pixels: int) -> range:
    """The numbers of the frames to read, none of them too large, nor all together."""
    if frame is not None and not frame < reader.count:
        has = f"it has {reader.count} frames, 0 to {reader.count - 1}" if reader.count > 1 else "it has one, 0"
        raise PictureError(f"there is no frame {frame}; {has}")
    wanted = range(reader.count) if frame is None else range(frame, frame + 1)
    pixels = 0
    for number in wanted[:1] if reader.animated else wanted:
        (_, height, width), _ = reader.shape(number)
        pixels += height * width
        if pixels > max_pixels:
            raise PictureError(
                f"its header says {height}x{width}, {pixels:,} pixels,"
                f" more than {max_pixels:,}; raise --max-pixels if that is right"
            )
    if reader.animated and pixels * len(wanted) > max_pixels:
        raise PictureError(
            f"its header says {len(wanted)} frames of {height}x{width}, {pixels * len(wanted):,} pixels,"
            f" more than {max_pixels:,}; raise --max-pixels if that is right, or take one with --frame"
        )
    return wanted


def _alike(pictures: list[Picture]) -> list[Picture]:
    """The frames of an animation with the same channels: colour if any has it, and alpha if any has that."""
    if len({one.pixels.shape[2] for one in pictures}) == 1:
        return pictures
    import numpy as np

    colors, veiled = max(one.color.shape[2] for one in pictures), any(one.alpha for one in pictures)

    def widened(one: Picture) -> Picture:
        color = np.broadcast_to(one.color, (*one.size, colors))
        if not veiled:
            return replace(one, pixels=np.ascontiguousarray(color))
        alpha = one.pixels[..., -1:] if one.alpha else np.full((*one.size, 1), one.white, one.pixels.dtype)
        return replace(one, pixels=np.concatenate([color, alpha], axis=2), alpha=True)

    return [widened(one) for one in pictures]


def _repetitions(image: Any) -> int:
    """How often an animation is shown, 0 for ever, which Pillow does not say of AVIF."""
    loop = image.info.get("loop")
    return 0 if image.format == "AVIF" else loop if isinstance(loop, int) else 1


def _orientation(image: Any) -> int:
    """1 to 8, as EXIF data say; 1 of what is none of them, or can't be read."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:
        return 1
    return known_orientation(found)


@contextmanager
def _opened(source: Path | bytes, threads: int | None = None, *, checked: bool = True) -> Iterator["_Images"]:
    """The reader of a file, its header read, and, if it is to be ``checked``, the sums of a PNG that is animated: of
    another they are looked at when it is decoded."""
    if not isinstance(source, bytes) and not is_remote(source) and not source.is_file():
        with source.open("rb") as pipe:  # which can't be wound back
            source = read_all(pipe)
    with _stream(source) as file:
        start = file.read(START)
        found = sniff(start)
        if found is None:
            array = start.startswith(NUMPY_START)
            unnamed = isinstance(source, bytes) or source.suffix.lower() != ".npy"
            hint = "; it holds a NumPy array" + "; let its name end in .npy" * unnamed if array else ""
            raise PictureError(f"not a picture that can be read ({READABLE}){hint}")
        found.load_plugin()
        opener = partial(_open_image, source, found)
        if found.name == "TIFF":
            check_chain(file)
        elif found.name == "WEBP" and file.seek(0, io.SEEK_END) < int.from_bytes(start[4:8], "little") + 8:
            raise PictureError("truncated picture: it is shorter than it says")
        with own_limits, quiet_decoder if found.name == "TIFF" else nullcontext():
            image = opener()
            animated = is_animated(file) if found.name == "PNG" else found.name == "GIF" and image.is_animated
            kind = _Tiff if found.name == "TIFF" else _Animated if animated else _Images
            with image or nullcontext():
                if checked and kind is _Animated and found.name == "PNG":
                    check_sums(file)
                yield kind(file, image, opener, threads)


def _stream(source: Path | bytes) -> BinaryIO:
    """What is read from; of a remote file only as much is fetched as that takes."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return open_slowly(source) if is_remote(source) else source.open("rb")


def _open_image(source: Path | bytes, found: Format) -> Any:
    """The Pillow image of a file, only its header read; None of a TIFF that Pillow does not know."""
    from PIL import Image, UnidentifiedImageError

    if found.name == "PNG":
        from PIL import PngImagePlugin

        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MAX_CHUNKS
    try:
        return Image.open(source if isinstance(source, Path) else _stream(source), formats=[found.name])
    except UnidentifiedImageError:
        if found.name != "TIFF":
            raise
        return None


def read_all(stream: BinaryIO) -> bytes:
    """What a stream holds, up to a bound. Raises PictureError for more."""
    data = stream.read(MAX_STREAM_BYTES + 1)
    if len(data) > MAX_STREAM_BYTES:
        raise PictureError(f"more than {MAX_STREAM_BYTES // 2**30} GiB came in, which is no picture")
    return data


def sniff_suffix(path: Path) -> str | None:
    """The suffix that a file's first bytes ask for, if they are a picture's. Raises OSError."""
    with path.open("rb") as file:
        found = sniff(file.read(START))
    return found.suffixes[0] if found else None


def reason(error: BaseException) -> str:
    """The system's words, or those of the decoder, made one clause."""
    if isinstance(error, IsADirectoryError | FileNotFoundError):
        return "is a folder" if isinstance(error, IsADirectoryError) else "no such file"
    if isinstance(error, OSError) and error.strerror:
        return system_words(error)
    text = str(error) or type(error).__name__
    if isinstance(error, AttributeError | TypeError | KeyError | IndexError | struct.error):  # a decoder lost its way
        text = "its data make no sense"
    if "cannot identify" in text:
        text = "its header can't be read"
    return f"{'truncated' if 'truncated' in text else 'damaged'} picture: {text}"
