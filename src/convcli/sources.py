"""Inputs as users name them: files, folders, standard input, inline matrices."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convcli.errors import PictureError, system_words
from convcli.matrices import MATRIX_SUFFIXES, parse_matrix, read_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convcli.images.picture import Frames

STREAM = "-"


class Source(NamedTuple):
    """One input: a file below a root, standard input, or an inline matrix; or a ``problem``, why it is none.

    Results are named by ``suffix``.
    """

    name: str
    path: Path | None = None
    root: Path | None = None
    text: str | None = None
    suffix: str = ".png"
    problem: str | None = None

    @property
    def is_array(self) -> bool:
        """Plain numbers rather than a picture."""
        return self.text is not None or (self.path is not None and self.path.suffix.lower() in MATRIX_SUFFIXES)

    @property
    def stem(self) -> str:
        """The name of its results, without a suffix."""
        return self.path.stem if self.path else "stdin" if self.name == STREAM else "matrix"

    @property
    def parent(self) -> str:
        """The folder of a file below its input root."""
        if self.path is None or self.root is None:
            return "."
        return str(self.path.parent.relative_to(self.root))


def find_sources(names: Sequence[str], *, recursive: bool = False, output: Path | None = None) -> Iterator[Source]:
    """Every input in order: files as named, folders as their pictures, sorted; a problem for one that is not there.

    Hidden files, symbolic links to folders and the output folder are left alone inside a folder.
    """
    for name in names:
        path = Path(name)
        if name == STREAM:
            yield Source(name)
        elif not name:
            yield Source(name, problem="no such file: its name is empty")
        elif name.startswith("[") and name.rstrip().endswith("]") and not exists(path):
            yield Source(name, text=name, suffix=".txt")
        elif not exists(path):
            yield Source(name, path, problem="no such file")
        elif path.is_dir():
            found = list(_pictures_in(path, path, recursive, output))
            yield from found
            if not found:
                hint = "" if recursive or not _has_folders(path) else "; add -r to look in its folders"
                yield Source(name, path, problem=f"a folder without pictures{hint}")
        else:
            yield _file(name, path)


def read_pictures(source: Source, max_pixels: int, *, frame: int | None = None, threads: int | None = None) -> "Frames":
    """The pictures of a file or of standard input. Raises PictureError."""
    from convcli.images.reading import read_all, read_frames

    if source.path is not None:
        return read_frames(source.path, max_pixels, frame=frame, threads=threads)
    data = read_all(sys.stdin.buffer)
    if not data:
        raise PictureError("nothing came in on standard input")
    return read_frames(data, max_pixels, frame=frame, threads=threads)


def read_numbers(source: Source, max_pixels: int) -> "NDArray[Any]":
    """The array of a matrix file or an inline matrix. Raises ConvcliError."""
    if source.text is not None:
        array = parse_matrix(source.text)
    elif source.path is not None:
        array = read_array(source.path, 4 * max_pixels)
    else:
        raise PictureError("is not a file")
    if not 2 <= array.ndim <= 4 or array.size == 0:
        raise PictureError(f"an array must be (H, W), (C, H, W) or (N, C, H, W) and not empty, not {array.shape}")
    if array.shape[-1] * array.shape[-2] > max_pixels:
        raise PictureError(f"it has {array.shape[-2]}x{array.shape[-1]} values, more than --max-pixels {max_pixels:,}")
    return array


def _file(name: str, path: Path) -> Source:
    """A file by its suffix, or, where that says nothing, by its first bytes; a problem for what is no picture."""
    from convcli.images.formats import PICTURE_SUFFIXES, READABLE
    from convcli.images.reading import sniff_suffix

    if not path.is_file():  # a pipe, which can't be looked into
        return Source(name, path)
    if path.suffix.lower() in PICTURE_SUFFIXES + MATRIX_SUFFIXES:
        return Source(name, path, suffix=path.suffix)
    try:
        suffix = sniff_suffix(path)
    except OSError as error:
        return Source(name, path, problem=system_words(error))
    if suffix is None:
        return Source(name, path, problem=f"not a picture that can be read ({READABLE})")
    return Source(name, path, suffix=suffix)


def _pictures_in(folder: Path, root: Path, recursive: bool, output: Path | None) -> Iterator[Source]:
    """Picture files of a folder, sorted, then, if asked, those of its sub-folders."""
    from convcli.images.formats import PICTURE_SUFFIXES

    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Source(str(folder), folder, problem=system_words(error))
        return
    visible = [Path(entry.path) for entry in entries if not entry.name.startswith(".")]
    for path in visible:
        if path.suffix.lower() in PICTURE_SUFFIXES and exists(path) and path.is_file():
            yield Source(str(path), path, root, suffix=path.suffix)
    for path in visible if recursive else ():
        if path.is_dir() and not path.is_symlink() and not (output and output.exists() and output.samefile(path)):
            yield from _pictures_in(path, root, recursive, output)


def _has_folders(folder: Path) -> bool:
    return any(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())


def exists(path: Path) -> bool:
    """Whether a path is there; one that is too long, or holds a NUL, is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
