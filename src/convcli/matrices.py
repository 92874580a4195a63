"""Matrices as text and as array files: read with care, printed plainly. Plain numbers, never scaled.

Array files are data from anywhere: sizes are read from their headers before memory is taken, and pickles are refused.
"""

import math
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from convcli.errors import ConvcliError, PictureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MATRIX_SUFFIXES = (".csv", ".txt", ".npy")
MAX_TEXT_BYTES = 64 * 2**20
MAX_VALUES = 200_000_000


def parse_matrix(text: str) -> "NDArray[Any]":
    """Rows split by ``;`` or newlines, numbers by spaces or commas, fractions like ``1/9``, as float64 ``(H, W)``.

    Empty lines split channels, ``(C, H, W)``. ``#`` begins a comment. Brackets around the whole are allowed, and so is
    a JSON list of 2 to 4 levels. Raises ConvcliError.
    """
    import numpy as np

    text = text.strip()
    if re.match(r"\[\s*\[", text):
        return _parse_json(text)
    if text.startswith("["):
        if not text.endswith("]"):
            raise ConvcliError("a matrix that begins with '[' must end with ']'")
        text = text[1:-1]
    lines = [line.partition("#")[0] for line in text.splitlines()]
    planes = [_parse_rows(plane) for plane in re.split(r"\n\s*\n", "\n".join(lines)) if plane.strip(" ;\n\t\r")]
    if not planes:
        raise ConvcliError("the matrix is empty; rows are split by ';', numbers by spaces")
    if len({plane.shape for plane in planes}) > 1:
        sizes = " and ".join(f"{plane.shape[0]}x{plane.shape[1]}" for plane in planes[:2])
        raise ConvcliError(f"an empty line splits channels, which must have one size, not {sizes}")
    return planes[0] if len(planes) == 1 else np.stack(planes)


def _parse_rows(text: str) -> "NDArray[Any]":
    import numpy as np

    rows = [row for line in re.split(r"[;\n]", text) if (row := line.replace(",", " ").split())]
    for y, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise ConvcliError(f"row {y} has length {len(row)}, but row 1 has {len(rows[0])}; all rows must be as long")
    return np.array([[_number(one, y, x) for x, one in enumerate(row, 1)] for y, row in enumerate(rows, 1)])


def format_array(array: "NDArray[Any]", separator: str = " ") -> str:
    """One row a line, numbers as ``%.9g`` with a separator between, an empty line between channels."""
    planes = array.reshape(-1, *array.shape[-2:])
    return (
        "\n\n".join("\n".join(separator.join("%.9g" % (one + 0) for one in row) for row in plane) for plane in planes)
        + "\n"
    )


def read_array(path: Path, max_values: int = MAX_VALUES) -> "NDArray[Any]":
    """A ``.csv``, ``.txt`` or ``.npy`` file. Raises PictureError for what can't be read as one, or is larger."""
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".npy":
                array = read_npy(file, max_values)
                return array.astype(array.dtype.newbyteorder("="), copy=False)
            return parse_matrix(read_text(file))
    except OSError as error:
        raise PictureError(error.strerror or str(error)) from None


def read_text(file: BinaryIO) -> str:
    """UTF-8 text of a bounded size."""
    data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise ConvcliError(f"the text is larger than {MAX_TEXT_BYTES // 2**20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConvcliError("this is not UTF-8 text") from None


def read_npy(file: BinaryIO, max_values: int = MAX_VALUES) -> "NDArray[Any]":
    """An ``.npy`` array of real numbers, its size known from the header before any memory is taken."""
    import numpy as np

    shape, dtype = read_npy_header(file)
    values = math.prod(shape)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise PictureError(f"an array of {dtype} is not read; it must hold real numbers, and pickles are refused")
    if values > max_values:
        raise PictureError(f"its header claims {values:,} values, more than {max_values:,}")
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except Exception as error:
        raise PictureError(f"a damaged .npy file: {error}") from None


def read_npy_header(file: BinaryIO) -> "tuple[tuple[int, ...], np.dtype[Any]]":
    """The shape and dtype that an ``.npy`` file claims. Raises PictureError."""
    import numpy as np

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers of Python 2
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = reader(file)
        return tuple(map(int, shape)), dtype
    except Exception as error:  # headers are Python text, and can be wrong in as many ways
        raise PictureError(f"not an .npy file: {str(error).splitlines()[0] if str(error) else 'damaged'}") from None


def _parse_json(text: str) -> "NDArray[Any]":
    import json

    import numpy as np

    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConvcliError(f"not a JSON list: {error}") from None
    return as_matrix(data, np.float64)


def as_matrix(data: Any, dtype: Any = float) -> "NDArray[Any]":
    """Nested lists of numbers, 2 to 4 levels deep, regular and finite, as an array. Raises ConvcliError."""
    import numpy as np

    _check_numbers(data, ())
    try:
        array = np.array(data, dtype)
    except (ValueError, TypeError, OverflowError):
        raise ConvcliError("the lists are ragged; all rows must have the same length") from None
    if not 2 <= array.ndim <= 4 or array.size == 0:
        raise ConvcliError(f"the lists must be 2 to 4 levels deep and not empty, not the shape {array.shape}")
    return array


def _check_numbers(data: Any, where: tuple[int, ...]) -> None:
    if isinstance(data, list):
        for place, one in enumerate(data, 1):
            _check_numbers(one, (*where, place))
    elif not is_number(data):
        raise ConvcliError(f"entry {', '.join(map(str, where)) or 1}: {str(data)[:20]!r} is not a finite number")


def is_number(value: Any) -> bool:
    """Whether a parsed value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _number(text: str, row: int, column: int) -> float:
    try:
        above, _, below = text.partition("/")
        value = float(above) / float(below) if below else float(text)
        value = math.nan if "_" in text else value  # Python's own way to write a number, nobody else's
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise ConvcliError(f"row {row}, column {column}: {text!r} is not a finite number")
    return value
