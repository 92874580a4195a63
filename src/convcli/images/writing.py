"""Encoding a :class:`Picture`, and writing files that are whole or not there at all."""

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convcli.errors import ConvcliError, PictureError
from convcli.images.picture import EXIF_PREFIX, PICTURE_FORMATS, Metadata, Picture
from convcli.images.png import encode_png

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX_FORMATS = PICTURE_FORMATS | {".npy": "NPY", ".npz": "NPZ", ".csv": "CSV", ".txt": "TEXT"}
FORMAT_NAMES = {name.lower(): name for name in SUFFIX_FORMATS.values()} | {"jpg": "JPEG", "tif": "TIFF"}
ARRAY_FORMATS = ("NPY", "NPZ", "CSV", "TEXT")
FLOAT_FORMATS = (*ARRAY_FORMATS, "TIFF")
NO_ALPHA_FORMATS = ("JPEG", "BMP", "PPM")

OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 90},
    "WEBP": {"quality": 90},
    "TIFF": {"compression": "tiff_deflate"},
}
MAX_JPEG_EXIF = 65_533 - len(EXIF_PREFIX)  # a segment holds no more
TEMPORARY_PREFIX = ".convcli-"


def format_of(path: Path, name: str | None = None) -> str:
    """The file format that ``--format`` names, or else the suffix of a path. Raises ConvcliError for an unknown one."""
    if name is not None:
        if name.lower() not in FORMAT_NAMES:
            raise ConvcliError(f"format must be one of {', '.join(sorted(FORMAT_NAMES))}, not {name!r}")
        return FORMAT_NAMES[name.lower()]
    if path.suffix.lower() not in SUFFIX_FORMATS:
        raise ConvcliError(f"{path}: the suffix must be one of {' '.join(SUFFIX_FORMATS)}, not {path.suffix!r}")
    return SUFFIX_FORMATS[path.suffix.lower()]


def fit_for(picture: Picture, file_format: str) -> Picture:
    """The picture as a format can hold it: alpha laid over white, 16 bits brought to 8, each with a notice."""
    import numpy as np

    pixels, notices = picture.pixels, list(picture.notices)
    if picture.color.shape[2] not in (1, 3):
        raise PictureError(f"a picture has 1, 3 or 4 channels, but this result has {pixels.shape[2]}; write it to .npy")
    alpha, white = picture.alpha, picture.white
    if alpha and file_format in NO_ALPHA_FORMATS:
        cover = pixels[..., -1:] / white
        if not picture.opaque():
            notices.append(f"{file_format} has no transparency: laid over white")
        pixels, alpha = np.rint(picture.color * cover + white * (1 - cover)).astype(pixels.dtype), False
    wide = file_format == "PNG" or (file_format == "TIFF" and pixels.shape[2] == 1)
    if pixels.dtype.itemsize == 2 and not wide:
        notices.append(f"16 bits brought to 8 for {file_format}")
        pixels, white = np.rint(pixels / 257.0).astype(np.uint8), 255.0
    metadata = picture.metadata
    if metadata.exif and file_format == "JPEG" and len(metadata.exif) > MAX_JPEG_EXIF:
        notices.append(f"{len(metadata.exif):,} bytes of EXIF data do not fit into a JPEG and are left out")
        metadata = metadata._replace(exif=None)
    return Picture(pixels, white, alpha, metadata, tuple(notices))


def encode(picture: Picture, file_format: str, threads: int | None = None) -> bytes:
    """The bytes of a file. The picture must be one that the format can hold; see :func:`fit_for`."""
    picture = replace(picture, metadata=_fitting(picture))
    if file_format == "PNG":
        return encode_png(picture, threads)
    import numpy as np
    from PIL import Image

    pixels = picture.pixels[..., 0] if picture.pixels.shape[2] == 1 else picture.pixels
    if pixels.dtype.kind == "f" and pixels.ndim > 2:
        raise PictureError("float colour can't be written as TIFF; write .npy, or take --gray")
    if file_format == "GIF" and pixels.shape[2:] == (2,):
        pixels = pixels[..., [0, 0, 0, 1]]  # Pillow's GIF writer knows the alpha of RGBA only
    image = Image.fromarray(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("=")))
    options = dict(OPTIONS.get(file_format, {}))
    options |= _carried(picture.metadata, file_format)
    buffer = _Named(file_format)
    try:
        image.save(buffer, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PictureError(f"can't be written as {file_format}: {error}") from None
    return buffer.getvalue()


def encode_pages(maps: "NDArray[Any]") -> bytes:
    """Maps ``(C, H, W)`` as the pages of a TIFF, 32-bit floats."""
    import numpy as np
    from PIL import Image

    first, *others = (Image.fromarray(np.ascontiguousarray(one, np.float32)) for one in maps)
    buffer = _Named("TIFF")
    first.save(buffer, save_all=True, append_images=others, **OPTIONS["TIFF"])
    return buffer.getvalue()


class _Named(io.BytesIO):
    """A buffer whose name tells Pillow which one of its plug-ins to load."""

    def __init__(self, file_format: str) -> None:
        super().__init__()
        self.name = f"picture.{file_format.lower()}"


def _fitting(picture: Picture) -> Metadata:
    """The metadata, its colour profile only if that is of the picture's colour space."""
    space = b"RGB " if picture.color.shape[2] == 3 else b"GRAY"
    icc = picture.metadata.icc
    return picture.metadata._replace(icc=icc if icc and icc[16:20] == space else None)


def _carried(metadata: Metadata, file_format: str) -> dict[str, Any]:
    """Save options for the metadata a format holds."""
    options: dict[str, Any] = {}
    if metadata.icc and file_format in ("JPEG", "WEBP", "TIFF"):
        options["icc_profile"] = metadata.icc
    if metadata.exif and file_format in ("JPEG", "WEBP"):
        options["exif"] = EXIF_PREFIX + metadata.exif.removeprefix(EXIF_PREFIX)
    if metadata.dpi and file_format in ("JPEG", "TIFF", "BMP"):
        options["dpi"] = metadata.dpi
    return options


def write_file(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write beside the target under a temporary name, then rename: the target is the old file or the new one, whole.

    Without ``overwrite`` a target that is there, or comes meanwhile, is left alone and FileExistsError raised. A
    replaced file's mode is kept, a link is followed, a device or pipe written to. Raises OSError; nothing is left
    behind then.
    """
    target = Path(os.path.realpath(path)) if overwrite else path
    mode = None
    if overwrite and target.exists():
        if not target.is_file():
            target.write_bytes(data)
            return
        mode = target.stat().st_mode & 0o7777
    temporary = target.parent / f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}.tmp"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(temporary, flags, 0o666 if mode is None else mode & 0o600), "wb") as file:
            file.write(data)
        if mode is not None:
            temporary.chmod(mode)
        if overwrite:
            temporary.replace(target)
        else:
            _rename_to_new(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _rename_to_new(temporary: Path, target: Path) -> None:
    """Give a file its name unless that is taken, without a moment in which both could win."""
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        target.touch(exist_ok=False)
        try:
            temporary.replace(target)
        except BaseException:
            target.unlink()
            raise
