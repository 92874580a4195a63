"""What a recipe makes of one picture or array: layers, then range, then rounding, with the rules for colour and alpha.

A picture stays in the codes of its file all the way, so that 8-bit arithmetic is exact. Its ``unit`` is the code of
white: it scales what users give in fractions of white. Inside, as in the engine, cells are ``(N, C, H, W, P)``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcli.chain import Chain, Watcher, planar
from convcli.engine.conv import result_dtype
from convcli.engine.pad import parse_boundary
from convcli.engine.results import empty_result
from convcli.engine.shapes import Window
from convcli.engine.store import Extent, Store, Tone, cast_into
from convcli.errors import ShapeError
from convcli.images.picture import Picture, white_of
from convcli.layers import Conv, Dense, Each, Filter, Gray, Layer, Pool, Row
from convcli.recipe import Outcome, Recipe
from convcli.words import Alpha, Boundary, Padding, Range, Reduce

Array = NDArray[Any]

TRANSPARENT = 1e-6  # alpha below this share of white is none: a tenth of what rounds to a step of 16 bits
FLAT = 8  # roundings of what is summed by which values of one colour may differ: sums are not all added up alike


def filter_picture(
    picture: Picture,
    recipe: Recipe,
    *,
    dtype: Any = None,
    usual: Range = Range.CLIP,
    extent: Extent | None = None,
    watch: Watcher | None = None,
    beneath: slice = slice(None),
) -> tuple[Picture, Outcome]:
    """The picture that a recipe makes of one, in its own dtype or the one given, floats being fractions of white.

    ``usual`` is the range where the recipe has none, ``extent`` what ``minmax`` is to stretch, if more than this
    picture. ``watch(number, label, maps)`` sees what each layer gives. ``beneath`` are the rows that ``--mix`` lays the
    result over. Raises ShapeError where a layer does not fit,
    PictureError where the result would be too large.
    """
    dtype = np.dtype(dtype or picture.pixels.dtype)
    source = _prepared(picture, recipe)
    color, alpha = source.color[None, None], source.pixels[None, None, ..., -1:] if source.alpha else None
    if recipe.alpha is Alpha.FILTER:
        color, alpha = source.pixels[None, None], None
    rows = planned_rows(source, recipe)
    if alpha is not None and not goes_with_alpha(recipe, rows):
        if recipe.alpha is not Alpha.AUTO:
            raise ShapeError(
                f"alpha goes with 1 or 3 colours, but the layers give {rows[-1].output[0]}; add --alpha drop"
            )
        source, alpha = replace(source.without_alpha(), notices=(*source.notices, "alpha is left out")), None
    chain = _chain(recipe, source.white)
    finish = _Finish(recipe.range or usual, source.white, white_of(dtype), dtype, extent)
    finish.heed(color, recipe.layers)
    veiled = None if source.opaque() and _keeps_opaque(recipe) else alpha
    if veiled is not None or recipe.linear or recipe.mix != 1 or watch or finish.choice is Range.MINMAX:
        original = color[:, :, beneath], alpha if alpha is None else alpha[:, :, beneath]
        if veiled is not None:
            color, alpha = _run_veiled(chain, recipe, color, veiled, watch)
        else:
            color, alpha = chain.run(color, watch=watch), _pick(recipe, alpha)
        color = _interleaved(color)[None, None]
        if recipe.linear:
            color = _recoded(color, source.white, _encode_srgb, recipe.alpha)
        color = finish.tone(color, alpha)
        if recipe.mix != 1:
            color, alpha = _mixed(color, alpha, *original, recipe, finish)
        color = finish.round(color)
    else:
        color, alpha = chain.run(color, finish.store), _pick(recipe, alpha)
    planes = [_interleaved(color)]
    if alpha is not None:
        planes.append(_interleaved(finish.round(alpha * (finish.white / finish.unit))))
    pixels = np.concatenate(planes, axis=2) if len(planes) > 1 else planes[0]
    has_alpha = alpha is not None or pixels.shape[2] == 4 or (source.alpha and recipe.alpha is Alpha.FILTER)
    result = replace(source, pixels=pixels, white=finish.white, alpha=has_alpha)
    return result, Outcome(_finished(rows, chain), finish.extent, finish.unit, tuple(chain.plans), finish.choice)


def planned_rows(picture: Picture, recipe: Recipe) -> list[Row]:
    """The shape report of a recipe over a picture; raises as :func:`filter_picture` does."""
    channels = picture.pixels.shape[2] if recipe.alpha is Alpha.FILTER else picture.color.shape[2]
    return recipe.rows((channels, *picture.size))


def filter_array(
    array: Array, recipe: Recipe, *, unit: float = 1.0, watch: Watcher | None = None
) -> tuple[Array, Outcome]:
    """The float64 array that a recipe makes of ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``, in plain numbers.

    ``watch`` as in :func:`filter_picture`.
    """
    cells = array.astype(np.float64).reshape((1,) * (4 - array.ndim) + array.shape + (1,))
    chain = _chain(recipe, 1.0)
    rows = replace(recipe, gray=False).rows((cells.shape[1], cells.shape[2], cells.shape[3]), cells.itemsize)
    finish = _Finish(recipe.range or Range.NONE, unit, unit, cells.dtype, bounded=recipe.range is Range.CLIP)
    finish.heed(cells, recipe.layers)
    result = finish.tone(chain.run(cells, watch=watch))[..., 0]
    finish.extent.below = finish.extent.far_below = finish.extent.above = 0  # plain numbers know no limits
    if recipe.mix != 1:
        if result.shape != cells.shape[:4]:
            raise ShapeError(f"--mix needs equal sizes, but {_size(cells)} became {_size(result[..., None])}")
        result = recipe.mix * result + (1 - recipe.mix) * cells[..., 0]
    result = result.reshape(result.shape[4 - max(array.ndim, 2 + (result.shape[1] > 1)) :])
    return result, Outcome(_finished(rows, chain), finish.extent, 1.0, tuple(chain.plans), finish.choice)


def store_picture(picture: Picture, choice: Range, dtype: Any) -> tuple[Picture, Extent]:
    """A picture of floats brought to the codes of an integer ``dtype``."""
    white = white_of(dtype)
    finish = _Finish(choice, picture.white, white, np.dtype(dtype))
    pixels = finish.round(finish.tone(picture.pixels))
    return replace(picture, pixels=pixels, white=white), finish.extent


class _Finish:
    """How values in units become stored numbers: the range, then the code of white, then the dtype."""

    def __init__(
        self,
        choice: Range,
        unit: float,
        white: float,
        dtype: np.dtype[Any],
        whole: Extent | None = None,
        *,
        bounded: bool = True,
    ) -> None:
        self.choice, self.unit, self.white, self.dtype = choice, unit, white, dtype
        self.extent = Extent()
        self.bounded = bounded and choice is not Range.NONE  # to what a picture holds
        self.whole = whole or self.extent  # what is stretched by minmax
        self.summed = 0.0

    def heed(self, cells: Array, layers: Sequence[Layer]) -> None:
        """Note the greatest sum that filters can make of cells, for ``minmax``: its roundings are no colours."""
        if self.choice is Range.MINMAX and cells.size:
            peak = max(float(np.fmax.reduce(cells, axis=None)), -float(np.fmin.reduce(cells, axis=None)))
            self.summed = peak * prod(float(one.kernel.gains.max()) for one in layers if isinstance(one, Filter))

    def store(self, shape: tuple[int, ...], _dtype: np.dtype[Any]) -> Store:
        """A store that the engine fills in one go; not for ``minmax``, which must have seen all values first."""
        array = empty_result(shape, self.dtype)
        tone = self._tone()
        if self.dtype.kind in "iu" and self.choice in (Range.CLIP, Range.ABS):
            tone = tone._replace(limits=None)  # the cast clips
        return Store(array, tone=tone, extent=self.extent, unit=self.unit)

    def tone(self, values: Array, alpha: Array | None = None) -> Array:
        """The values in their range, scaled to the code of white, as floats; what alpha hides is not counted."""
        self.extent.note(values if alpha is None else values[alpha[..., 0] > TRANSPARENT * self.unit], self.unit)
        dtype = result_dtype(values.dtype)
        return self._tone(float(np.finfo(dtype).eps)).apply(np.array(values, dtype))

    def round(self, values: Array) -> Array:
        """The values in the dtype that is stored."""
        stored = np.empty(values.shape, self.dtype)
        cast_into(stored, np.array(values, result_dtype(values.dtype)))
        return stored

    def _tone(self, rounding: float = 0.0) -> Tone:
        """The range as a tone; a ``rounding`` is a share of a sum, and values a few of them apart are the same."""
        limits = 0.0, self.white
        if self.choice is Range.MINMAX:
            least, spread = self.whole.minimum, self.whole.maximum - self.whole.minimum
            if not FLAT * rounding * max(abs(self.whole.maximum), self.summed) < spread < np.inf:
                return Tone(gain=0.0, limits=limits)
            return Tone(gain=self.white, divisor=spread, offset=-least * self.white / spread, limits=limits)
        gain, divisor = (1.0, 1.0) if self.white == self.unit else (self.white, self.unit)
        if self.choice is Range.SIGNED:
            return Tone(gain=gain, divisor=2 * divisor, offset=self.white / 2, limits=limits)
        return Tone(self.choice is Range.ABS, gain, divisor, limits=limits if self.bounded else None)


def _chain(recipe: Recipe, unit: float) -> Chain:
    """The layers bound to a picture's unit; a constant border is a colour as users see it."""

    def constant(boundary: float) -> float:
        return float(_decode_srgb(np.array(boundary))) if recipe.linear else boundary

    return Chain(
        recipe.layers, unit, method=recipe.method, threads=recipe.threads, constant=constant, wholes=recipe.wholes
    )


def _finished(rows: list[Row], chain: Chain) -> tuple[Row, ...]:
    """The rows with the methods that were used."""
    return tuple(row._replace(method=method) for row, method in zip(rows, chain.methods, strict=True))


def _run_veiled(chain: Chain, recipe: Recipe, color: Array, alpha: Array, watch: Watcher | None) -> tuple[Array, Array]:
    """Colours weighted by their alpha, so that what is hidden never bleeds into what is seen.

    ``keep`` divides by the pixel's own alpha, ``premultiply`` by the filtered one; the bias comes after that.
    """
    alpha = alpha / np.float32(chain.unit)
    fractions = _chain(recipe, 1.0)  # alpha's unit
    for number, layer in enumerate(recipe.layers, 1):
        if isinstance(layer, Each | Gray):
            color = chain.step(layer, color)
        else:
            window = layer.window((color.shape[2], color.shape[3]))
            bare = layer.without_bias()
            veiled = chain.step(bare, planar(color) * alpha if isinstance(layer, Conv) else color * alpha)
            if _mode(recipe, layer) is Alpha.PREMULTIPLY:
                alpha = fractions.step(_over_opaque(bare), alpha)
            else:
                alpha = _picked(alpha, layer, window)
            visible = alpha > TRANSPARENT
            color = np.divide(veiled, alpha, out=np.zeros_like(veiled), where=visible)
            if isinstance(layer, Filter | Conv) and layer.offset is not None:
                color += np.multiply(layer.offset, chain.unit).astype(np.float32).reshape(-1, 1, 1, 1)
        if watch:
            chain.show(watch, number, color)
    return color, np.clip(alpha * chain.unit, 0, chain.unit)


def _pick(recipe: Recipe, alpha: Array | None) -> Array | None:
    """The alpha of each output's own pixel."""
    if alpha is not None:
        for layer in recipe.layers:
            alpha = _picked(alpha, layer, layer.window((alpha.shape[2], alpha.shape[3])))
    return alpha


def goes_with_alpha(recipe: Recipe, rows: list[Row]) -> bool:
    """Whether the result is a picture whose places are those of the input."""
    everywhere = any(isinstance(one, Dense) or (isinstance(one, Pool) and one.size is None) for one in recipe.layers)
    return rows[-1].output[0] in (1, 3) and not everywhere


def _keeps_opaque(recipe: Recipe) -> bool:
    """Whether an opaque picture stays opaque, so that its alpha need not be filtered."""
    return all(_mode(recipe, layer) is not Alpha.PREMULTIPLY or _covers(layer) for layer in recipe.layers)


def _mode(recipe: Recipe, layer: Layer) -> Alpha:
    if recipe.alpha is not Alpha.AUTO:
        return recipe.alpha
    return Alpha.PREMULTIPLY if isinstance(layer, Pool) or layer.smooths else Alpha.KEEP


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
            f"--mix needs equal sizes, but {_size(old)} became {_size(color)}; choose padding same and a stride of 1"
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


def _interleaved(cells: Array) -> Array:
    """One item's cells as a picture's pixels ``(H, W, C)``."""
    return cells[0, 0] if cells.shape[1] == 1 else np.moveaxis(cells[0, ..., 0], 0, 2)


def _picked(alpha: Array, layer: Layer, window: Window) -> Array:
    """The alpha at the centre of each window, for an even window the cell that ``same`` keeps in place."""
    lower = isinstance(layer, Filter | Conv | Pool) and layer.padding == Padding.SAME_LOWER
    index = []
    for axis in (0, 1):
        reach = window.effective[axis]
        centre = (reach // 2 if lower else (reach - 1) // 2) - window.pads[axis][0]
        index.append(np.clip(np.arange(window.output[axis]) * window.stride[axis] + centre, 0, window.size[axis] - 1))
    return alpha[:, :, index[0][:, None], index[1]]


def _over_opaque(layer: Layer) -> Layer:
    """The layer for alpha: a constant border is a colour, and colours are opaque."""
    if not isinstance(layer, Filter) or isinstance(parse_boundary(layer.boundary), Boundary):
        return layer
    return replace(layer, boundary=1.0)


def _covers(layer: Layer) -> bool:
    """Whether windows over opaque cells stay opaque: a mean that never counts cells outside the picture."""
    if isinstance(layer, Pool):
        return layer.reduce is not Reduce.AVG or layer.padding == 0
    return not isinstance(layer, Filter) or (layer.smooths and parse_boundary(layer.boundary) is not Boundary.ZERO)


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
