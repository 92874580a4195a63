"""Which frameworks give the same sizes and pads as a chain of layers when they are told the same words or numbers.

As documented for PyTorch 2.13 (``Conv2d``, ``MaxPool2d``), Keras 3 (``Conv2D``, ``MaxPooling2D``: the words valid and
same, zeros) and ONNX opset 22 (``Conv``, ``MaxPool``: ``auto_pad`` or numbers, zeros).
"""

from collections.abc import Callable, Iterable

from convcli.engine.shapes import Pads, Window, conv_window, pool_window
from convcli.layers import Conv, Filter, Layer, Pool, Shape
from convcli.words import Boundary, Padding


def same_sizes(layers: Iterable[Layer], shape: Shape) -> str:
    """One line for a chain over ``(C, H, W)``: who gives the same, and of the others the layer where they part."""
    reasons = dict.fromkeys(FRAMEWORKS, "")
    for number, layer in enumerate(layers, 1):
        window = layer.window((shape[1], shape[2]))
        for name, refuses in FRAMEWORKS.items():
            if not reasons[name] and isinstance(layer, Filter | Conv | Pool) and (why := refuses(layer, window)):
                reasons[name] = f"{name} (layer {number}, {layer.label}: {why})"
        shape = (layer.channels(shape[0]), *window.output)
    yes = [name for name, why in reasons.items() if not why]
    parts = ["the same sizes and pads: " + (", ".join(yes) or "none")]
    return "; ".join(parts + ["not " + ", ".join(why for why in reasons.values() if why)] * (len(yes) < len(reasons)))


def _pytorch(layer: Filter | Conv | Pool, window: Window) -> str:
    word = layer.padding in list(Padding)
    if isinstance(layer, Pool):
        if any(2 * one > k for pads, k in zip(window.pads, window.effective, strict=True) for one in pads):
            return "refuses pads over half the window"
        return "pools know no such word" if word and layer.padding != Padding.VALID else _unequal(window.pads)
    if layer.padding in (Padding.SAME, Padding.SAME_LOWER) and window.stride != (1, 1) and not layer.keep_size:
        return f"refuses {layer.padding} with a stride"
    if not _zeros(layer, window) and layer.border not in (Boundary.EDGE, Boundary.REFLECT, Boundary.WRAP):
        return f"has no border {layer.border}"
    sides = [(one, n) for pads, n in zip(window.pads, window.size, strict=True) for one in pads]
    reflects, wraps = layer.border == Boundary.REFLECT, layer.border == Boundary.WRAP
    if any((reflects and one >= n) or (wraps and one > n) for one, n in sides):
        return f"refuses {layer.border} wider than the picture"
    return "" if layer.padding == Padding.SAME and not layer.keep_size else _unequal(window.pads)


def _keras(layer: Filter | Conv | Pool, window: Window) -> str:
    if isinstance(layer, Pool) and layer.ceil and window != _floored(window):
        return "does not round sizes up"
    if not _zeros(layer, window):
        return f"has no border {layer.border}"
    if window.stride != (1, 1) and window.dilation != (1, 1):
        return "refuses a stride with a dilation"
    same = conv_window(window.size, window.kernel, padding=Padding.SAME, stride=window.stride, dilation=window.dilation)
    return "" if not window.padded or window.pads == same.pads else "has only the words valid and same"


def _onnx(layer: Filter | Conv | Pool, window: Window) -> str:
    return "" if _zeros(layer, window) else f"has no border {layer.border}"


FRAMEWORKS: dict[str, Callable[[Filter | Conv | Pool, Window], str]] = {
    "PyTorch": _pytorch,
    "TensorFlow": _keras,
    "ONNX": _onnx,
}


def _zeros(layer: Filter | Conv | Pool, window: Window) -> bool:
    return isinstance(layer, Pool) or not window.padded or layer.border in (Boundary.ZERO, "0", "0.0")


def _unequal(pads: Pads) -> str:
    return "pads both sides alike" if any(before != after for before, after in pads) else ""


def _floored(window: Window) -> Window:
    """The same pool, its size rounded down."""
    return pool_window(window.size, window.kernel, padding=window.pads, stride=window.stride, dilation=window.dilation)
