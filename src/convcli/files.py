"""Writing files that are whole or not there at all."""

import os
from collections.abc import Iterable
from pathlib import Path

TEMPORARY_PREFIX = ".convcli-"


def write_file(path: Path, data: bytes | Iterable[bytes], *, overwrite: bool) -> None:
    """Write beside the target under a temporary name, then rename: the target is the old file or the new one, whole.

    ``data`` may come in pieces.
    Without ``overwrite`` a target that is there, or comes meanwhile, is left alone and FileExistsError raised. A
    replaced file's mode is kept, a link is followed, a device or pipe written to. Raises OSError; nothing is left
    behind then.
    """
    pieces = [data] if isinstance(data, bytes) else data
    target = Path(os.path.realpath(path)) if overwrite else path
    mode = None
    if overwrite and target.exists():
        if not target.is_file():
            with target.open("wb") as file:
                file.writelines(pieces)
            return
        mode = target.stat().st_mode & 0o7777
    temporary = target.parent / f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}.tmp"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(temporary, flags, 0o666 if mode is None else mode & 0o600), "wb") as file:
            file.writelines(pieces)
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
