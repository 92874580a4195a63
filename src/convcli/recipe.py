"""What is done to one picture or array: layers, then range, then rounding, with the rules for colour and alpha.

A picture stays in the codes of its file all the way, so that 8-bit arithmetic is exact. Its ``unit`` is the code of
white: it scales what users give in fractions of white. Inside, as in the engine, cells are ``(N, C, H, W, P)``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcli.engine.conv import as_bias, as_weight, result_dtype
from convcli.engine.correlate import Correlation, correlate
from convcli.engine.pad import parse_boundary
from convcli.engine.pool import Pooling, pool
from convcli.engine.shapes import Window
from convcli.engine.store import Extent, Store, Tone, cast_into
from convcli.errors import PictureError, ShapeError
from convcli.images.picture import Picture
from convcli.layers import Filter, Layer, Pool, Row, report_rows
from convcli.words import AUTO, MAX_PIXELS, Alpha, Boundary, Padding, Range, Reduce

Array = NDArray[Any]

TRANSPARENT = 1e-6  # alpha below this share of white is none: a tenth of what rounds to a step of 16 bits


@dataclass(frozen=True)
class Recipe:
    """Everything asked for but the files. ``range`` None means: clip for picture files, none for arrays."""

    layers: tuple[Layer, ...]
    range: Range | None = None
    gray: bool = False
    linear: bool = False
    alpha: Alpha = Alpha.AUTO
    mix: float = 1.0
    method: str = AUTO
    threads: int | None = None
    max_pixels: int = MAX_PIXELS


class Outcome(NamedTuple):
    """What happened: the shape report, the values before clipping with the code of white, each plan as text."""

    rows: tuple[Row, ...]
    extent: Extent
    unit: float
    plans: tuple[str, ...]
    range: Range = Range.CLIP

    def spread(self) -> dict[str, float]:
        """Least and greatest value in units, and the shares that lay below 0 and above 1."""
        seen = self.extent
        count = max(1, seen.count)
        return {
            "min": seen.minimum / self.unit,
            "max": seen.maximum / self.unit,
            "below": seen.below / count,
            "above": seen.above / count,
        }

    def lost(self) -> tuple[float, float]:
        """The shares that were clipped below and above: only what lay beyond -1 and 1 under ``abs`` and ``signed``."""
        if self.range in (Range.MINMAX, Range.NONE):
            return 0.0, 0.0
        count = max(1, self.extent.count)
        below = self.extent.below if self.range is Range.CLIP else self.extent.far_below
        return below / count, self.extent.above / count


def filter_picture(picture: Picture, recipe: Recipe, *, keep_floats: bool = False) -> tuple[Picture, Outcome]:
    """The picture that a recipe makes of one, in its own depth, or as fractions of white with ``keep_floats``.

    Raises ShapeError where a layer does not fit, PictureError where the result would be too large.
    """
    source = _prepared(picture, recipe)
    color, alpha = source.color[None, None], source.pixels[None, None, ..., -1:] if source.alpha else None
    if recipe.alpha is Alpha.FILTER:
        color, alpha = source.pixels[None, None], None
    chain = _Chain(recipe, source.white)
    rows = chain.rows((color.shape[4], *source.size))
    finish = _Finish(
        recipe.range or (Range.NONE if keep_floats else Range.CLIP),
        source.white,
        1.0 if keep_floats else source.white,
        np.dtype(np.float32) if keep_floats else picture.pixels.dtype,
    )
    veiled = None if source.opaque() and chain.keeps_opaque() else alpha
    if veiled is not None or recipe.linear or recipe.mix != 1 or finish.choice is Range.MINMAX:
        original = color, alpha
        color, alpha = chain.run_veiled(color, veiled) if veiled is not None else (chain.run(color), chain.pick(alpha))
        color = _interleaved(color)[None, None]
        if recipe.linear:
            color = _recoded(color, source.white, _encode_srgb, recipe.alpha)
        color = finish.tone(color)
        if recipe.mix != 1:
            color, alpha = _mixed(color, alpha, *original, recipe, finish)
        color = finish.round(color)
    else:
        color, alpha = chain.run(color, finish), chain.pick(alpha)
    planes = [_interleaved(color)]
    if alpha is not None:
        planes.append(_interleaved(finish.round(alpha * (finish.white / finish.unit))))
    pixels = np.concatenate(planes, axis=2) if len(planes) > 1 else planes[0]
    if alpha is not None and pixels.shape[2] not in (2, 4):
        raise ShapeError(f"alpha goes with 1 or 3 colours, but the layers give {pixels.shape[2] - 1}; add --alpha drop")
    has_alpha = alpha is not None or pixels.shape[2] == 4 or (source.alpha and recipe.alpha is Alpha.FILTER)
    result = replace(source, pixels=pixels, white=finish.white, alpha=has_alpha)
    return result, Outcome(chain.finished(rows), finish.extent, finish.unit, tuple(chain.plans), finish.choice)


def filter_array(array: Array, recipe: Recipe, *, unit: float = 1.0) -> tuple[Array, Outcome]:
    """The float64 array that a recipe makes of ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``, in plain numbers."""
    cells = array.astype(np.float64).reshape((1,) * (4 - array.ndim) + array.shape + (1,))
    chain = _Chain(recipe, 1.0)
    rows = chain.rows((cells.shape[1], cells.shape[2], cells.shape[3]), cells.itemsize)
    finish = _Finish(recipe.range or Range.NONE, unit, unit, cells.dtype)
    result = finish.tone(chain.run(cells))[..., 0]
    finish.extent.below = finish.extent.far_below = finish.extent.above = 0  # plain numbers know no limits
    if recipe.mix != 1:
        if result.shape != cells.shape[:4]:
            raise ShapeError(f"--mix needs equal sizes, but {_size(cells)} became {_size(result[..., None])}")
        result = recipe.mix * result + (1 - recipe.mix) * cells[..., 0]
    result = result.reshape(result.shape[4 - max(array.ndim, 2 + (result.shape[1] > 1)) :])
    return result, Outcome(chain.finished(rows), finish.extent, 1.0, tuple(chain.plans), finish.choice)


def store_picture(picture: Picture, choice: Range, dtype: Any) -> tuple[Picture, Extent]:
    """A picture of floats brought to the codes of an integer ``dtype``."""
    white = float(np.iinfo(dtype).max)
    finish = _Finish(choice, picture.white, white, np.dtype(dtype))
    pixels = finish.round(finish.tone(picture.pixels))
    return replace(picture, pixels=pixels, white=white), finish.extent


class _Finish:
    """How values in units become stored numbers: the range, then the code of white, then the dtype."""

    def __init__(self, choice: Range, unit: float, white: float, dtype: np.dtype[Any]) -> None:
        self.choice, self.unit, self.white, self.dtype = choice, unit, white, dtype
        self.extent = Extent()

    def store(self, shape: tuple[int, ...]) -> Store:
        """A store that the engine fills in one go; not for ``minmax``, which must have seen all values first."""
        array = np.empty(shape, self.dtype)
        tone = self._tone()
        if self.dtype.kind in "iu" and self.choice is Range.CLIP:
            tone = tone._replace(limits=None)  # the cast clips
        return Store(array, tone=tone, extent=self.extent, unit=self.unit)

    def tone(self, values: Array) -> Array:
        """The values in their range, scaled to the code of white, as floats."""
        self.extent.note(values, self.unit)
        return self._tone().apply(np.array(values, result_dtype(values.dtype)))

    def round(self, values: Array) -> Array:
        """The values in the dtype that is stored."""
        stored = np.empty(values.shape, self.dtype)
        cast_into(stored, np.array(values, result_dtype(values.dtype)))
        return stored

    def _tone(self) -> Tone:
        limits = 0.0, self.white
        if self.choice is Range.MINMAX:
            least, spread = self.extent.minimum, self.extent.maximum - self.extent.minimum
            if not 0 < spread < np.inf:
                return Tone(gain=0.0, limits=limits)
            return Tone(gain=self.white, divisor=spread, offset=-least * self.white / spread, limits=limits)
        gain, divisor = (1.0, 1.0) if self.white == self.unit else (self.white, self.unit)
        if self.choice is Range.SIGNED:
            return Tone(gain=gain, divisor=2 * divisor, offset=self.white / 2, limits=limits)
        absolute = self.choice is Range.ABS
        return Tone(absolute, gain, divisor, limits=limits if self.choice is Range.CLIP else None)


class _Chain:
    """The layers of a recipe bound to one picture's unit."""

    def __init__(self, recipe: Recipe, unit: float) -> None:
        self.recipe, self.unit = recipe, unit
        self.plans: list[str] = []
        self.methods: list[str] = []

    def rows(self, shape: tuple[int, int, int], itemsize: int = 4) -> list[Row]:
        """The shape report; PictureError if a layer's output has too many pixels."""
        rows = list(report_rows(self.recipe.layers, shape, itemsize))
        for row in rows:
            _, height, width = row.output
            if height * width > self.recipe.max_pixels:
                raise PictureError(
                    f"the output of {row.layer} would have {height}x{width}, {height * width:,} pixels,"
                    f" more than {self.recipe.max_pixels:,}; raise --max-pixels if that is right"
                )
        return rows

    def finished(self, rows: list[Row]) -> tuple[Row, ...]:
        """The rows with the methods that were used."""
        return tuple(row._replace(method=method) for row, method in zip(rows, self.methods, strict=True))

    def run(self, cells: Array, finish: _Finish | None = None) -> Array:
        """Every layer in turn; the last one straight into what is stored, if ``finish`` says how."""
        for place, layer in enumerate(self.recipe.layers, 1):
            cells = self._step(layer, cells, finish if place == len(self.recipe.layers) else None)
        return cells

    def run_veiled(self, color: Array, alpha: Array) -> tuple[Array, Array]:
        """Colours weighted by their alpha, so that what is hidden never bleeds into what is seen.

        ``keep`` divides by the pixel's own alpha, ``premultiply`` by the filtered one; the bias comes after that.
        """
        alpha = alpha / np.float32(self.unit)
        fractions = _Chain(self.recipe, 1.0)  # alpha's unit
        for layer in self.recipe.layers:
            window = layer.window((color.shape[2], color.shape[3]))
            bare = layer.without_bias() if isinstance(layer, Filter) else layer
            veiled = self._step(bare, color * alpha)
            if self._mode(layer) is Alpha.PREMULTIPLY:
                alpha = fractions._step(_over_opaque(bare), alpha)
            else:
                alpha = _picked(alpha, layer, window)
            visible = alpha > TRANSPARENT
            color = np.divide(veiled, alpha, out=np.zeros_like(veiled), where=visible)
            if isinstance(layer, Filter):
                color += np.float32(layer.offset * self.unit)
        return color, np.clip(alpha * self.unit, 0, self.unit)

    def pick(self, alpha: Array | None) -> Array | None:
        """The alpha of each output's own pixel."""
        if alpha is not None:
            for layer in self.recipe.layers:
                alpha = _picked(alpha, layer, layer.window((alpha.shape[2], alpha.shape[3])))
        return alpha

    def keeps_opaque(self) -> bool:
        """Whether an opaque picture stays opaque, so that its alpha need not be filtered."""
        return all(self._mode(layer) is not Alpha.PREMULTIPLY or _covers(layer) for layer in self.recipe.layers)

    def _mode(self, layer: Layer) -> Alpha:
        if self.recipe.alpha is not Alpha.AUTO:
            return self.recipe.alpha
        return Alpha.PREMULTIPLY if isinstance(layer, Pool) or layer.smooths else Alpha.KEEP

    def _step(self, layer: Layer, cells: Array, finish: _Finish | None = None) -> Array:
        if isinstance(layer, Pool):
            window = layer.window((cells.shape[2], cells.shape[3]))
            pooling = Pooling(cells, window, layer.reduce, layer.count_pads)
            store = finish.store(pooling.shape) if finish else Store(np.empty(pooling.shape, pooling.dtype))
            pool(pooling, store, threads=self.recipe.threads)
            self._note("fold", f"fold: {layer.label}")
            return store.array
        ask = self._correlation(layer, cells)
        store = finish.store(ask.shape) if finish else Store(np.empty(ask.shape, result_dtype(cells.dtype)))
        plan = correlate(ask, store, method=self.recipe.method, threads=self.recipe.threads)
        self._note(plan.method, str(plan))
        return store.array

    def _note(self, method: str, plan: str) -> None:
        self.methods.append(method)
        self.plans.append(plan)

    def _correlation(self, layer: Filter, cells: Array) -> Correlation:
        """A filter repeats its kernels for every channel that is an axis; a layer wants all channels as that axis."""
        kernel, groups = layer.kernel, 1
        weight = as_weight(kernel.weights, layer.label, (kernel.weights.ndim,), layer.flip)
        if kernel.is_layer:
            cells = _planar(cells)
            layer.channels(cells.shape[1])
        else:
            groups = cells.shape[1]
            weight = np.tile(weight.reshape(-1, 1, *kernel.size), (groups, 1, 1, 1))
        boundary = parse_boundary(layer.boundary)
        if not isinstance(boundary, Boundary):  # a colour outside the picture, as users see it
            boundary = self.unit * float(_decode_srgb(np.array(boundary)) if self.recipe.linear else boundary)
        outputs = groups if kernel.combine else len(weight)
        return Correlation(
            cells,
            weight,
            layer.window((cells.shape[2], cells.shape[3])),
            boundary,
            as_bias(np.multiply(layer.offset, self.unit), outputs),
            groups,
            kernel.combine,
        )


def _prepared(picture: Picture, recipe: Recipe) -> Picture:
    """Alpha dropped, colour made grey or linear light, as asked."""
    if recipe.alpha is Alpha.DROP:
        picture = picture.without_alpha()
    if recipe.gray:
        picture = picture.gray()
    if recipe.linear:
        color = _recoded(picture.color, picture.white, _decode_srgb)
        picture = replace(picture, pixels=np.concatenate([color, picture.pixels[..., color.shape[2] :]], axis=2))
    return picture


def _recoded(color: Array, white: float, curve: Callable[[Array], Array], alpha: Alpha = Alpha.DROP) -> Array:
    """Colours through a curve of fractions, as floats. Under ``filter`` the last channel may be alpha."""
    color = color.astype(result_dtype(color.dtype))
    seen = color[..., :-1] if alpha is Alpha.FILTER and color.shape[-1] in (2, 4) else color
    seen[...] = curve(seen / white) * white
    return color


def _mixed(
    color: Array, alpha: Array | None, old: Array, old_alpha: Array | None, recipe: Recipe, finish: _Finish
) -> tuple[Array, Array | None]:
    """The result laid over the input at the strength of ``--mix``."""
    if color.shape != old.shape:
        raise ShapeError(
            f"--mix needs equal sizes, but {_size(old)} became {_size(color)}; choose -p same and a stride of 1"
        )
    share = recipe.mix
    if recipe.linear:
        old = _recoded(old, finish.unit, _encode_srgb, recipe.alpha)
    old = old * (finish.white / finish.unit)
    if alpha is None or old_alpha is None:
        return share * color + (1 - share) * old, alpha
    new_part, old_part = share * alpha, (1 - share) * old_alpha.astype(alpha.dtype)
    total = new_part + old_part
    mixed = new_part * color + old_part * old
    return np.divide(mixed, total, out=np.zeros_like(mixed), where=total > TRANSPARENT * finish.unit), total


def _size(cells: Array) -> str:
    return f"{cells.shape[1] * cells.shape[4]}x{cells.shape[2]}x{cells.shape[3]}"


def _planar(cells: Array) -> Array:
    """Channels that lie side by side in a pixel as an axis of their own, ``(N, C, H, W, 1)``; a view."""
    return cells if cells.shape[4] == 1 else np.moveaxis(cells, 4, 1)[:, :, 0, :, :, None]


def _interleaved(cells: Array) -> Array:
    """One item's cells as a picture's pixels ``(H, W, C)``."""
    return cells[0, 0] if cells.shape[1] == 1 else np.moveaxis(cells[0, ..., 0], 0, 2)


def _picked(alpha: Array, layer: Layer, window: Window) -> Array:
    """The alpha at the centre of each window, for an even window the cell that ``same`` keeps in place."""
    lower = layer.padding == Padding.SAME_LOWER
    index = []
    for axis in (0, 1):
        reach = window.effective[axis]
        centre = (reach // 2 if lower else (reach - 1) // 2) - window.pads[axis][0]
        index.append(np.clip(np.arange(window.output[axis]) * window.stride[axis] + centre, 0, window.size[axis] - 1))
    return alpha[:, :, index[0][:, None], index[1]]


def _over_opaque(layer: Layer) -> Layer:
    """The layer for alpha: a constant border is a colour, and colours are opaque."""
    if isinstance(layer, Pool) or isinstance(parse_boundary(layer.boundary), Boundary):
        return layer
    return replace(layer, boundary=1.0)


def _covers(layer: Layer) -> bool:
    """Whether windows over opaque cells stay opaque: a mean that never counts cells outside the picture."""
    if isinstance(layer, Pool):
        return layer.reduce is not Reduce.AVG or layer.padding == 0
    return layer.smooths and parse_boundary(layer.boundary) is not Boundary.ZERO


def _decode_srgb(fractions: Array) -> Array:
    """sRGB codes to linear light (IEC 61966-2-1), odd about 0."""
    size = np.abs(fractions)
    light = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return np.copysign(light, fractions).astype(fractions.dtype)


def _encode_srgb(light: Array) -> Array:
    """The inverse of :func:`_decode_srgb`."""
    size = np.abs(light)
    codes = np.where(size <= 0.0031308, size * 12.92, 1.055 * size ** (1 / 2.4) - 0.055)
    return np.copysign(codes, light).astype(light.dtype)
