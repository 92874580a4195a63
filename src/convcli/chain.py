"""Layers bound to the engine, one after another.

Cells are ``(N, C, H, W, P)``, and all values multiples of a ``unit``: the code of white for a picture, which so stays
in the codes of its file and exact, 1 for plain numbers. A layer's input is let go as soon as its output is there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcli.engine.conv import as_bias, as_weight, result_dtype
from convcli.engine.correlate import Correlation, correlate
from convcli.engine.pad import parse_boundary
from convcli.engine.pool import Pooling, pool
from convcli.engine.results import empty_result
from convcli.engine.shapes import Window
from convcli.engine.store import Store
from convcli.errors import ConvcliError
from convcli.images.picture import LUMA
from convcli.layers import Conv, Dense, Each, Filter, Gray, Layer, Pool
from convcli.words import AUTO, Boundary, Pointwise

Array = NDArray[Any]
MakeStore = Callable[[tuple[int, ...], np.dtype[Any]], Store]
Watcher = Callable[[int, str, Array], None]


def plain_store(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Store:
    """A new array that takes values as they are."""
    return Store(empty_result(shape, dtype))


class Chain:
    """Layers with all that their computation needs besides cells; notes how each was computed. ``wholes`` are their
    windows over a picture that the cells are a part of."""

    def __init__(
        self,
        layers: Sequence[Layer],
        unit: float = 1.0,
        *,
        method: str = AUTO,
        threads: int | None = None,
        constant: Callable[[float], float] = float,
        wholes: Sequence[Window] = (),
    ) -> None:
        self.layers, self.unit = layers, unit
        self._wholes = {id(layer): whole for layer, whole in zip(layers, wholes, strict=False)}
        self.method, self.threads, self.constant = method, threads, constant
        self.methods: list[str] = []
        self.plans: list[str] = []

    def run(self, cells: Array, make_store: MakeStore = plain_store, watch: Watcher | None = None) -> Array:
        """Every layer in turn, the last one into a store that is made for it; ``watch`` sees each one's output."""
        given = cells
        for number, layer in enumerate(self.layers, 1):
            made = make_store if number == len(self.layers) else plain_store
            cells = self.step(layer, cells, made, own=cells is not given)
            if watch:
                self.show(watch, number, cells)
        return cells

    def show(self, watch: Watcher, number: int, cells: Array) -> None:
        """Call ``watch(number, label, maps)`` with a layer's output ``(C, H, W)``, divided by the unit."""
        maps = planar(cells)
        watch(number, self.layers[number - 1].label, maps.reshape(-1, *maps.shape[2:4]) / np.float32(self.unit))

    def step(self, layer: Layer, cells: Array, make_store: MakeStore = plain_store, *, own: bool = False) -> Array:
        """One layer; its input may be used up if it is our ``own``."""
        with np.errstate(all="ignore"):
            return self._step(layer, cells, make_store, own)

    def _step(self, layer: Layer, cells: Array, make_store: MakeStore, own: bool) -> Array:
        match layer:
            case Filter() | Conv():
                ask = self._correlation(layer, cells)
                store = make_store(ask.shape, result_dtype(cells.dtype))
                plan = correlate(ask, store, method=self.method, threads=self.threads)
                self._note(plan.method, str(plan))
                return store.array
            case Pool():
                pooling = Pooling(cells, layer.window((cells.shape[2], cells.shape[3])), layer.reduce, layer.count_pads)
                store = make_store(pooling.shape, pooling.dtype)
                pool(pooling, store, threads=self.threads)
                self._note("fold", f"fold: {layer.label}")
                return store.array
            case Each():
                values = cells.astype(result_dtype(cells.dtype), copy=not own)
                result = each(layer.function, values, self.unit, layer.level)
            case Gray():
                result = gray(cells)
            case Dense():
                result = self._dense(layer, cells)
            case _:
                raise ConvcliError(f"{layer.label} can't be run")
        self._note("numpy", f"numpy: {layer.label}")
        store = make_store(result.shape, result.dtype)
        if not store.direct(result.dtype):
            store.put((...,), result)
            return store.array
        return result

    def _note(self, method: str, plan: str) -> None:
        self.methods.append(method)
        self.plans.append(plan)

    def _correlation(self, layer: Filter | Conv, cells: Array) -> Correlation:
        """A filter repeats its kernels for every channel that is an axis; a layer wants all channels as that axis."""
        combine = None
        if isinstance(layer, Conv):
            cells = planar(cells)
            channels = cells.shape[1]
            weight, groups = layer.weight(channels), layer.groups or channels
        else:
            groups, combine = cells.shape[1], layer.kernel.combine
            weight = np.tile(layer.kernel.weights.reshape(-1, 1, *layer.size), (groups, 1, 1, 1))
        boundary = parse_boundary(layer.boundary)
        if not isinstance(boundary, Boundary):
            boundary = self.unit * self.constant(boundary)
        offset = 0.0 if layer.offset is None else layer.offset
        return Correlation(
            cells,
            as_weight(weight, layer.label, (4,), layer.flip),
            layer.window((cells.shape[2], cells.shape[3])),
            boundary,
            as_bias(np.multiply(offset, self.unit), groups if combine else len(weight)),
            groups,
            combine,
            whole=self._wholes.get(id(layer)),
        )

    def _dense(self, layer: Dense, cells: Array) -> Array:
        cells = planar(cells)
        dtype = result_dtype(cells.dtype)
        weight = layer.weight(cells.shape[1:4]).astype(dtype, copy=False)
        result: Array = cells.reshape(len(cells), weight.shape[1]).astype(dtype, copy=False) @ weight.T
        if layer.bias is not None:
            result += np.multiply(layer.bias, self.unit).astype(dtype)
        return result.reshape(*result.shape, 1, 1, 1)


def each(function: Pointwise, values: Array, unit: float, level: float = 0.0) -> Array:
    """A function of each of these floats in their place, 1 being ``unit`` of them."""
    match function:
        case Pointwise.RELU:
            np.maximum(values, 0, out=values)
        case Pointwise.ABS:
            np.abs(values, out=values)
        case Pointwise.THRESHOLD:
            values[...] = (values >= values.dtype.type(level * unit)) * values.dtype.type(unit)
        case Pointwise.NORMALIZE:
            least = np.fmin.reduce(values, axis=None, initial=np.inf)
            most = np.fmax.reduce(values, axis=None, initial=-np.inf)
            values -= least
            values *= unit / (most - least) if most > least else 0
        case Pointwise.TANH:
            values /= unit
            np.tanh(values, out=values)
            values *= unit
        case Pointwise.SIGMOID:
            values /= -unit
            np.exp(values, out=values)
            values += 1
            np.divide(unit, values, out=values)
    return values


def gray(cells: Array) -> Array:
    """0.299 R + 0.587 G + 0.114 B of channels that lie side by side or in planes; grey stays as it is."""
    if 3 not in (cells.shape[1], cells.shape[4]):
        return cells
    channels = cells if cells.shape[4] == 3 else np.moveaxis(cells, 1, 4)[..., 0, :]
    luma: Array = channels @ np.array(LUMA, result_dtype(cells.dtype))
    return luma.reshape(len(cells), 1, *cells.shape[2:4], 1)


def planar(cells: Array) -> Array:
    """Channels that lie side by side in a pixel as an axis of their own, ``(N, C, H, W, 1)``; a view."""
    return cells if cells.shape[4] == 1 else np.moveaxis(cells, 4, 1)[:, :, 0, :, :, None]
