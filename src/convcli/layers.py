"""What a user can ask for, as frozen dataclasses, and the shape report that follows from them alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from convcli.engine.shapes import PaddingLike, Pads, Pair, PairLike, Reach, Window, conv_window, pool_window
from convcli.errors import ShapeError
from convcli.kernels.reading import Kernel
from convcli.words import Boundary, Padding, Reduce

Shape = tuple[int, int, int]  # channels, height, width


class Row(NamedTuple):
    """One line of the shape report. Sizes are (height, width), shapes (channels, height, width), pads t, b, l, r."""

    layer: str
    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[int, int, int, int]
    boundary: str
    input: Shape
    output: Shape
    receptive_field: Pair
    jump: Pair
    start: tuple[float, float]
    effective_padding: Pair
    unused: Pair
    params: int
    macs: int
    memory: int
    method: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as JSON has them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self._asdict().items()}


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A kernel over every channel by itself, or, with a weight ``(c_out, c_in/groups, kh, kw)``, a layer that sums.

    ``bias`` and a constant boundary are fractions of white for pictures, plain numbers for arrays; ``bias`` is
    added to the kernel's own.
    """

    kernel: Kernel
    padding: PaddingLike = Padding.SAME
    boundary: str | float = Boundary.REFLECT
    stride: PairLike = 1
    dilation: PairLike = 1
    bias: float = 0.0
    flip: bool = False
    keep_size: bool = False

    @property
    def label(self) -> str:
        """The name in reports."""
        return self.kernel.name

    @property
    def offset(self) -> Any:
        """All that is added: a number, or one for each output."""
        return self.kernel.bias + self.bias

    def without_bias(self) -> "Filter":
        """The same, adding nothing."""
        return replace(self, bias=0.0, kernel=replace(self.kernel, bias=0.0))

    @property
    def smooths(self) -> bool:
        """No negative weight and a sum within 1e-3 of 1: a weighted mean, which alpha may go through as well."""
        weights = self.kernel.weights
        plain = self.kernel.combine is None and weights.ndim == 2
        return bool(plain and (weights >= 0).all() and abs(float(weights.sum()) - 1) <= 1e-3)

    def window(self, size: Pair) -> Window:
        """The window over a picture of a size; ShapeError if it does not fit."""
        return conv_window(
            size,
            self.kernel.size,
            padding=self.padding,
            stride=self.stride,
            dilation=self.dilation,
            keep_size=self.keep_size,
        )

    def channels(self, channels: int) -> int:
        """Channels that come out; ShapeError if a weight does not take those that come in."""
        if not self.kernel.is_layer:
            return channels
        outputs, taken = self.kernel.weights.shape[:2]
        if taken != channels:
            raise ShapeError(f"the weight {self.label} takes {taken} input channels, but {channels} came in")
        return int(outputs)

    def weights(self, outputs: Shape) -> tuple[int, int]:
        """Parameters, and multiply-adds for a result of a shape."""
        weights = self.kernel.weights.size
        bias = outputs[0] if self.kernel.is_layer and self._has_bias() else int(self._has_bias())
        each = weights // outputs[0] if self.kernel.is_layer else weights
        return weights + bias, each * outputs[0] * outputs[1] * outputs[2]

    def _has_bias(self) -> bool:
        offset = self.offset
        return bool(offset) if isinstance(offset, int | float) else bool(offset.any())


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The greatest, least or mean value of each window; the stride is the window's size unless given."""

    reduce: Reduce
    size: PairLike
    stride: PairLike | None = None
    padding: PaddingLike = 0
    dilation: PairLike = 1
    ceil: bool = False
    count_pads: bool = True
    boundary = "none"

    @property
    def label(self) -> str:
        """The name in reports."""
        return f"{self.reduce}pool"

    def window(self, size: Pair) -> Window:
        """The window over a picture of a size; ShapeError if it does not fit."""
        return pool_window(
            size, self.size, padding=self.padding, stride=self.stride, dilation=self.dilation, ceil=self.ceil
        )

    def channels(self, channels: int) -> int:
        """As many as come in."""
        return channels

    def weights(self, _outputs: Shape) -> tuple[int, int]:
        """None."""
        return 0, 0


Layer = Filter | Pool


def report_rows(layers: Iterable[Layer], shape: Shape, itemsize: int = 4) -> Iterator[Row]:
    """The shape report of a chain of layers over an input ``(C, H, W)``, activations of ``itemsize`` bytes.

    Raises ShapeError at the first layer that does not fit.
    """
    reach = Reach()
    for layer in layers:
        size = shape[1], shape[2]
        channels = layer.channels(shape[0])
        window = layer.window(size)
        reach = reach.through(window)
        output = (channels, *window.output)
        params, macs = layer.weights(output)
        yield Row(
            layer=layer.label,
            kernel=window.kernel,
            stride=window.stride,
            dilation=window.dilation,
            padding=_flat(window.pads),
            boundary=str(layer.boundary),
            input=shape,
            output=output,
            receptive_field=reach.field,
            jump=reach.jump,
            start=reach.start,
            effective_padding=reach.padding,
            unused=window.unused,
            params=params,
            macs=macs,
            memory=output[0] * output[1] * output[2] * itemsize,
        )
        shape = output


def _flat(pads: Pads) -> tuple[int, int, int, int]:
    return (*pads[0], *pads[1])
