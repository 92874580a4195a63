"""The Python door that takes kernels as users write them: the engine below it knows only arrays."""

from typing import TYPE_CHECKING, Any

from convcli.engine.shapes import PaddingLike, PairLike
from convcli.errors import ConvcliError
from convcli.kernels.reading import Kernel, as_kernel
from convcli.words import AUTO, Boundary, Padding

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


def filter2d(
    image: "ArrayLike",
    kernel: "str | ArrayLike",
    *,
    padding: PaddingLike = Padding.SAME,
    boundary: str | float = Boundary.REFLECT,
    stride: PairLike = 1,
    dilation: PairLike = 1,
    bias: float = 0.0,
    flip: bool = False,
    keep_size: bool = False,
    dtype: "DTypeLike | None" = None,
    method: str = AUTO,
    threads: int | None = None,
) -> "NDArray[Any]":
    """One kernel over every channel of a picture ``(H, W)`` or ``(H, W, C)`` -> ``(H', W'[, C])``.

    ``kernel`` is an array ``(kh, kw)`` or any KERNEL text or file, filters such as ``sobel`` among them; a file's own
    bias is added to ``bias``. An integer ``dtype`` rounds half to even and clips to its range; without one float64
    stays float64 and everything else comes back as float32.

    Raises ConvcliError for arguments that can't be, ShapeError for sizes that don't fit.

    >>> filter2d([[1, 1, 0, 0]], "-1 1", padding="valid")
    array([[ 0., -1.,  0.]], dtype=float32)
    """
    import numpy as np

    from convcli.engine.conv import picture_filter, result_dtype, target_dtype
    from convcli.engine.correlate import correlate
    from convcli.engine.results import empty_result
    from convcli.engine.store import Store

    asked = as_kernel(kernel)
    if asked.is_layer:
        raise ConvcliError(f"{asked.name} is a weight of {asked.weights.ndim} axes; conv2d takes it, filter2d a kernel")
    target = target_dtype(dtype)
    ask = picture_filter(
        image,
        asked.weights,
        padding=padding,
        boundary=boundary,
        stride=stride,
        dilation=dilation,
        bias=_sum(bias, asked),
        flip=flip,
        keep_size=keep_size,
        combine=asked.combine,
        dtype=target,
    )
    out = empty_result(ask.shape, target or result_dtype(ask.cells.dtype))
    correlate(ask, Store(out), method=method, threads=threads)
    return out[0, 0, ..., 0] if np.ndim(image) == 2 else out[0, 0]


def _sum(bias: float, kernel: Kernel) -> float:
    """Both biases; an integer stays one, since large integers are promised to be exact."""
    if isinstance(bias, bool) or not hasattr(bias, "__float__") or not hasattr(bias, "__add__"):
        raise ConvcliError(f"bias must be a number, not {bias!r}")
    return bias + float(kernel.bias) if kernel.bias else bias
