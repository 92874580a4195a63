"""What a user can ask for, as frozen dataclasses, and the shape report that follows from them alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from convcli.engine.shapes import PaddingLike, Pads, Pair, PairLike, Reach, Window, conv_window, pool_window
from convcli.errors import ConvcliError, ShapeError
from convcli.kernels.reading import Kernel
from convcli.words import Boundary, Padding, Pointwise, Reduce

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, int, int]  # channels, height, width
POINT = pool_window((1, 1), 1)
NO_WEIGHTS = "has no weights; give weights=FILE or init=random"


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

    @property
    def windowed(self) -> bool:
        """Whether it has a window."""
        return self.boundary != "none" or (self.kernel, self.stride) != ((1, 1), (1, 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as JSON has them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self._asdict().items()}


class Layer:
    """What the report and the runner ask of every layer; the answers of one that changes no shape."""

    @property
    def label(self) -> str:
        """The name in reports."""
        raise NotImplementedError

    @property
    def border(self) -> str:
        """What pads are filled with, in reports."""
        return "none"

    @property
    def smooths(self) -> bool:
        """Whether this is a weighted mean, which alpha may go through as well."""
        return False

    @property
    def complete(self) -> bool:
        """Whether it has all the weights it needs to be run."""
        return True

    @property
    def gives(self) -> int | None:
        """Channels that come out whatever comes in, if that is so."""
        return None

    def without_bias(self) -> "Layer":
        """The same, adding nothing."""
        return self

    def channels(self, channels: int) -> int:
        """Channels that come out; ShapeError if it does not take those that come in."""
        return channels

    def window(self, size: Pair) -> Window:
        """The window over a picture of a size; ShapeError if it does not fit."""
        return POINT._replace(size=size, output=size)

    def reach(self, size: Pair) -> Window:
        """The window as the receptive field sees it."""
        return self.window(size)

    def counts(self, _taken: Shape, _given: Shape) -> tuple[int, int]:
        """Parameters, and multiply-adds, for shapes that come in and out."""
        return 0, 0


@dataclass(frozen=True, kw_only=True)
class _Windowed(Layer):
    """What filters and convolutions have in common.

    ``bias`` and a constant boundary are fractions of white for pictures, plain numbers for arrays; ``bias`` is
    added to a kernel's own.
    """

    padding: PaddingLike
    boundary: str | float
    stride: PairLike = 1
    dilation: PairLike = 1
    flip: bool = False
    keep_size: bool = False

    @property
    def size(self) -> Pair:
        """The kernel's."""
        raise NotImplementedError

    @property
    def border(self) -> str:
        """What pads are filled with, in reports."""
        return str(self.boundary)

    def window(self, size: Pair) -> Window:
        """The window over a picture of a size; ShapeError if it does not fit."""
        return conv_window(
            size,
            self.size,
            padding=self.padding,
            stride=self.stride,
            dilation=self.dilation,
            keep_size=self.keep_size,
        )


@dataclass(frozen=True, kw_only=True)
class Filter(_Windowed):
    """A kernel over every channel by itself."""

    kernel: Kernel
    padding: PaddingLike = Padding.SAME
    boundary: str | float = Boundary.REFLECT
    bias: float = 0.0

    def __post_init__(self) -> None:
        if self.kernel.is_layer:
            raise ConvcliError(f"{self.kernel.name} is a weight, which sums channels; make a Conv of it")

    @property
    def label(self) -> str:
        """The kernel's name."""
        return self.kernel.name

    @property
    def size(self) -> Pair:
        """The kernel's."""
        return self.kernel.size

    @property
    def offset(self) -> Any:
        """All that is added."""
        return self.kernel.bias + self.bias

    @property
    def smooths(self) -> bool:
        """No negative weight and a sum within 1e-3 of 1."""
        weights = self.kernel.weights
        return bool(self.kernel.combine is None and (weights >= 0).all() and abs(float(weights.sum()) - 1) <= 1e-3)

    def without_bias(self) -> "Filter":
        """The same, adding nothing."""
        return replace(self, bias=0.0, kernel=replace(self.kernel, bias=0.0))

    def counts(self, _taken: Shape, given: Shape) -> tuple[int, int]:
        """One kernel, whatever the channels."""
        weights = self.kernel.weights.size
        return weights + bool(self.offset), weights * prod(given)


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv(_Windowed):
    """A layer: every output sums its group's input channels, each under a kernel of its own.

    ``kernel`` is a weight ``(outputs, channels/groups, kh, kw)`` or a matrix for every channel alike; without one the
    weights are random if there is a ``seed`` and left out if not. ``groups`` None: one for each channel.
    """

    kernel: Kernel | None = None
    shape: Pair | None = None
    outputs: int | None = None
    groups: int | None = 1
    padding: PaddingLike = Padding.VALID
    boundary: str | float = Boundary.ZERO
    bias: "float | NDArray[Any] | None" = None
    seed: int | None = None

    @property
    def label(self) -> str:
        """The weight's name."""
        return self.kernel.name if self.kernel else "conv"

    @property
    def size(self) -> Pair:
        """The kernel's."""
        return self.kernel.size if self.kernel else self.shape or (1, 1)

    @property
    def offset(self) -> Any:
        """All that is added: a number, or one for each output; None if nothing is."""
        own = self.kernel.bias if self.kernel else 0.0
        if self.bias is None:
            return None if isinstance(own, float) and not own else own
        return own + self.bias

    @property
    def complete(self) -> bool:
        """Whether there are weights, or a seed for them."""
        return self.kernel is not None or self.seed is not None

    @property
    def gives(self) -> int | None:
        """Its outputs, unless there is one for each channel."""
        whole = self._whole()
        return len(whole) if whole is not None else self.outputs or (1 if self.groups else None)

    def without_bias(self) -> "Conv":
        """The same, adding nothing."""
        return replace(self, bias=None, kernel=self.kernel and replace(self.kernel, bias=0.0))

    def channels(self, channels: int) -> int:
        """Channels that come out; ShapeError if the weight does not take those that come in."""
        groups = self.groups or channels
        whole = self._whole()
        outputs = self.gives or channels
        if channels % groups or outputs % groups:
            raise ShapeError(f"{groups} groups can't share {channels} input and {outputs} output channels evenly")
        taken = channels if whole is None else whole.shape[1] * groups
        if taken != channels:
            raise ShapeError(f"the weight {self.label} takes {taken} input channels, but {channels} came in")
        biases = getattr(self.bias, "size", 1)
        if biases not in (1, outputs):
            raise ShapeError(f"{biases} biases do not go with {outputs} outputs")
        return outputs

    def weight(self, channels: int) -> "NDArray[Any]":
        """The weight ``(outputs, channels/groups, kh, kw)``; ConvcliError if there is none."""
        import numpy as np

        shape = self.channels(channels), channels // (self.groups or channels), *self.size
        if self.kernel is None:
            return random_weights(shape, self.seed, self.label)
        return np.broadcast_to(self.kernel.weights, shape)

    def counts(self, taken: Shape, given: Shape) -> tuple[int, int]:
        """All weights, and a bias for each output."""
        each = taken[0] // (self.groups or taken[0]) * prod(self.size)
        return each * given[0] + given[0] * (self.offset is not None), each * prod(given)

    def _whole(self) -> "NDArray[Any] | None":
        """The weight of all channels, if that is what the kernel is."""
        return self.kernel.weights if self.kernel and self.kernel.is_layer else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense(Layer):
    """Fully connected: every output is a weighted sum of all that comes in, channel after channel, row after row."""

    outputs: int
    matrix: "NDArray[Any] | None" = None
    bias: "float | NDArray[Any] | None" = None
    seed: int | None = None

    @property
    def label(self) -> str:
        """The stage's name."""
        return "dense"

    @property
    def complete(self) -> bool:
        """Whether there are weights, or a seed for them."""
        return self.matrix is not None or self.seed is not None

    @property
    def gives(self) -> int | None:
        """Its outputs."""
        return self.outputs

    def channels(self, _channels: int) -> int:
        """One for each output."""
        return self.outputs

    def window(self, size: Pair) -> Window:
        """One place."""
        return POINT._replace(size=size)

    def reach(self, size: Pair) -> Window:
        """Everything."""
        return pool_window(size, size, stride=1)

    def weight(self, shape: Shape) -> "NDArray[Any]":
        """The matrix ``(outputs, C*H*W)``; ShapeError if it does not fit, ConvcliError if there is none."""
        if self.matrix is None:
            return random_weights((self.outputs, prod(shape)), self.seed, self.label)
        if self.matrix.shape[1] != prod(shape):
            came = f"{'x'.join(map(str, shape))}, {prod(shape)} numbers,"
            raise ShapeError(f"its weights take {self.matrix.shape[1]} numbers, but {came} came in")
        return self.matrix

    def counts(self, taken: Shape, _given: Shape) -> tuple[int, int]:
        """A weight for each pair of an input and an output."""
        if self.matrix is not None:
            self.weight(taken)
        macs = prod(taken) * self.outputs
        return macs + (0 if self.bias is None else self.outputs), macs


@dataclass(frozen=True, kw_only=True)
class Pool(Layer):
    """The greatest, least or mean value of each window; the stride is the window's size unless given.

    Without a ``size`` the window is the whole picture.
    """

    reduce: Reduce
    size: PairLike | None = None
    stride: PairLike | None = None
    padding: PaddingLike = 0
    dilation: PairLike = 1
    ceil: bool = False
    count_pads: bool = True

    @property
    def label(self) -> str:
        """The stage's name."""
        return f"{self.reduce}pool" if self.size is not None else f"global{self.reduce}"

    def window(self, size: Pair) -> Window:
        """The window over a picture of a size; ShapeError if it does not fit."""
        return pool_window(
            size,
            size if self.size is None else self.size,
            padding=self.padding,
            stride=self.stride,
            dilation=self.dilation,
            ceil=self.ceil,
        )


@dataclass(frozen=True, kw_only=True)
class Each(Layer):
    """A function of each number by itself; ``level`` is the threshold, in the input's unit."""

    function: Pointwise
    level: float = 0.0

    @property
    def label(self) -> str:
        """The function's name."""
        return self.function


@dataclass(frozen=True, kw_only=True)
class Gray(Layer):
    """0.299 R + 0.587 G + 0.114 B."""

    @property
    def label(self) -> str:
        """The stage's name."""
        return "gray"

    @property
    def gives(self) -> int | None:
        """One."""
        return 1

    def channels(self, channels: int) -> int:
        """One, of three or of one."""
        if channels not in (1, 3):
            raise ShapeError(f"gray takes 1 or 3 channels, but {channels} came in")
        return 1


def random_weights(shape: tuple[int, ...], seed: int | None, label: str) -> "NDArray[Any]":
    """Normal numbers of variance 2/inputs (He and others, ICCV 2015); ConvcliError without a ``seed``."""
    import numpy as np

    if seed is None:
        raise ConvcliError(f"{label} {NO_WEIGHTS}")
    weights: NDArray[Any] = np.random.default_rng(seed).standard_normal(shape)
    weights *= np.sqrt(2 / prod(shape[1:]))
    return weights


def report_rows(layers: Iterable[Layer], shape: Shape, itemsize: int = 4) -> Iterator[Row]:
    """The shape report of a chain of layers over an input ``(C, H, W)``, activations of ``itemsize`` bytes.

    Raises ShapeError at the first layer that does not fit, with its number if there are several.
    """
    reach, layers = Reach(), list(layers)
    for number, layer in enumerate(layers, 1):
        size = shape[1], shape[2]
        try:
            window, seen = layer.window(size), layer.reach(size)
            output = (layer.channels(shape[0]), *window.output)
            params, macs = layer.counts(shape, output)
            reach = reach.through(seen)
        except ConvcliError as error:
            raise (_placed(error, layers, number) if len(layers) > 1 else error) from None
        yield Row(
            layer=layer.label,
            kernel=window.kernel,
            stride=window.stride,
            dilation=window.dilation,
            padding=_flat(window.pads),
            boundary=layer.border,
            input=shape,
            output=output,
            receptive_field=reach.field,
            jump=reach.jump,
            start=reach.start,
            effective_padding=reach.padding,
            unused=seen.unused,
            params=params,
            macs=macs,
            memory=prod(output) * itemsize,
        )
        shape = output


ANY_SIZE = 2**40, 2**40  # what does not fit here fits no picture


def check_layers(layers: Iterable[Layer]) -> None:
    """Raise ConvcliError for what is wrong with a chain of layers whatever it is applied to."""
    layers = list(layers)
    size, channels = ANY_SIZE, None
    for number, layer in enumerate(layers, 1):
        try:
            window = layer.window(size)
            given = layer.gives if channels is None else layer.channels(channels)
            if channels is not None and given is not None and size == (1, 1):
                layer.counts((channels, *size), (given, *window.output))
        except ConvcliError as error:
            raise _placed(error, layers, number) from None
        size, channels = window.output, given


def _placed(error: ConvcliError, layers: list[Layer], number: int) -> ConvcliError:
    """The error with the number and name of its layer, if there are several."""
    name = layers[number - 1].label
    return type(error)(f"layer {number}, {name}: {error}" if len(layers) > 1 else f"{name}: {error}")


def _flat(pads: Pads) -> tuple[int, int, int, int]:
    return (*pads[0], *pads[1])
