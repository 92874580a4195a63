"""Where files are: on this machine, or in an object store under a URL.

A URL is held by what has a path's interface, so that names are made of it as of any path. Reading, writing and looking
around differ, and are here. Credentials come from where the store's own library looks for them.
"""

import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from convcli.errors import ConvcliError, one_line

JOINTS = str.maketrans("", "", "+-.")  # that a scheme may have inside
STORES_OF_S3 = "s3", "s3a"
CONTENT_TYPE = dict.fromkeys(STORES_OF_S3, "ContentType") | {"gs": "content_type"}  # what the stores' libraries call it
READ_ONLY = "http", "https"
LOCAL = "file", "local"
WHOLE = 5 << 30  # bytes that S3 takes in one request
HEADER = 1 << 18  # bytes that are read at a time where the beginning may do
NEEDED = "needs convcli[cluster]; pip install 'convcli[cluster]'"

State = tuple[object, ...]

_listed: dict[str, set[str]] = {}  # the names in remote folders
_known: dict[str, bool] = {}  # and whether single objects are there, both as far as this run knows


def is_url(name: str) -> bool:
    """Whether a name begins with a scheme; one letter is a disk of Windows."""
    scheme, mark, _ = name.partition("://")
    return bool(mark) and len(scheme) > 1 and scheme.translate(JOINTS).isalnum()


def place(name: str | Path) -> Path:
    """The path of a name, or of a URL. Raises ConvcliError for a URL that nothing here can read."""
    if isinstance(name, Path) or not is_url(name):
        return Path(name)
    protocol, _, rest = name.partition("://")
    if protocol.lower() in LOCAL:
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        return Path(url2pathname(urlsplit(name).path))
    try:
        from fsspec import get_filesystem_class
        from upath import UPath
    except ImportError:
        raise ConvcliError(f"{name}: a URL {NEEDED}") from None
    if not rest.strip("/."):
        raise ConvcliError(f"{name}: names no file or folder")
    try:
        get_filesystem_class(protocol.lower())
        rest = "/".join(part for part in rest.split("/") if part != ".")  # stores take a dot for a name
        return cast(Path, UPath(f"{protocol.lower()}://{rest}"))
    except ImportError as error:
        needed = f"s3fs {NEEDED}" if protocol in STORES_OF_S3 else one_line(str(error))
        raise ConvcliError(f"{name}: {needed}") from None
    except ValueError as error:
        raise ConvcliError(f"{name}: {one_line(str(error))}") from None


def inside(folder: str, parent: str) -> Path:
    """A folder below a folder."""
    return place(folder) if parent == "." else place(folder) / parent


def is_remote(path: Path) -> bool:
    """Whether a path is a URL's."""
    return hasattr(path, "storage_options")


def is_private(name: str) -> bool:
    """Whether no other process sees what lies at a URL."""
    return name.lower().startswith("memory:")


def check_writable(path: Path) -> None:
    """Raise ConvcliError for a URL where no file can be put."""
    protocol = getattr(path, "protocol", None)
    if protocol in READ_ONLY:
        raise ConvcliError(f"{path}: {protocol} can be read, not written")


def local_path(text: str) -> Path:
    """The path of a file that has to be on this machine. Raises ConvcliError for a URL."""
    if is_url(text):
        raise ConvcliError(f"must be a file of this machine, not {text!r}")
    return Path(text)


def below(folder: Path, path: Path) -> Path:
    """A path as it is seen from a folder."""
    return path if is_remote(path) else folder / path


def identity(path: Path) -> str:
    """The one name of a file, links followed."""
    return str(path).rstrip("/") if is_remote(path) else os.path.realpath(path)


def folded(path: Path) -> str:
    """The one name of a file on disks that do not tell capitals from small letters; object stores do."""
    return identity(path) if is_remote(path) else identity(path).casefold()


def is_there(path: Path) -> bool:
    """Whether something has this name, be it a link that leads nowhere. Of a URL that may not be asked for: no."""
    if not is_remote(path):
        return os.path.lexists(path)
    names, whole = _listed.get(identity(path.parent)), identity(path)
    if whole not in _known:
        with suppress(OSError), plain_errors():
            return path.name in names if names is not None else path.exists()
    return _known.get(whole, False)


def state_of(path: Path, *, exact: bool = False) -> State:
    """What tells whether a file was written: its size, time and number; nothing where there is none. Of an object only
    whether it is there, unless asked for ``exact``."""
    if is_remote(path) and not exact:
        return (True,) if is_there(path) else ()
    try:
        return stamp_of(path) if is_remote(path) else (*stamp_of(path), path.lstat().st_ino)
    except OSError:
        return ()


def stamp_of(path: Path) -> tuple[int, int]:
    """The size and time of a file; of an object what changes with it in place of a time. Raises OSError."""
    if not is_remote(path):
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    store, where = _store(path)
    with plain_errors():
        store.invalidate_cache()
        known = store.info(where)
        changing = [str(known[key]) for key in ("ETag", "etag", "mtime", "created") if key in known]
        return int(known["size"] or 0), zlib.crc32(" ".join(changing).encode())


def list_once(folder: Path) -> None:
    """Learn the names in a remote folder at one go, rather than ask for each."""
    if is_remote(folder) and identity(folder) not in _listed:
        _listed[identity(folder)] = set()  # of one that may not be listed: putting will tell
        with suppress(OSError), plain_errors():
            store, where = _store(folder)
            try:
                names = [name.strip("/") for name in store.ls(where, detail=False)]
            except FileNotFoundError:
                names = []
            start = f"{where.strip('/')}/"  # an object of this name is listed as itself
            _listed[identity(folder)] = {name.removeprefix(start) for name in names if name.startswith(start)}


def remember(path: Path, there: bool) -> None:
    """Take over what another process knows of an object."""
    _known[identity(path)] = there


def forget() -> None:
    """Know nothing of remote folders, as at the beginning of a run."""
    _listed.clear()
    _known.clear()


def kind_of(path: Path) -> str | None:
    """``file``, ``directory`` or None, if there is nothing. Raises OSError."""
    store, where = _store(path)
    with plain_errors():
        try:
            return str(store.info(where)["type"])
        except FileNotFoundError:
            return None


def walk(folder: Path, *, recursive: bool) -> Iterator[tuple[Path, list[str]]]:
    """Folders below one, itself first, with the names of their files. Raises OSError."""
    store, where = _store(folder)
    with plain_errors():
        for root, _, names in store.walk(where, maxdepth=None if recursive else 1):
            inside = root.strip("/")[len(where.strip("/")) :].strip("/")
            yield folder / inside if inside else folder, [name for name in names if name]
        store.invalidate_cache()  # a thousand bytes a name


def read_object(path: Path) -> bytes:
    """All of an object in one go. Raises OSError."""
    store, where = _store(path)
    with plain_errors():
        return bytes(store.cat_file(where))


def size_of(path: Path) -> int:
    """Bytes of a file or object. Raises OSError."""
    if not is_remote(path):
        return path.stat().st_size
    store, where = _store(path)
    with plain_errors():
        return int(store.info(where)["size"] or 0)


def open_slowly(path: Path) -> BinaryIO:
    """An object of which only as much is fetched as is read, or little more. Raises OSError."""
    store, where = _store(path)
    with plain_errors():
        return cast(BinaryIO, store.open(where, "rb", block_size=HEADER))


def write_object(path: Path, data: bytes | Iterable[bytes], *, overwrite: bool) -> None:
    """Put an object whole; FileExistsError if that is there and not to be overwritten. Raises OSError."""
    from mimetypes import guess_type

    whole = data if isinstance(data, bytes) else b"".join(data)
    store, where = _store(path)
    protocol, kind = str(getattr(path, "protocol", "")), guess_type(path.name)[0]
    more: dict[str, Any] = {CONTENT_TYPE[protocol]: kind} if protocol in CONTENT_TYPE and kind else {}
    if protocol in STORES_OF_S3:
        more["chunksize"] = WHOLE
    try:
        with plain_errors():
            store.pipe_file(where, whole, mode="overwrite" if overwrite else "create", **more)
    finally:
        remember(path, True)  # or somebody else's


def _store(path: Path) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    remote: Any = path
    with plain_errors():
        return remote.fs, remote.path


@contextmanager
def plain_errors() -> Iterator[None]:
    """Whatever a store's library raises becomes an OSError with its words."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(one_line(str(error))) from error
