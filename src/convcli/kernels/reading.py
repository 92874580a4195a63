"""The KERNEL grammar: a name, numbers, JSON or a file, brought to one :class:`Kernel`."""

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from convcli.errors import ConvcliError, suggest
from convcli.images.picture import PICTURE_SUFFIXES
from convcli.kernels.named import NAMED, find, looks_named
from convcli.matrices import MAX_VALUES, as_matrix, is_number, parse_matrix, read_npy, read_text
from convcli.words import Combine

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FILE_SUFFIXES = (".json", ".toml", ".csv", ".txt", ".npy", ".npz", ".mat")


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel ``(kh, kw)`` with its bias; with ``combine`` n kernels ``(n, kh, kw)`` whose responses become one;
    a layer's weight ``(c_out, c_in/groups, kh, kw)`` with a bias for each output."""

    name: str
    weights: "NDArray[Any]"
    bias: "float | NDArray[Any]" = 0.0
    combine: Combine | None = None
    path: Path | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.weights.shape[-2], self.weights.shape[-1]

    @property
    def is_layer(self) -> bool:
        """Whether channels are summed."""
        return self.combine is None and self.weights.ndim > 2

    def matrix(self) -> "NDArray[Any]":
        """The one matrix; ConvcliError for a filter that is none."""
        if self.combine is not None:
            how = "the magnitude of two responses" if self.combine is Combine.NORM else "the greatest of 8 responses"
            raise ConvcliError(f"{self.name!r} is a filter, not a kernel: {how}, which no single matrix gives")
        return self.weights

    def normalized(self) -> "Kernel":
        """Divided by its sum; ConvcliError when that is 0."""
        total = sum_of(self.matrix())
        if total == 0:
            raise ConvcliError(f"{self.name!r} sums to 0 and can't be normalized")
        return replace(self, weights=self.weights / total)


def sum_of(weights: "NDArray[Any]") -> float:
    """The sum of weights, without the dust of rounding: 0 where they cancel to 12 digits."""
    total = float(weights.sum())
    return 0.0 if abs(total) <= 1e-12 * float(abs(weights).sum()) else total


def read_kernel(text: str, stdin: BinaryIO | None = None) -> Kernel:
    """Any KERNEL text: a name with arguments, rows, ``WxH: list``, JSON, a file, or ``-`` for ``stdin``.

    Raises ConvcliError: one sentence that says what is wrong and what would be right.
    """
    word = text.strip()
    if word == "-":
        if stdin is None:
            raise ConvcliError("'-' reads a kernel from standard input, which only the command line has")
        return replace(_parse(read_text(stdin).strip(), "-"), name="-")
    found = find(word)
    if found:
        named, arguments = found
        return Kernel(word, named.weights(arguments), combine=named.combine)
    if re.fullmatch(r"\d+\s*x\s*\d+", word):
        raise ConvcliError(f"{word!r} is a size, not a kernel; give numbers ('0 1 0; 1 -4 1; 0 1 0') or a name (box:3)")
    path = Path(text)
    if not word.startswith("[") and _is_file(path):
        return replace(_read_file(path), path=path)
    if Path(word).suffix.lower() in FILE_SUFFIXES + PICTURE_SUFFIXES or ("/" in word and not _numeric(word)):
        raise ConvcliError(f"no such kernel file: {text!r}")
    if looks_named(word):
        raise ConvcliError(f"no kernel is named {word!r}{suggest(word.partition(':')[0], list(NAMED))}")
    return _parse(word, "kernel")


def kernel(source: "str | ArrayLike") -> "NDArray[Any]":
    """The matrix ``(kh, kw)``, or weight, that any KERNEL text or file means, as float64.

    Raises ConvcliError for what can't be read, and for filters such as ``sobel`` that are no single matrix.

    >>> kernel("ridge")
    array([[ 0., -1.,  0.],
           [-1.,  4., -1.],
           [ 0., -1.,  0.]])
    """
    return as_kernel(source).matrix()


def as_kernel(source: "str | ArrayLike | Kernel") -> Kernel:
    """KERNEL text, the path of a file, or an array as a :class:`Kernel`. Raises ConvcliError."""
    if isinstance(source, Kernel):
        return source
    if isinstance(source, str | os.PathLike):
        return read_kernel(os.fspath(source))
    import numpy as np

    try:
        return Kernel("kernel", np.asarray(source))
    except ValueError as error:
        raise ConvcliError(f"a kernel must be a regular array: {error}") from None


def _parse(text: str, name: str) -> Kernel:
    """Numbers as text: rows, JSON, or ImageMagick's ``WxH: a,b,c``, width first."""
    sized = re.match(r"(\d+)\s*x\s*(\d+)\s*:", text)
    if sized:
        width, height = int(sized[1]), int(sized[2])
        cells = parse_matrix(re.sub(r"\s+", " ", text[sized.end() :]))
        if cells.size != width * height:
            raise ConvcliError(f"{width}x{height} (width x height) needs {width * height} numbers, not {cells.size}")
        return Kernel(name, cells.reshape(height, width))
    if text.startswith("{"):
        return _check(_from_json(text, name))
    return _check(Kernel(name, parse_matrix(text)))


def _read_file(path: Path) -> Kernel:
    """A kernel file, by its suffix; its errors name the file."""
    suffix = path.suffix.lower()
    try:
        if suffix in PICTURE_SUFFIXES:
            return _from_image(path)
        with path.open("rb") as file:
            if suffix == ".npy":
                return _check(Kernel(path.name, read_npy(file)))
            if suffix == ".npz":
                return _check(_from_npz(file, path.name))
            text = read_text(file).strip()
        readers = {".json": _from_json, ".toml": _from_toml, ".mat": _from_vips}
        return _check(readers.get(suffix, _parse)(text, path.name))
    except OSError as error:
        raise ConvcliError(f"kernel file {str(path)!r}: {error.strerror or error}") from None
    except ConvcliError as error:
        raise ConvcliError(f"kernel file {str(path)!r}: {error}") from None
    except Exception as error:  # damaged files raise whatever their reader stumbles over
        raise ConvcliError(f"kernel file {str(path)!r}: damaged: {str(error) or type(error).__name__}") from None


def _from_json(text: str, name: str) -> Kernel:
    import json

    try:
        return _from_data(json.loads(text), name)
    except ConvcliError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConvcliError(f"not JSON: {error}") from None


def _from_toml(text: str, name: str) -> Kernel:
    import tomllib

    try:
        return _from_data(tomllib.loads(text), name)
    except ConvcliError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConvcliError(f"not TOML: {error}") from None


def _from_data(data: Any, name: str) -> Kernel:
    """``{"kernel": [[...]], "bias": x}`` or the bare list; other keys say how it was made and are left alone."""
    bias: Any = 0.0
    if isinstance(data, dict):
        if "kernel" not in data:
            raise ConvcliError('there is no "kernel" in it; write {"kernel": [[...]], "bias": 0}')
        data, bias = data["kernel"], data.get("bias", 0.0)
    rows = as_matrix(data)
    if isinstance(bias, list):
        return Kernel(name, rows, as_matrix([bias])[0])
    if not is_number(bias):
        raise ConvcliError(f"bias must be a finite number, not {str(bias)[:20]!r}")
    return Kernel(name, rows, float(bias))


def _from_npz(file: BinaryIO, name: str) -> Kernel:
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive:
            members = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}
            kernels = [key for key in members if key != "bias"]
            chosen = next((key for key in ("kernel", "weight") if key in members), kernels[0] if kernels else "")
            if not chosen or (len(kernels) > 1 and chosen not in ("kernel", "weight")):
                raise ConvcliError(
                    f"it must hold one array, or one named 'kernel'; it holds {', '.join(members) or 'none'}"
                )
            if sum(one.file_size for one in members.values()) > 8 * MAX_VALUES:
                raise ConvcliError("the arrays in it are too large for a kernel")
            arrays = {}
            for key in {chosen, "bias"} & members.keys():
                with archive.open(members[key]) as member:
                    arrays[key] = read_npy(member)  # type: ignore[arg-type]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ConvcliError(f"not an .npz file: {error}") from None
    bias = arrays.get("bias", 0.0)
    return Kernel(name, arrays[chosen], bias if getattr(bias, "ndim", 0) else float(bias))


def _from_vips(text: str, name: str) -> Kernel:
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
        return Kernel(name, cells / scale, offset / 255)


def _from_image(path: Path) -> Kernel:
    """The grey fractions of a picture."""
    from convcli.images.reading import read_picture

    picture = read_picture(path, max_pixels=4096 * 4096).gray()
    return Kernel(path.name, picture.fractions()[..., 0])


def _check(kernel: Kernel) -> Kernel:
    """Finite, not empty, of 2 to 4 axes, with one bias or one for each output."""
    import numpy as np

    weights = kernel.weights
    outputs = len(weights) if weights.ndim == 4 else 1
    if np.ndim(kernel.bias) > 1 or np.size(kernel.bias) not in (1, outputs) or not np.isfinite(kernel.bias).all():
        raise ConvcliError(f"its bias must be one finite number, or one for each of {outputs} outputs")
    if weights.ndim not in (2, 3, 4) or weights.size == 0:
        raise ConvcliError(f"a kernel has 2 axes and a weight 3 or 4, none empty; this one's shape is {weights.shape}")
    if not np.isfinite(weights).all():
        raise ConvcliError("a kernel must be finite, but this one holds NaN or infinity")
    return replace(kernel, weights=weights[None]) if weights.ndim == 3 and kernel.combine is None else kernel


def _is_file(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False


def _numeric(text: str) -> bool:
    return re.fullmatch(r"[-+0-9.eE/,;\s\[\]]+", text) is not None
