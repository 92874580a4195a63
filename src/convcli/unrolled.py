"""A layer as the one matrix that a fully connected layer would need for the same: zeros and shared weights in view."""

from math import prod
from typing import Any

import numpy as np

from convcli.engine.pad import parse_boundary, source_index
from convcli.errors import ConvcliError
from convcli.layers import Conv, Dense, Filter, Layer, Shape

MAX_ENTRIES = 1 << 20
LETTERS = "abcdefghijklmnopqrstuvwxyz"

Entry = float | str


def unrolled(layer: Layer, shape: Shape) -> list[list[Entry]]:
    """A row for each output and a column for each input, channel after channel, row after row.

    Weights that were left out have names, the same wherever they are shared: letters, or w1, w2 and so on. Raises
    ConvcliError for a layer that is no matrix, or is too large for one.
    """
    if isinstance(layer, Conv):
        groups = layer.groups or shape[0]
        outputs = layer.channels(shape[0])
        names = (outputs, shape[0] // groups, *layer.size)
        weight = layer.weight(shape[0]) if layer.complete else _names(names)
    elif isinstance(layer, Filter):
        groups = outputs = shape[0]
        weight = np.broadcast_to(layer.kernel.matrix(), (outputs, 1, *layer.size))
    elif isinstance(layer, Dense):
        _check_size(layer.outputs, shape)
        matrix_or_names = layer.weight(shape) if layer.complete else _names((layer.outputs, prod(shape)))
        unshared: list[list[Entry]] = matrix_or_names.tolist()
        return unshared
    else:
        raise ConvcliError(f"{layer.label} is not a weighted sum, so no matrix gives it")
    weight = weight[..., ::-1, ::-1] if layer.flip else weight
    window, boundary = layer.window((shape[1], shape[2])), parse_boundary(layer.boundary)
    _check_size(outputs * prod(window.output), shape)
    rows, columns = (source_index(window.size[axis], *window.pads[axis], boundary) for axis in (0, 1))
    (sy, sx), (dy, dx) = window.stride, window.dilation
    matrix: list[list[Entry]] = []
    for output, y, x in np.ndindex(outputs, *window.output):
        entries: dict[int, Any] = {}
        first = output // (outputs // groups) * weight.shape[1]
        for (channel, i, j), value in np.ndenumerate(weight[output]):
            row, column = rows[y * sy + i * dy], columns[x * sx + j * dx]
            if row >= 0 and column >= 0:  # else it meets a pad, which is no input
                place = ((first + channel) * shape[1] + row) * shape[2] + column
                entries[place] = _sum(entries.get(place), value)
        matrix.append([entries.get(place, 0.0) for place in range(prod(shape))])
    return matrix


def _sum(before: Any, value: Any) -> Any:
    """Of numbers their sum, of names the sum as it is written."""
    if isinstance(value, str):
        return value if before is None else f"{before}+{value}"
    return float(value) + (before or 0.0)


def _names(shape: tuple[int, ...]) -> Any:
    count = prod(shape)
    names = list(LETTERS[:count]) if count <= len(LETTERS) else [f"w{number}" for number in range(1, count + 1)]
    return np.array(names, object).reshape(shape)


def _check_size(outputs: int, shape: Shape) -> None:
    if outputs * prod(shape) > MAX_ENTRIES:
        size = f"{outputs:,} x {prod(shape):,}"
        raise ConvcliError(f"the matrix would be {size}, more than {MAX_ENTRIES:,} entries; take a smaller SIZE")
