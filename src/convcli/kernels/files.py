"""Kernel and tensor files by their suffix, with no picture of what a kernel is: an array and perhaps a bias.

Files are data from anywhere: sizes and types are known from their headers before memory is taken.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convcli.errors import ConvcliError, one_line, suggest
from convcli.matrices import MAX_VALUES, as_matrix, is_number, parse_matrix, read_npy, read_text

if TYPE_CHECKING:
    import zipfile

    from numpy.typing import NDArray

    Readers = dict[str, Callable[[], NDArray[Any]]]  # what reads each array of an archive, by name

KEYED_SUFFIXES = (".npz", ".safetensors")  # what holds several arrays, one of which FILE:NAME means
TENSOR_SUFFIXES = (".npy", *KEYED_SUFFIXES, ".json", ".csv", ".txt")
REAL_DTYPES = ("BOOL", "U8", "I8", "U16", "I16", "F16", "U32", "I32", "F32", "U64", "I64", "F64")  # .safetensors' names
SHOWN_NAMES = 6


PICKLES = (".pkl", ".pickle", ".pt", ".pth")


class Loaded(NamedTuple):
    """What a file holds, and what it says of how that was made."""

    array: "NDArray[Any]"
    bias: "float | NDArray[Any]" = 0.0
    made: str = ""


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Let whatever goes wrong inside become one ConvcliError that begins with what was read."""
    try:
        yield
    except OSError as error:
        raise ConvcliError(f"{what}: {error.strerror or error}") from None
    except ConvcliError as error:
        raise ConvcliError(f"{what}: {error}") from None
    except Exception as error:  # damaged files raise whatever their reader stumbles over
        raise ConvcliError(f"{what}: damaged: {str(error) or type(error).__name__}") from None


def refuse_pickles(suffix: str) -> None:
    """Raise ConvcliError for a kind of file that can run code when it is read."""
    if suffix in PICKLES:
        raise ConvcliError("it is a pickle, which could run anything when read; save it as .safetensors or .npy")


def split_name(text: str) -> tuple[str, str] | None:
    """The two sides of ``FILE:NAME``, split at the last colon after a keyed suffix: drives and names hold colons too.

    >>> split_name("C:/x/w.npz:conv1/kernel:0")
    ('C:/x/w.npz', 'conv1/kernel:0')
    """
    suffixes = "|".join(map(re.escape, KEYED_SUFFIXES))
    found = re.fullmatch(rf"(?!\s*[\[{{])(.*(?:{suffixes})):(.*)", text, re.IGNORECASE)  # lists and JSON are no paths
    return (found[1], found[2]) if found else None


def from_keyed(path: Path, name: str | None) -> Loaded:
    """The array of that name alone; without one ``kernel``, ``weight`` or the only array, with its ``bias``."""
    with _arrays(path) as arrays:
        if name is not None:
            return Loaded(_pick(arrays, name))
        chosen = arrays[_main(arrays, path)]()
        bias = arrays["bias"]() if "bias" in arrays else 0.0
    return Loaded(chosen, bias if getattr(bias, "ndim", 0) else float(bias))


def read_any(path: Path, name: str | None) -> "NDArray[Any]":
    """The array that a file of TENSOR_SUFFIXES holds under that name, or as its main one: of any axes and values."""
    suffix = path.suffix.lower()
    refuse_pickles(suffix)
    if suffix not in TENSOR_SUFFIXES:
        raise ConvcliError(f"it must be a {', '.join(TENSOR_SUFFIXES[:-1])} or {TENSOR_SUFFIXES[-1]} file")
    if suffix in KEYED_SUFFIXES:
        with _arrays(path) as arrays:
            return _pick(arrays, _main(arrays, path, lone_bias=True) if name is None else name)
    with path.open("rb") as file:
        if suffix == ".npy":
            return read_npy(file)
        text = read_text(file)
    if suffix == ".json":
        return _list_in_json(text)
    rows = parse_matrix(text)
    return rows[0] if rows.ndim == 2 and len(rows) == 1 else rows


def from_json(text: str) -> Loaded:
    """``{"kernel": [[...]], "bias": x}`` or the bare list."""
    import json

    with _syntax("JSON"):
        return _from_data(json.loads(text))


def from_toml(text: str) -> Loaded:
    """The same keys in TOML."""
    import tomllib

    with _syntax("TOML"):
        return _from_data(tomllib.loads(text))


def from_vips(text: str) -> Loaded:
    """A libvips matrix: ``width height [scale [offset]]``, then the rows; sum * 1/scale + offset, in 8-bit codes."""
    import numpy as np

    first, _, rows = text.partition("\n")
    header = first.replace(",", " ").split()
    cells = parse_matrix(rows) if rows.strip() else None
    try:
        width, height = int(header[0]), int(header[1])
        scale, offset = (float(header[place]) if len(header) > place else value for place, value in ((2, 1), (3, 0)))
    except (ValueError, IndexError):
        raise ConvcliError("a .mat file begins with a line 'width height [scale [offset]]'") from None
    if cells is None or cells.shape != (height, width):
        found = "nothing" if cells is None else f"{cells.shape[1]}x{cells.shape[0]}"
        raise ConvcliError(f"its first line says {width}x{height} (width x height), but {found} follows")
    if not (math.isfinite(scale) and math.isfinite(offset) and scale):
        raise ConvcliError(f"scale must be a number other than 0, not {header[2]}")
    with np.errstate(all="ignore"):  # what overflows is refused as not finite
        return Loaded(cells / scale, offset / 255)


def from_image(path: Path) -> "NDArray[Any]":
    """The grey fractions of a picture."""
    from convcli.images.reading import read_picture

    fractions: NDArray[Any] = read_picture(path, max_pixels=4096 * 4096).gray().fractions()
    return fractions[..., 0]


@contextmanager
def _syntax(language: str) -> Iterator[None]:
    try:
        yield
    except ConvcliError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConvcliError(f"not {language}: {error}") from None


def _from_data(data: Any) -> Loaded:
    """The keys kernel, bias and made; others are left alone."""
    bias, made = 0.0, ""  # type: Any, str
    if isinstance(data, dict):
        key = next((one for one in ("kernel", "weight") if one in data), None)
        if key is None:
            raise ConvcliError('there is no "kernel" in it; write {"kernel": [[...]], "bias": 0}')
        made = str(data.get("made", ""))
        data, bias = data[key], data.get("bias", 0.0)
    rows = as_matrix(data)
    if isinstance(bias, list):
        return Loaded(rows, as_matrix([bias])[0], made)
    if not is_number(bias):
        raise ConvcliError(f"bias must be a finite number, not {str(bias)[:20]!r}")
    return Loaded(rows, float(bias), made)


def _list_in_json(text: str) -> "NDArray[Any]":
    """A list of 1 to 4 levels, bare or under ``kernel``, else ``weight``, else ``bias``: the order of archives."""
    import json

    with _syntax("JSON"):
        data = json.loads(text)
        if isinstance(data, dict):
            key = next((one for one in ("kernel", "weight", "bias") if one in data), None)
            if key is None:
                raise ConvcliError('there is no "kernel", "weight" or "bias" in it')
            data = data[key]
        if not isinstance(data, list) or not data:
            raise ConvcliError(f"it must hold a list of numbers, 1 to 4 levels deep, not {str(data)[:20]!r}")
        return as_matrix(data) if isinstance(data[0], list) else as_matrix([data])[0]


def _arrays(path: Path) -> "AbstractContextManager[Readers]":
    """An archive while it is open."""
    return _in_npz(path) if path.suffix.lower() == ".npz" else _in_safetensors(path)


def _pick(arrays: "Readers", name: str) -> "NDArray[Any]":
    if name not in arrays:
        known = suggest(name, list(arrays)) or f"; it holds {_listed(arrays)}"
        raise ConvcliError(f"no array in it is named {name!r}{known}")
    return arrays[name]()


def _main(names: Collection[str], path: Path, lone_bias: bool = False) -> str:
    """The name of the array that is meant when none is named."""
    others = [one for one in names if one != "bias"] or (list(names) if lone_bias else [])
    if len(others) == 1:
        return others[0]
    usual = next((one for one in ("kernel", "weight") if one in others), None)
    if usual is None:
        example = f"{path.name}:{others[0][:60]}" if others else ""
        how = f"; name one, as in {example!r}" if example else ""
        raise ConvcliError(f"it must hold one array, or one named 'kernel' or 'weight'; it holds {_listed(names)}{how}")
    return usual


def _listed(names: Collection[str]) -> str:
    """The first names, on one line."""
    shown = ", ".join(one_line(name[:60]) or "''" for name in list(names)[:SHOWN_NAMES])
    return (shown or "none") + (f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else "")


@contextmanager
def _in_npz(path: Path) -> "Iterator[Readers]":
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            yield {one.filename.removesuffix(".npy"): partial(_npz_array, archive, one) for one in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ConvcliError(f"not an .npz file: {error}") from None


def _npz_array(archive: "zipfile.ZipFile", member: "zipfile.ZipInfo") -> "NDArray[Any]":
    if member.file_size > 8 * MAX_VALUES + 2**16:  # a header can claim to be gigabytes long, too
        raise ConvcliError("the array in it is too large")
    with archive.open(member) as file:
        return read_npy(file)  # type: ignore[arg-type]


@contextmanager
def _in_safetensors(path: Path) -> "Iterator[Readers]":
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as archive:
            yield {name: partial(_safetensor, archive, name) for name in archive.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:  # quotes names as long as the header lets them be
        reason = one_line(str(error).removeprefix("Error while deserializing header: ")[:160])
        raise ConvcliError(f"not a .safetensors file, or a damaged one: {reason}") from None


def _safetensor(archive: Any, name: str) -> "NDArray[Any]":
    import numpy as np

    header = archive.get_slice(name)
    shape, dtype = tuple(header.get_shape()), header.get_dtype()
    if dtype not in REAL_DTYPES:
        raise ConvcliError(f"{name[:60]!r} is stored as {dtype}, which is not read; save it as float32")
    if math.prod(shape) > MAX_VALUES:
        raise ConvcliError(f"its header claims {math.prod(shape):,} values, more than {MAX_VALUES:,}")
    if 0 in shape:
        raise ConvcliError(f"{name[:60]!r} is empty: its shape is {shape}")
    return np.asarray(archive.get_tensor(name))
