"""All arithmetic of sizes, on plain integers. The only place that knows what "same" means."""

from collections.abc import Iterable, Sequence
from operator import index
from typing import Any, NamedTuple

from convcli.errors import ConvcliError, ShapeError
from convcli.words import Padding

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
PairLike = int | Sequence[int]
PaddingLike = str | int | Sequence[int] | Sequence[Sequence[int]]

MAX_STEP = 65_535  # of a stride, a dilation or a pad: beyond it lies a typing error, not a picture


class Window(NamedTuple):
    """A window that walks over a padded picture, with every number known. Pairs are (vertical, horizontal)."""

    size: Pair
    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: Pads
    output: Pair

    @property
    def effective(self) -> Pair:
        """Rows and columns from the first cell of the window to its last."""
        return effective_size(self.kernel[0], self.dilation[0]), effective_size(self.kernel[1], self.dilation[1])

    @property
    def pace(self) -> int:
        """Rows of output from one picture to the next where pictures stand on end: of those between, whose windows meet
        two of them, none is kept.
        """
        return -(-self.under(0, self.output[0]) // self.stride[0])

    @property
    def padded(self) -> bool:
        """Whether there are pads on any side."""
        return any(map(any, self.pads))

    @property
    def unused(self) -> Pair:
        """Rows at the bottom and columns at the right of the picture that no window reaches."""
        reached = [self.under(axis, self.output[axis]) - self.pads[axis][0] for axis in (0, 1)]
        return max(0, self.size[0] - reached[0]), max(0, self.size[1] - reached[1])

    def transposed(self) -> "Window":
        """The same with rows and columns exchanged."""
        size, kernel, stride, dilation, pads, output = (pair[::-1] for pair in self)
        return Window(size, kernel, stride, dilation, pads, output)  # type: ignore[arg-type]

    def outputs_in(self, axis: int, cells: int) -> int:
        """How many outputs so many padded input rows (axis 0) or columns (1) give: the inverse of :meth:`under`."""
        return (cells - self.effective[axis]) // self.stride[axis] + 1

    def under(self, axis: int, outputs: int) -> int:
        """The padded input rows (axis 0) or columns (1) under so many outputs."""
        return (outputs - 1) * self.stride[axis] + self.effective[axis]

    def input_range(self, axis: int, first: int, last: int) -> Pair:
        """The first of the padded input rows (axis 0) or columns (1) under outputs ``first`` to ``last`` - 1, and the
        end.
        """
        return first * self.stride[axis], self.under(axis, last)


def effective_size(kernel: int, dilation: int) -> int:
    """Cells a kernel spans with ``dilation`` - 1 gaps between its taps."""
    return dilation * (kernel - 1) + 1


def is_count(value: Any) -> bool:
    """Whether it is a whole number from 1."""
    try:
        return index(value) >= 1
    except TypeError:  # an array has the method, too
        return False


def as_pair(value: PairLike, name: str, minimum: int = 1, maximum: int = MAX_STEP) -> Pair:
    """``3`` or ``(3, 5)`` as a checked pair."""
    value = _plain(value)
    try:
        if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):  # those are numbers, too
            pair = tuple(map(index, value))
        else:
            pair = (index(value),) * 2  # type: ignore[arg-type]
    except TypeError:
        raise ConvcliError(f"{name} must be a whole number or two (height, width), not {value!r}") from None
    if len(pair) != 2:
        raise ConvcliError(f"{name} must be one number or two (height, width), not {value!r}")
    if not all(minimum <= one <= maximum for one in pair):
        raise ConvcliError(f"{name} must be from {minimum} to {maximum}, not {value!r}")
    return pair[0], pair[1]


def _plain(value: Any) -> Any:
    """An array as the lists and numbers it holds."""
    return value.tolist() if hasattr(value, "tolist") else value


def conv_window(
    size: Pair,
    kernel: Pair,
    *,
    padding: PaddingLike = Padding.VALID,
    stride: PairLike = 1,
    dilation: PairLike = 1,
    keep_size: bool = False,
) -> Window:
    """The window of a filter or layer.

    Raises ShapeError when not one output fits, ConvcliError for a padding, stride or dilation that can't be.
    """
    strides, dilations = as_pair(stride, "stride"), as_pair(dilation, "dilation")
    ask = _padding(padding)
    if keep_size and ask == Padding.VALID:
        raise ConvcliError(
            "keep_size needs a padding to keep the size with: same, same-lower, full or numbers, not valid"
        )
    pads = (
        _axis_pads(size[0], effective_size(kernel[0], dilations[0]), strides[0], ask, 0, keep_size),
        _axis_pads(size[1], effective_size(kernel[1], dilations[1]), strides[1], ask, 1, keep_size),
    )
    return _window(size, kernel, strides, dilations, pads, ceil=False)


def pool_window(
    size: Pair,
    kernel: PairLike,
    *,
    padding: PaddingLike = 0,
    stride: PairLike | None = None,
    dilation: PairLike = 1,
    ceil: bool = False,
) -> Window:
    """The window of a pool: the stride is the window's size unless given, and a pad is smaller than the window.

    With ``ceil`` a last, partial window counts too, unless it would start at or past the end of the picture
    (the rule of PyTorch's ``pooling_output_shape``). Raises as :func:`conv_window` does.
    """
    kernel = as_pair(kernel, "pool size", maximum=max(MAX_STEP, *size))
    strides = kernel if stride is None else as_pair(stride, "stride")
    dilations = as_pair(dilation, "dilation")
    reach = effective_size(kernel[0], dilations[0]), effective_size(kernel[1], dilations[1])
    ask = _padding(padding)
    pads = (
        _axis_pads(size[0], reach[0], strides[0], ask, 0, keep_size=False),
        _axis_pads(size[1], reach[1], strides[1], ask, 1, keep_size=False),
    )
    for axis, name in enumerate(("rows", "columns")):
        if max(pads[axis]) >= reach[axis]:
            raise ConvcliError(
                f"padding of a pool must be smaller than its window: {max(pads[axis])} {name} for {reach[axis]}"
            )
    return _window(size, kernel, strides, dilations, pads, ceil)


def _window(size: Pair, kernel: Pair, stride: Pair, dilation: Pair, pads: Pads, ceil: bool) -> Window:
    out = []
    for axis, name in enumerate(("height", "width")):
        n, (before, after) = size[axis], pads[axis]
        k, s = effective_size(kernel[axis], dilation[axis]), stride[axis]
        if n < 1:
            raise ShapeError(f"a picture of {size[0]}x{size[1]} has no pixels")
        room = n + before + after - k
        steps = -(-room // s) if ceil else room // s
        if ceil and steps * s >= n + before:
            steps -= 1
        if steps < 0:
            raise ShapeError(
                f"a window of {k} does not fit {name} {n} padded by {before}+{after}: "
                f"output ({n} + {before} + {after} - {k}) / {s} + 1 would be below 1"
            )
        out.append(steps + 1)
    return Window(size, kernel, stride, dilation, pads, (out[0], out[1]))


def _axis_pads(n: int, k: int, s: int, padding: Padding | Pads, axis: int, keep_size: bool) -> Pair:
    """Pads of one axis for an effective kernel size ``k``.

    ``same`` is TensorFlow's rule (total ``max(0, (ceil(n/s) - 1) * s + k - n)``, the odd unit behind); ``keep_size``
    is the source text's: total ``(m - 1) * s + k - n`` for the size ``m`` that the padding gives at stride 1.
    """
    if not isinstance(padding, Padding):
        before, after = padding[axis]
        extra = (n + before + after - k) * (s - 1) if keep_size else 0
        return before + max(0, extra) // 2, after + (max(0, extra) + 1) // 2
    if padding is Padding.VALID:
        return 0, 0
    if padding is Padding.FULL:
        total = (n + k - 2) * s + k - n if keep_size else 2 * (k - 1)
    else:
        outputs = n if keep_size else -(-n // s)
        total = max(0, (outputs - 1) * s + k - n)
    less, more = total // 2, total - total // 2
    return (more, less) if padding is Padding.SAME_LOWER else (less, more)


def _padding(value: PaddingLike) -> Padding | Pads:
    """The words, ``2``, ``(ph, pw)`` or ``((top, bottom), (left, right))``."""
    value = _plain(value)
    if isinstance(value, str):
        try:
            return Padding(value)
        except ValueError:
            raise ConvcliError(f"padding must be {', '.join(Padding)} or numbers, not {value!r}") from None
    if isinstance(value, Sequence) and len(value) == 2 and all(isinstance(one, Sequence) for one in value):
        pairs: Any = value
        return as_pair(pairs[0], "padding (top, bottom)", 0), as_pair(pairs[1], "padding (left, right)", 0)
    rows, columns = as_pair(value, "padding", 0)  # type: ignore[arg-type]
    return (rows, rows), (columns, columns)


class Reach(NamedTuple):
    """What one output of a chain of layers sees of the chain's input. Pairs are (vertical, horizontal).

    The recurrences are those of Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural
    Networks", Distill 2019: a layer of effective size k, stride s and front pad p adds (k - 1) * jump to the field,
    multiplies the jump by s, and moves the centre of the first output by ((k - 1) / 2 - p) * jump. ``padding`` is the
    front pads of all layers, in cells of the input.
    """

    field: Pair = (1, 1)
    jump: Pair = (1, 1)
    start: tuple[float, float] = (0.0, 0.0)
    padding: Pair = (0, 0)

    def through(self, window: Window) -> "Reach":
        """The reach after one more layer."""
        k, s, p = window.effective, window.stride, (window.pads[0][0], window.pads[1][0])
        (fy, fx), (jy, jx) = self.field, self.jump
        return Reach(
            (fy + (k[0] - 1) * jy, fx + (k[1] - 1) * jx),
            (jy * s[0], jx * s[1]),
            (self.start[0] + ((k[0] - 1) / 2 - p[0]) * jy, self.start[1] + ((k[1] - 1) / 2 - p[1]) * jx),
            (self.padding[0] + p[0] * jy, self.padding[1] + p[1] * jx),
        )
