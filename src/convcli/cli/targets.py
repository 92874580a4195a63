"""Files that a command writes besides the results of its inputs: looked at before any work, then written whole."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from convcli.errors import ConvcliError, system_words
from convcli.files import write_file

if TYPE_CHECKING:
    from convcli.images.formats import Format


def picture_format(option: str, path: Path) -> "Format":
    """The format of a picture that is to be written. Raises ConvcliError for a suffix that is none's."""
    from convcli.images.formats import PICTURE_SUFFIXES, format_of

    try:
        found = format_of(path)
    except ConvcliError as error:
        raise ConvcliError(f"{option}: {error}") from None
    if found.is_array:
        raise ConvcliError(f"{option}: {path}: a picture is written, so it must end in {' '.join(PICTURE_SUFFIXES)}")
    return found


def check_target(option: str, path: Path, kept: Iterable[Path], force: bool) -> None:
    """Raise ConvcliError for a place where nothing may be written, such as a file that is ``kept``."""
    if path.exists() and any(path.samefile(one) for one in kept if one.exists()):
        raise ConvcliError(f"{option}: {path} is the input itself, or one of its files; give it another name")
    if path.is_dir() or not path.parent.is_dir():
        why = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ConvcliError(f"{option}: can't write {path}: {why}")
    if path.exists() and not force:
        raise ConvcliError(f"{option}: {path} exists; add -f to overwrite it")


def write_target(option: str, path: Path, data: bytes | list[bytes], force: bool) -> None:
    """Write whole or not at all. Raises ConvcliError."""
    try:
        write_file(path, data, overwrite=force)
    except OSError as error:
        raise ConvcliError(f"{option}: can't write {path}: {system_words(error)}") from None
