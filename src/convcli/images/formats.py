"""The file formats, each with its names, its first bytes, and what it can hold."""

from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from convcli.errors import ConvcliError, PictureError
from convcli.words import Depth

EIGHT, SIXTEEN, FLOAT = Depth.EIGHT, Depth.SIXTEEN, Depth.FLOAT


class Format(NamedTuple):
    """What there is to know of a format. ``starts`` are places in a file with the bytes that stand there."""

    name: str
    suffixes: tuple[str, ...]
    starts: tuple[tuple[int, bytes], ...] = ()
    depths: tuple[Depth, ...] = (EIGHT,)
    alpha: bool = True
    frames: bool = False  # an animation's
    pages: bool = False
    quality: bool = False
    plugin: str | None = None  # a module that Pillow needs for it
    copies: int = 0  # of float32 results on their way into a file, at most

    @property
    def is_array(self) -> bool:
        """Plain numbers rather than a picture."""
        return not self.starts

    def load_plugin(self) -> None:
        """Tell Pillow about the format, if it needs that. Raises PictureError where the extra is not installed."""
        if self.plugin is None:
            return
        try:
            module = import_module(self.plugin)
        except ImportError:
            raise PictureError(f"{self.name} needs the extra convcli[{self.name.lower()}]") from None
        if register := getattr(module, "register_heif_opener", None):  # others do it when they are imported
            register()

    @property
    def suffix(self) -> str:
        """What names of its files end in, if the user says only the format."""
        return f".{self.name.lower()}" if f".{self.name.lower()}" in self.suffixes else self.suffixes[0]

    def starts_a_file(self, data: bytes) -> bool:
        """Whether the first bytes of a file are those of this format."""
        return any(data[place:].startswith(magic) for place, magic in self.starts)


def _brands(*names: bytes) -> tuple[tuple[int, bytes], ...]:
    return tuple((4, b"ftyp" + name) for name in names)


_ALL = (
    Format("PNG", (".png", ".apng"), ((0, b"\x89PNG"),), depths=(EIGHT, SIXTEEN), frames=True),
    Format("JPEG", (".jpg", ".jpeg"), ((0, b"\xff\xd8\xff"),), alpha=False, quality=True),
    Format(
        "TIFF",
        (".tif", ".tiff"),
        ((0, b"II*\0"), (0, b"II+\0"), (0, b"MM\0*"), (0, b"MM\0+")),
        depths=(EIGHT, SIXTEEN, FLOAT),
        pages=True,
        copies=3,
    ),
    Format("WEBP", (".webp",), ((8, b"WEBP"),), frames=True, quality=True),
    Format("AVIF", (".avif",), _brands(b"avif", b"avis"), frames=True, quality=True),
    Format(
        "HEIF",
        (".heic", ".heif"),
        _brands(b"heic", b"heix", b"mif1", b"msf1", b"heim", b"hevc"),
        quality=True,
        plugin="pillow_heif",
    ),
    Format(
        "JXL",
        (".jxl",),
        ((0, b"\xff\x0a"), (0, b"\0\0\0\x0cJXL ")),
        quality=True,
        plugin="pillow_jxl",
    ),
    Format("GIF", (".gif",), ((0, b"GIF8"),), frames=True),
    Format("BMP", (".bmp",), ((0, b"BM"),), alpha=False),
    Format(
        "PPM",
        (".ppm", ".pgm", ".pnm"),
        tuple((0, magic) for magic in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf")),
        alpha=False,
    ),
    Format("NPY", (".npy",), depths=(FLOAT,), pages=True, copies=2),
    Format("NPZ", (".npz",), depths=(FLOAT,), pages=True, copies=2),
    Format("CSV", (".csv",), depths=(FLOAT,)),
    Format("TEXT", (".txt",), depths=(FLOAT,)),
)
FORMATS = {one.name: one for one in _ALL}
OF_SUFFIX = {suffix: one for one in _ALL for suffix in one.suffixes}
PICTURE_SUFFIXES = tuple(suffix for suffix, one in OF_SUFFIX.items() if not one.is_array)
READABLE = "PNG, JPEG, TIFF, WebP, AVIF, HEIF, JPEG XL, GIF, BMP or PNM"
START = 16  # bytes that tell every format

_OTHERS = {"jpg": "JPEG", "tif": "TIFF", "heic": "HEIF", "txt": "TEXT", "apng": "PNG"}
NAMES = {name.lower(): one for name, one in FORMATS.items()} | {name: FORMATS[one] for name, one in _OTHERS.items()}


def format_named(name: str) -> Format:
    """The format that ``--format`` names. Raises ConvcliError for an unknown one."""
    if name.lower() not in NAMES:
        raise ConvcliError(f"format must be one of {', '.join(sorted(NAMES))}, not {name!r}")
    return NAMES[name.lower()]


def format_of(path: Path) -> Format:
    """The format that the suffix of a path names. Raises ConvcliError for an unknown one."""
    if path.suffix.lower() not in OF_SUFFIX:
        raise ConvcliError(f"{path}: the suffix must be one of {' '.join(OF_SUFFIX)}, not {path.suffix!r}")
    return OF_SUFFIX[path.suffix.lower()]


def sniff(start: bytes) -> Format | None:
    """The picture format that a file's first bytes say, if any does."""
    return next((one for one in _ALL if one.starts_a_file(start)), None)
