"""Opening: any supported file as upright :class:`Picture` data, sizes read from the header before memory is taken."""

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from convcli.engine.threads import Shared
from convcli.errors import PictureError, system_words
from convcli.images.decoding import (
    ALPHA_MODES,
    EIGHT_BIT_MODES,
    FOREIGN_MODES,
    GRAY_MODES,
    PLANES_APART,
    VEILED_GRAY_16,
    bit_depth,
    decode,
    turned_upright,
    wide_pnm,
)
from convcli.images.formats import READABLE, START, Format, sniff
from convcli.images.metadata import ORIENTATION, read_metadata
from convcli.images.picture import Frames, Picture
from convcli.words import MAX_PIXELS

MAX_STREAM_BYTES = 2**31
SIDEWAYS = 5  # orientations from here on turn height into width
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
        raise PictureError(_reason(error)) from None


def read_header(path: Path, max_pixels: int = MAX_PIXELS, *, frame: int | None = None) -> Header:
    """What the header of a file claims. Raises as :func:`read_frames` does."""
    try:
        with _opened(path) as reader:
            wanted = _wanted(reader, frame, max_pixels)
            return Header(*reader.shape(wanted[0]), len(wanted))
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(_reason(error)) from None


class _Images:
    """The frames of a file that Pillow reads."""

    def __init__(self, file: BinaryIO, image: Any, opener: Callable[[], Any], threads: int | None) -> None:
        self._file, self._image, self._opener, self._threads = file, image, opener, threads
        self.count = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
        self.animated = self.count > 1 and image.format != "TIFF"
        self.loop = image.info.get("loop")
        self.poster = bool(image.info.get("default_image"))

    def shape(self, number: int) -> tuple[tuple[int, int, int], bool]:
        """Colour channels, height and width as the picture is to be seen, and whether there is alpha."""
        image = self._at(number)
        height, width = image.height, image.width
        with suppress(Exception):  # damaged EXIF data is met when the picture is read
            known = image.format != "PNG" or "exif" in image.info  # behind the pixels, it would take them to be decoded
            if known and _orientation(image) >= SIDEWAYS:
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
        if image.format == "TIFF" and depth == 16 and image.mode in EIGHT_BIT_MODES:
            if image.tag_v2.get(PLANES_APART) == 2:
                return _Pages(self._file).read(number)
        elif image.format == "PPM" and (wide := wide_pnm(self._file, image)) is not None:
            return Picture(wide, 65535.0)
        foreign = image.mode in FOREIGN_MODES
        found = decode(image, depth, None if self.animated else partial(self._once_more, number), self._threads)
        notices = list(found.notices)
        try:
            orientation = _orientation(image)
            metadata = read_metadata(self._file, image, same_colors=not foreign)
        except MemoryError:
            raise
        except Exception:  # EXIF data can hold anything, and what it holds is used unchecked
            image.info.pop("exif", None)
            notices.append("damaged EXIF data is ignored")
            orientation, metadata = 1, read_metadata(self._file, image, same_colors=not foreign, exif=False)
        if image.format == "MPO":
            notices.append("only the first of its pictures is read")
        pixels = turned_upright(found.pixels, orientation)
        return Picture(pixels, found.white, pixels.shape[2] in (2, 4), metadata, tuple(notices))

    def _at(self, number: int) -> Any:
        if self.count > 1 and self._image.tell() != number:
            self._image.seek(number)
        return self._image

    @contextmanager
    def _once_more(self, number: int) -> Iterator[Any]:
        with self._opener() as image:
            if number:
                image.seek(number)
            yield image


class _Pages:
    """The pages of a TIFF that Pillow does not read."""

    animated, loop, poster = False, None, False

    def __init__(self, file: BinaryIO) -> None:
        from convcli.images.tiff import Pages

        self._pages = Pages(file)
        self.count = len(self._pages)
        if not self.count:
            raise PictureError("damaged picture: its header can't be read")

    def shape(self, number: int) -> tuple[tuple[int, int, int], bool]:
        """As of :class:`_Images`."""
        return self._pages.shape(number)

    def delay(self, _number: int) -> float:
        """Pages are not shown for a time."""
        return 0.0

    def read(self, number: int) -> Picture:
        """One page."""
        return self._pages.read(number)


def _wanted(reader: _Images | _Pages, frame: int | None, max_pixels: int) -> range:
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


def _orientation(image: Any) -> int:
    found = image.getexif().get(ORIENTATION, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


@contextmanager
def _opened(source: Path | bytes, threads: int | None = None) -> Iterator["_Images | _Pages"]:
    """The reader of a file, its header read."""
    if isinstance(source, Path) and not source.is_file():
        with source.open("rb") as pipe:  # which can't be wound back
            source = read_all(pipe)
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        start = file.read(START)
        found = sniff(start)
        if found is None:
            hint = "; it holds a NumPy array, so let its name end in .npy" if start.startswith(NUMPY_START) else ""
            raise PictureError(f"not a picture that can be read ({READABLE}){hint}")
        found.load_plugin()
        opener = partial(_open_image, source, found)
        with own_limits, quiet_decoder if found.name == "TIFF" else nullcontext():
            image = opener()
            if image is None:
                yield _Pages(file)
            else:
                with image:
                    yield _Images(file, image, opener, threads)


def _open_image(source: Path | bytes, found: Format) -> Any:
    """The Pillow image of a file, only its header read; None of a TIFF that Pillow does not know."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=[found.name])
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
