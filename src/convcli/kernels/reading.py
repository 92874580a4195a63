"""The KERNEL grammar: a name, numbers, JSON or a file, brought to one :class:`Kernel`."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from convcli.errors import ConvcliError, suggest
from convcli.images.formats import PICTURE_SUFFIXES
from convcli.kernels.files import (
    KEYED_SUFFIXES,
    from_image,
    from_json,
    from_keyed,
    from_toml,
    from_vips,
    naming,
    read_any,
    refuse_pickles,
    split_name,
)
from convcli.kernels.named import NAMED, find, looks_named
from convcli.matrices import parse_matrix, read_npy, read_text
from convcli.places import local_path
from convcli.words import Combine

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FILE_SUFFIXES = (".json", ".toml", ".csv", ".txt", ".npy", *KEYED_SUFFIXES, ".mat")


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel ``(kh, kw)`` with its bias; with ``combine`` n kernels ``(n, kh, kw)`` whose responses become one;
    a layer's weight ``(c_out, c_in/groups, kh, kw)`` with a bias for each output. ``made`` is what its file says of how
    it came about."""

    name: str
    weights: "NDArray[Any]"
    bias: "float | NDArray[Any]" = 0.0
    made: str = ""
    combine: Combine | None = None
    path: Path | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.weights.shape[-2], self.weights.shape[-1]

    @property
    def gains(self) -> "NDArray[Any]":
        """The sum of the magnitudes of each kernel's weights: how much greater than a cell its sums can be."""
        sums: NDArray[Any] = abs(self.weights).sum(axis=(-2, -1))
        return sums

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

    One array of a file that holds several is ``FILE:NAME``: ``vgg.safetensors:features.0.weight``.

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
    file, key = _locate(text)
    path = Path(file)
    if not word.startswith("[") and _is_file(path):
        return replace(_read_file(path, key), path=path)
    known = key is not None or Path(word).suffix.lower() in FILE_SUFFIXES + PICTURE_SUFFIXES
    if known or ("/" in word and not _numeric(word)):
        local_path(file)
        raise ConvcliError(f"no such kernel file: {file!r}")
    if looks_named(word):
        raise ConvcliError(f"no kernel is named {word!r}{suggest(word.partition(':')[0], list(NAMED))}")
    return _parse(word, "kernel")


def read_tensor(text: str) -> "NDArray[Any]":
    """The float64 array that ``FILE`` or ``FILE:NAME`` holds, of 1 to 4 axes, not empty, finite: a bias, a weight.

    ``.npy``, ``.npz``, ``.safetensors``; ``.json`` with a list, or an object with one under ``kernel``, ``weight`` or
    ``bias``, the first of them; ``.csv`` and ``.txt``, where a single row has one axis. Raises ConvcliError.
    """
    import numpy as np

    file, key = _locate(text)
    if not _is_file(Path(file)):
        raise ConvcliError(f"no such file: {file!r}")
    with naming(f"file {text!r}"), np.errstate(all="ignore"):  # what overflows is refused as not finite
        array = np.asarray(read_any(Path(file), key), np.float64)
        if not 1 <= array.ndim <= 4 or array.size == 0:
            raise ConvcliError(f"an array has 1 to 4 axes here, none empty; this one's shape is {array.shape}")
        if not np.isfinite(array).all():
            raise ConvcliError("an array must be finite here, but this one holds NaN or infinity")
        return array


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
        return _check(Kernel(name, *from_json(text)))
    return _check(Kernel(name, parse_matrix(text)))


def _locate(text: str) -> tuple[str, str | None]:
    """The file a text means and, for ``FILE:NAME``, the name of the array in it; a file of the whole name wins."""
    return (text, None) if _is_file(Path(text)) else split_name(text) or (text, None)


def _read_file(path: Path, key: str | None) -> Kernel:
    """A kernel file, by its suffix; its errors name the file."""
    inside = "" if key is None else f":{key}"
    with naming(f"kernel file {str(path) + inside!r}"):
        return _check(replace(_load(path, key), name=path.name + inside))


def _load(path: Path, key: str | None) -> Kernel:
    suffix = path.suffix.lower()
    refuse_pickles(suffix)
    if suffix in PICTURE_SUFFIXES:
        return Kernel(path.name, from_image(path))
    if suffix in KEYED_SUFFIXES:
        return Kernel(path.name, *from_keyed(path, key))
    with path.open("rb") as file:
        if suffix == ".npy":
            return Kernel(path.name, read_npy(file))
        text = read_text(file).strip()
    readers = {".json": from_json, ".toml": from_toml, ".mat": from_vips}
    return Kernel(path.name, *readers[suffix](text)) if suffix in readers else _parse(text, path.name)


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
