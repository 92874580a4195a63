"""Writing files that are whole or not there at all."""

import errno
import os
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from convcli.places import is_remote, write_object

TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".convcli-", ".tmp"
OLD = 86_400  # seconds after which a temporary file is left over, whoever made it
# what says that a folder takes no more files: it is a temporary one that could not be made in it
UNWRITABLE = errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, getattr(errno, "EDQUOT", errno.ENOSPC)


Contents = bytes | Iterable[bytes] | Callable[[BinaryIO], None]  # whole, in pieces, or what writes them


def write_file(path: Path, data: Contents, *, overwrite: bool, durable: bool = False) -> None:
    """Write beside the target under a temporary name, then rename: the target is the old file or the new one, whole.

    Without ``overwrite`` a target that is there, or comes meanwhile, is left alone and FileExistsError raised. A
    replaced file's mode is kept, a link is followed, a device or pipe written to. ``durable`` waits until the disk has
    it. Raises OSError; nothing is left behind then. A URL is put whole.
    """
    if is_remote(path):
        write_object(path, _pieces(data), overwrite=overwrite)
        return
    target = Path(os.path.realpath(path)) if overwrite else path
    mode = None
    if overwrite and target.exists():
        if not target.is_file():
            with target.open("wb") as file:
                file.writelines(_pieces(data))
            return
        mode = target.stat().st_mode & 0o7777
    temporary = target.parent / f"{TEMPORARY_PREFIX}{_host()}-{os.getpid()}-{os.urandom(6).hex()}{TEMPORARY_SUFFIX}"
    try:
        with open(temporary, "w+b", opener=partial(_create, mode=0o666 if mode is None else mode & 0o600)) as file:
            if callable(data):
                data(file)
            else:
                file.writelines(_pieces(data))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(mode)
        if overwrite:
            temporary.replace(target)
        else:
            _rename_to_new(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        _sync_folder(target.parent)


def _create(name: str, _flags: int, mode: int) -> int:
    """A descriptor of a file that was not there."""
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)


def _pieces(data: Contents) -> Iterable[bytes]:
    """The pieces of a file."""
    if callable(data):
        from tempfile import NamedTemporaryFile

        with NamedTemporaryFile() as file:
            data(cast(BinaryIO, file))
            file.seek(0)
            return [file.read()]
    return [data] if isinstance(data, bytes) else data


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


def _sync_folder(folder: Path) -> None:
    """Let the disk have a new name, too, where a folder can be opened for that."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def clear_left_over(folder: Path) -> None:
    """Remove the temporary files of runs that were killed: of processes that this machine has no more, or old ones."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX) and _is_left_over(entry):
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108


def _is_left_over(entry: "os.DirEntry[str]") -> bool:
    if time.time() - entry.stat(follow_symlinks=False).st_mtime > OLD:
        return True
    host, _, rest = entry.name.removeprefix(TEMPORARY_PREFIX).partition("-")
    pid = rest.partition("-")[0]
    if os.name != "posix" or host != _host() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's, and alive
        return False
    with suppress(OSError, IndexError):  # dead, but its parent has not asked how it ended
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def _host() -> str:
    """A short name of this machine: on a shared disk others may be at work."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return f"{zlib.crc32(name.encode()):08x}"
