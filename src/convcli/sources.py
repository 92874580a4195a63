"""Inputs as users name them: files, folders, standard input, inline matrices."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convcli.errors import ConvcliError, PictureError, system_words
from convcli.matrices import MATRIX_SUFFIXES, parse_matrix, read_array
from convcli.places import identity, is_remote, is_url, kind_of, place, plain_errors, read_object, size_of, walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convcli.images.picture import Frames

STREAM = "-"
LARGE = 1 << 26  # bytes of an object that is not fetched before its header was seen
ADD_R = "; add -r to look in its folders"


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


class Group(NamedTuple):
    """Pictures of one folder below an input root, by their names, the suffixes of these, and whether any is a link."""

    folder: str
    root: Path
    names: list[str]
    suffixes: set[str]
    links: bool

    def source(self, name: str) -> Source:
        """One of them."""
        path = place(self.folder) / name
        return Source(str(path), path, self.root, suffix=suffix_of(name))


def suffix_of(name: str) -> str:
    """A picture's suffix: quicker than a Path where there are a hundred thousand."""
    return name[name.rfind(".") :]


class Inputs:
    """Every input in order, made when it is asked for: a hundred thousand names are little, as many objects are not."""

    def __init__(self, items: list[Source | Group]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Source]:
        for item in self.items:
            if isinstance(item, Group):
                yield from map(item.source, item.names)
            else:
                yield item

    def __len__(self) -> int:
        return sum(len(item.names) if isinstance(item, Group) else 1 for item in self.items)

    @property
    def arrays(self) -> bool:
        """Whether any of them is plain numbers."""
        return any(isinstance(item, Source) and item.is_array for item in self.items)

    @property
    def urls(self) -> Iterator[str]:
        """URLs among them, of a folder one for all."""
        names = (item.folder if isinstance(item, Group) else item.name for item in self.items)
        return filter(is_url, names)

    @property
    def pictures(self) -> bool:
        """Whether any of them is a picture."""
        return any(isinstance(item, Group) or not (item.is_array or item.problem) for item in self.items)


def find_sources(names: Sequence[str], *, recursive: bool = False, output: Path | None = None) -> Inputs:
    """Files as named, folders as their pictures, sorted; a problem for what is not there.

    Hidden files, symbolic links to folders and the output folder are left alone inside a folder.
    """
    items: list[Source | Group] = []
    for name in names:
        if is_url(name):
            items += _at_url(name, recursive, output)
            continue
        path = Path(name)
        if name == STREAM:
            items.append(Source(name))
        elif not name:
            items.append(Source(name, problem="no such file: its name is empty"))
        elif name.startswith("[") and name.rstrip().endswith("]") and not exists(path):
            items.append(Source(name, text=name, suffix=".txt"))
        elif not exists(path):
            items.append(Source(name, path, problem="no such file"))
        elif path.is_dir():
            found = list(_pictures_in(name, path, recursive, output))
            if not found:
                hint = "" if recursive or not _has_folders(path) else ADD_R
                found = [Source(name, path, problem=f"a folder without pictures{hint}")]
            items += found
        else:
            items.append(_file(name, path))
    return Inputs(items)


def read_pictures(source: Source, max_pixels: int, *, frame: int | None = None, threads: int | None = None) -> "Frames":
    """The pictures of a file or of standard input. Raises PictureError."""
    from convcli.images.reading import read_all, read_frames

    if source.path is not None:
        whole = _fetched(source.path, max_pixels, frame) if is_remote(source.path) else source.path
        return read_frames(whole, max_pixels, frame=frame, threads=threads)
    data = read_all(sys.stdin.buffer)
    if not data:
        raise PictureError("nothing came in on standard input")
    return read_frames(data, max_pixels, frame=frame, threads=threads)


def _fetched(path: Path, max_pixels: int, frame: int | None) -> bytes:
    """All that lies at a URL, after a look at the header of what is large. Raises PictureError."""
    from convcli.images.reading import read_header

    try:
        if size_of(path) > LARGE:
            read_header(path, max_pixels, frame=frame)
        return read_object(path)
    except OSError as error:
        raise PictureError(_at_store(error)) from None


def read_numbers(source: Source, max_pixels: int) -> "NDArray[Any]":
    """The array of a matrix file or an inline matrix. Raises ConvcliError."""
    if source.text is not None:
        array = parse_matrix(source.text)
    elif source.path is not None:
        with plain_errors() if is_remote(source.path) else nullcontext():
            array = read_array(source.path, 4 * max_pixels)
    else:
        raise PictureError("is not a file")
    if not 2 <= array.ndim <= 4 or array.size == 0:
        raise PictureError(f"an array must be (H, W), (C, H, W) or (N, C, H, W) and not empty, not {array.shape}")
    if array.shape[-1] * array.shape[-2] > max_pixels:
        raise PictureError(f"it has {array.shape[-2]}x{array.shape[-1]} values, more than --max-pixels {max_pixels:,}")
    return array


def _at_url(name: str, recursive: bool, output: Path | None) -> Iterator[Source | Group]:
    """An object, or the pictures below a prefix; a problem for what is not there."""
    try:
        path = place(name)
        if not is_remote(path):
            yield from find_sources([str(path)], recursive=recursive, output=output).items
            return
        kind = kind_of(path)
        if kind == "file":
            yield _file(name, path)
        elif kind == "directory":
            found: list[Source | Group] = list(_pictures_at(path, recursive, output))
            if not found:
                hint = "" if recursive or not any(folder != path for folder, _ in walk(path, recursive=True)) else ADD_R
                found = [Source(name, path, problem=f"a folder without pictures{hint}")]
            yield from found
        else:
            yield Source(name, path, problem="no such file")
    except ConvcliError as error:
        yield Source(name, problem=str(error).removeprefix(f"{name}: "))
    except OSError as error:
        yield Source(name, problem=_at_store(error))


def _pictures_at(root: Path, recursive: bool, output: Path | None) -> Iterator[Group]:
    """The pictures of a remote folder, then, if asked, of those below it."""
    from convcli.images.formats import PICTURE_SUFFIXES

    for folder, names in walk(root, recursive=recursive):
        hidden = any(part.startswith(".") for part in folder.relative_to(root).parts)
        found = sorted(name for name in names if suffix_of(name).lower() in PICTURE_SUFFIXES and name[0] != ".")
        own = output is not None and folder != root and (folder == output or output in folder.parents)
        if found and not hidden and not own:
            yield Group(str(folder), root, found, {suffix_of(name) for name in found}, links=False)


def _at_store(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else system_words(error)


def _file(name: str, path: Path) -> Source:
    """A file by its suffix, or, where that says nothing, by its first bytes; a problem for what is no picture."""
    from convcli.images.formats import PICTURE_SUFFIXES, READABLE
    from convcli.images.reading import sniff_suffix

    if not is_remote(path) and not path.is_file():  # a pipe, which can't be looked into
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


def _pictures_in(folder: str, root: Path, recursive: bool, output: Path | None) -> Iterator[Source | Group]:
    """Picture files of a folder, sorted, then, if asked, those of its sub-folders."""
    from convcli.images.formats import PICTURE_SUFFIXES

    names, found, folders, links = [], set(), [], False
    suffixes = frozenset(PICTURE_SUFFIXES)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                suffix = suffix_of(name)
                if suffix.lower() in suffixes and _is_file(entry):
                    names.append(name)
                    found.add(suffix)
                    links = links or entry.is_symlink()
                elif recursive and entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    except OSError as error:
        yield Source(folder, Path(folder), problem=system_words(error))
        return
    if names:
        yield Group(folder, root, sorted(names), found, links)
    for path in sorted(folders):
        if not (output and identity(output) == identity(Path(path))):
            yield from _pictures_in(path, root, recursive, output)


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _has_folders(folder: Path) -> bool:
    return any(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())


def exists(path: Path) -> bool:
    """Whether a path is there; one that is too long, or holds a NUL, is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
