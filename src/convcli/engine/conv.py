"""The doors of convolution: arguments checked and brought to one form."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from convcli.engine.correlate import Correlation, correlate
from convcli.engine.pad import BoundaryLike, parse_boundary
from convcli.engine.plan import Plan, make_plan
from convcli.engine.results import empty_result
from convcli.engine.shapes import PaddingLike, PairLike, conv_window, is_count
from convcli.engine.store import Store
from convcli.errors import ConvcliError, ShapeError
from convcli.words import AUTO, Boundary, Combine, Padding

Array = NDArray[Any]


def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    padding: PaddingLike = Padding.VALID,
    boundary: BoundaryLike = Boundary.ZERO,
    stride: PairLike = 1,
    dilation: PairLike = 1,
    groups: int = 1,
    flip: bool = False,
    keep_size: bool = False,
    method: str = AUTO,
    threads: int | None = None,
) -> Array:
    """A convolution layer (cross-correlation, as in the source text and PyTorch).

    ``x`` is ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``. A weight ``(kh, kw)`` filters every channel by itself and
    keeps the rank; a weight ``(c_out, c_in/groups, kh, kw)`` sums over channels, and an ``(H, W)`` input counts as one
    channel and gives ``(c_out, H', W')``. ``bias`` is a number or one for each output channel. float64 stays float64,
    everything else comes back as float32.

    Raises ConvcliError for arguments that can't be, ShapeError for sizes and channels that don't fit.

    >>> conv2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])
    array([[19., 25.],
           [37., 43.]], dtype=float32)
    """
    ask, shape = _layer(x, weight, bias, padding, boundary, stride, dilation, groups, flip, keep_size)
    out = empty_result(ask.shape, result_dtype(ask.cells.dtype))
    correlate(ask, Store(out), method=method, threads=threads)
    return out.reshape(shape)


def plan_conv(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    padding: PaddingLike = Padding.VALID,
    boundary: BoundaryLike = Boundary.ZERO,
    stride: PairLike = 1,
    dilation: PairLike = 1,
    groups: int = 1,
    flip: bool = False,
    keep_size: bool = False,
    method: str = AUTO,
) -> Plan:
    """The plan by which :func:`conv2d` would compute the same arguments; ``print`` it."""
    ask, _ = _layer(x, weight, bias, padding, boundary, stride, dilation, groups, flip, keep_size)
    return make_plan(ask.ungrouped().problem(), method)


def picture_filter(
    image: ArrayLike,
    kernel: ArrayLike,
    *,
    padding: PaddingLike,
    boundary: BoundaryLike,
    stride: PairLike = 1,
    dilation: PairLike = 1,
    bias: float = 0.0,
    flip: bool = False,
    keep_size: bool = False,
    combine: Combine | None = None,
    dtype: np.dtype[Any] | None = None,
) -> Correlation:
    """One kernel over every channel of a picture ``(H, W)`` or ``(H, W, C)``, in the inner form.

    The kernel is ``(kh, kw)``, or with ``combine`` ``(n, kh, kw)``. A float64 result is computed in float64.
    """
    weight = as_weight(kernel, "kernel", (3,) if combine else (2,), flip)
    weight = weight.reshape(-1, 1, *weight.shape[-2:])
    array = as_cells(image, "image", (2, 3))
    if array.size == 0:
        raise ShapeError(f"image has no pixels: its shape is {array.shape}")
    cells = array.reshape(1, 1, *array.shape[:2], -1)
    size, kernel_size = (cells.shape[2], cells.shape[3]), (weight.shape[2], weight.shape[3])
    window = conv_window(size, kernel_size, padding=padding, stride=stride, dilation=dilation, keep_size=keep_size)
    wide = dtype is not None and result_dtype(dtype) == np.float64
    return Correlation(cells, weight, window, parse_boundary(boundary), as_bias(bias, 1), combine=combine, wide=wide)


def _layer(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    padding: PaddingLike,
    boundary: BoundaryLike,
    stride: PairLike,
    dilation: PairLike,
    groups: int,
    flip: bool,
    keep_size: bool,
) -> tuple[Correlation, tuple[int, ...]]:
    """The arguments of :func:`conv2d`, checked and brought to one form, and the shape that the caller expects."""
    array = as_cells(x, "x", (2, 3, 4))
    cells = array.reshape((1,) * (4 - array.ndim) + array.shape + (1,))
    channels = cells.shape[1]
    if channels == 0:
        raise ShapeError(f"x has no channels: its shape is {array.shape}")
    kernels = as_weight(weight, "weight", (2, 4), flip)
    rank, weight_rank = array.ndim, kernels.ndim
    if weight_rank == 2:
        if not is_count(groups) or groups != 1:
            raise ConvcliError(f"groups must be 1 for a weight (kh, kw), which filters every channel, not {groups!r}")
        groups = channels
        kernels = np.broadcast_to(kernels, (channels, 1, *kernels.shape))
    check_channels(kernels.shape, channels, groups)
    window = conv_window(
        (cells.shape[2], cells.shape[3]),
        kernels.shape[2:],
        padding=padding,
        stride=stride,
        dilation=dilation,
        keep_size=keep_size,
    )
    offsets = None if bias is None else as_bias(bias, kernels.shape[0])
    ask = Correlation(cells, kernels, window, parse_boundary(boundary), offsets, groups)
    return ask, _layer_shape(rank, weight_rank, ask.shape)


def _layer_shape(rank: int, weight_rank: int, shape: Sequence[int]) -> tuple[int, ...]:
    """The result's shape as a caller expects it from the ranks that came in."""
    n, c, h, w, _ = shape
    if rank == 4:
        return n, c, h, w
    return (h, w) if rank == 2 and weight_rank == 2 else (c, h, w)


def check_channels(weight: Sequence[int], channels: int, groups: int) -> None:
    """Raise ShapeError unless a weight ``(c_out, c_in/groups, kh, kw)`` fits the channels that come in.

    And ConvcliError for groups that are no whole number from 1.
    """
    if not is_count(groups):
        raise ConvcliError(f"groups must be a whole number from 1, not {groups!r}")
    if weight[0] % groups:
        raise ShapeError(f"{weight[0]} output channels do not divide into {groups} groups")
    if weight[1] * groups != channels:
        raise ShapeError(
            f"the weight {'x'.join(map(str, weight))} takes {weight[1] * groups} input channels"
            f"{f' in {groups} groups' if groups > 1 else ''}, but {channels} came in"
        )


def as_cells(x: ArrayLike, name: str, ranks: Sequence[int]) -> Array:
    """A real, numeric array of one of the ranks, with pixels; booleans count as 0 and 1."""
    array = _of_rank(real_array(x, name), name, ranks)
    if 0 in array.shape[-2:]:
        raise ShapeError(f"{name} has no pixels: its shape is {array.shape}")
    return array


def target_dtype(dtype: DTypeLike | None) -> np.dtype[Any] | None:
    """The result's dtype that was asked for, an integer or a float."""
    if dtype is None:
        return None
    try:
        target = np.dtype(dtype)
    except TypeError:
        raise ConvcliError(f"dtype must be an integer or floating type, not {dtype!r}") from None
    if target.kind not in "iuf":
        raise ConvcliError(f"dtype must be an integer or floating type, not {target}")
    return target


def as_weight(weight: ArrayLike, name: str, ranks: Sequence[int], flip: bool = False) -> Array:
    """A finite weight of one of the ranks, flipped if asked: the one place where a kernel is flipped."""
    array = _of_rank(real_array(weight, name), name, ranks)
    if array.size == 0:
        raise ShapeError(f"{name} is empty: its shape is {array.shape}")
    if not np.isfinite(array).all():
        raise ConvcliError(f"{name} must be finite, but holds {array[~np.isfinite(array)][0]}")
    return array[..., ::-1, ::-1] if flip else array


def as_bias(bias: ArrayLike, outputs: int) -> Array | None:
    """One finite number for each output, or None where all are 0."""
    array = real_array(bias, "bias")
    if array.ndim > 1 or array.size not in (1, outputs):
        raise ShapeError(
            f"bias must be a number or {outputs}, one for each output channel, not the shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ConvcliError(f"bias must be finite, not {bias!r}")
    return np.broadcast_to(array.reshape(-1), outputs) if array.any() else None


def result_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float64 stays, everything else becomes float32."""
    return np.dtype(np.float64 if dtype.kind == "f" and dtype.itemsize > 4 else np.float32)


def real_array(value: ArrayLike, name: str) -> Array:
    """An array of booleans, integers or floats."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ConvcliError(f"{name} must be a regular array: {error}") from None
    if array.dtype.kind == "O" and all(isinstance(one, int) for one in array.flat):
        try:
            large = min(array.flat, default=0) >= 0 and max(array.flat, default=0) >= 2**63
            array = array.astype(np.uint64 if large else np.int64)
        except OverflowError:
            raise ConvcliError(f"{name} holds whole numbers beyond 64 bits") from None
    if array.dtype.kind not in "biuf":
        raise ConvcliError(f"{name} must hold real numbers, not {array.dtype}")
    return array


def _of_rank(array: Array, name: str, ranks: Sequence[int]) -> Array:
    """The array, which must have one of these ranks; booleans as 0 and 1."""
    if array.ndim not in ranks:
        wanted = f"at least {ranks[0]}" if isinstance(ranks, range) else " or ".join(map(str, ranks))
        raise ShapeError(f"{name} must have {wanted} axes, not the shape {array.shape}")
    return array.view(np.uint8) if array.dtype.kind == "b" else array
