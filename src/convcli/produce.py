"""From one input to the bytes of its result: decoded, run through a recipe, encoded.

One, three or four channels are a picture. Any other number are feature maps: a contact sheet, or the exact numbers in
an array file or the pages of a TIFF, or, if ``split``, a file for each channel.
"""

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from math import inf, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcli.chain import Watcher
from convcli.errors import PictureError
from convcli.images.picture import Picture, picture_from_array
from convcli.images.reading import read_all, read_picture, read_shape
from convcli.images.writing import ARRAY_FORMATS, encode, encode_pages, fit_for
from convcli.matrices import format_array, parse_matrix, read_array, read_npy_header
from convcli.recipe import (
    Outcome,
    Recipe,
    filter_array,
    filter_picture,
    goes_with_alpha,
    planned_rows,
    store_picture,
)
from convcli.sources import Source
from convcli.values import format_bytes
from convcli.words import Alpha, Range

Array = NDArray[Any]

PICTURE_CHANNELS = (1, 3, 4)
COPIES = {"NPY": 2, "NPZ": 2, "TIFF": 3}  # of a result on its way into a file, at most


class Product(NamedTuple):
    """The bytes of a result, one file or one for each channel, what happened, what there is to say, and whether it is
    no picture but a sheet of feature maps."""

    parts: tuple[bytes, ...]
    outcome: Outcome
    notices: tuple[str, ...] = ()
    sheet: bool = False


def produce(
    source: Source,
    file_format: str,
    recipe: Recipe,
    *,
    in_place: bool = False,
    split: bool = False,
    max_memory: float = inf,
    watch: Watcher | None = None,
) -> Product:
    """What a recipe makes of an input, as bytes of a format. Raises ConvcliError for what one input can do wrong."""
    with np.errstate(all="ignore"):
        if source.is_array:
            array = read_numbers(source, recipe)
            check_memory(_array_shape(array.shape, file_format, recipe).memory, max_memory)
            return _from_array(array, file_format, recipe, split, watch)
        picture = _read(source, recipe)
        if in_place and picture.frames > 1:
            raise PictureError(
                f"has {picture.frames} frames, of which only the first would stay; write it elsewhere with -o"
            )
        copies = COPIES.get(file_format, 0)
        check_memory(recipe.memory((picture.color.shape[2], *picture.size), copies=copies), max_memory)
        product = _from_picture(picture, file_format, recipe, split, watch)
        if in_place and product.sheet:
            raise PictureError("its feature maps are no picture, and can't replace it; write them elsewhere with -o")
        return product


class Planned(NamedTuple):
    """What a header tells of an input's run: about how many bytes it takes at most, and how many channels come out."""

    memory: int
    parts: int


def planned_shape(source: Source, file_format: str, recipe: Recipe) -> Planned | None:
    """What is known before an input is read; None for what comes through a pipe or as text."""
    if source.path is None or not source.path.is_file():
        return None
    if not source.is_array:
        shape, alpha = read_shape(source.path, recipe.max_pixels)
        rows = recipe.rows(shape)
        return Planned(
            recipe.memory(shape, copies=COPIES.get(file_format, 0)),
            rows[-1].output[0] + (alpha and goes_with_alpha(recipe, rows)),
        )
    if source.path.suffix.lower() != ".npy":
        return None
    with source.path.open("rb") as file:
        claimed, _ = read_npy_header(file)
    return _array_shape(claimed, file_format, recipe) if len(claimed) in (2, 3, 4) and 0 not in claimed else None


def _array_shape(shape: tuple[int, ...], file_format: str, recipe: Recipe) -> Planned:
    items, one = prod(shape[:-3]), ((1, *shape)[-3], shape[-2], shape[-1])
    memory = recipe.memory(one, 8, items, COPIES.get(file_format, 0))
    return Planned(memory, items * recipe.rows(one)[-1].output[0])


def check_memory(needed: float, most: float) -> None:
    """Raise PictureError for what would take more memory than it may."""
    if needed > most:
        raise PictureError(
            f"it would take about {format_bytes(needed)}, more than {format_bytes(most)};"
            " raise --max-memory, or begin with a stride or a pool"
        )


def _from_picture(source: Picture, file_format: str, recipe: Recipe, split: bool, watch: Watcher | None) -> Product:
    channels = planned_rows(source, recipe)[-1].output[0]
    veiled_gray = channels == source.pixels.shape[2] == 2 and source.alpha and recipe.alpha is Alpha.FILTER
    maps = channels not in PICTURE_CHANNELS and not veiled_gray and not split
    floats = file_format in ARRAY_FORMATS or (file_format == "TIFF" and recipe.range is Range.NONE) or maps
    picture, outcome = filter_picture(source, recipe, keep_floats=floats, watch=watch)
    if file_format in ARRAY_FORMATS:
        return Product(_each(picture.to_array(), split, _array_encoder(file_format)), outcome, picture.notices)
    if maps:
        parts, notices = _maps(np.moveaxis(picture.pixels, 2, 0), file_format, recipe)
        return Product(parts, outcome, (*picture.notices, *notices), sheet=True)
    if picture.pixels.dtype.kind == "f" and not floats and (file_format != "TIFF" or picture.pixels.shape[2] > 1):
        picture, _ = store_picture(picture, Range.NONE, np.uint8)
    return _encoded(picture, file_format, recipe, split, outcome)


def _from_array(array: Array, file_format: str, recipe: Recipe, split: bool, watch: Watcher | None) -> Product:
    if file_format in ARRAY_FORMATS:
        array, outcome = filter_array(array, recipe, watch=watch)
        return Product(_each(array, split, _array_encoder(file_format)), outcome)
    if array.dtype.kind in "iu" and array.dtype not in (np.uint8, np.uint16):
        raise PictureError(f"what white is in {array.dtype} isn't known; save the array as uint8, uint16 or fractions")
    depth = array.dtype if array.dtype.kind == "u" else np.dtype(np.uint8)
    unit = float(np.iinfo(depth).max) if array.dtype == depth else 1.0
    result, outcome = filter_array(array, replace(recipe, range=Range.NONE), unit=unit, watch=watch)
    if result.ndim == 3 and len(result) not in PICTURE_CHANNELS and not split:
        parts, notices = _maps(result / unit, file_format, recipe)
        return Product(parts, outcome, notices)
    choice = recipe.range or Range.CLIP
    picture, extent = store_picture(picture_from_array(result, unit, any_channels=split), choice, depth)
    return _encoded(picture, file_format, recipe, split, outcome._replace(extent=extent, unit=unit, range=choice))


def _encoded(picture: Picture, file_format: str, recipe: Recipe, split: bool, outcome: Outcome) -> Product:
    """A picture in a format, or each of its channels as a grey one."""
    pictures = [picture]
    if split:
        channels = range(picture.pixels.shape[2])
        pictures = [replace(picture, pixels=picture.pixels[..., one : one + 1], alpha=False) for one in channels]
    pictures = [fit_for(one, file_format) for one in pictures]
    parts = tuple(encode(one, file_format, recipe.threads) for one in pictures)
    return Product(parts, outcome, pictures[0].notices)


def _maps(maps: Array, file_format: str, recipe: Recipe) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """Feature maps ``(C, H, W)`` as pages of numbers or on a sheet, each in its own range unless one was asked for."""
    if file_format == "TIFF":
        return (encode_pages(maps),), ()
    from convcli.images.sheet import contact_sheet

    title = f"{len(maps)} maps of {maps.shape[1]}x{maps.shape[2]}"
    sheet = contact_sheet(maps, title=title, stretch=recipe.range is None)
    sheet = fit_for(sheet, file_format)
    return (encode(sheet, file_format, recipe.threads),), sheet.notices


def _each(array: Array, split: bool, encoder: Callable[[Array], bytes]) -> tuple[bytes, ...]:
    if not split:
        return (encoder(array),)
    return tuple(encoder(one) for one in array.reshape(-1, *array.shape[-2:]))


def _array_encoder(file_format: str) -> Callable[[Array], bytes]:
    def encoder(array: Array) -> bytes:
        buffer = io.BytesIO()
        if file_format == "NPY":
            np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        elif file_format == "NPZ":
            np.savez(buffer, maps=np.ascontiguousarray(array))
        else:
            return format_array(array, "," if file_format == "CSV" else " ").encode()
        return buffer.getvalue()

    return encoder


def _read(source: Source, recipe: Recipe) -> Picture:
    if source.path is not None:
        return read_picture(source.path, recipe.max_pixels)
    data = read_all(sys.stdin.buffer)
    if not data:
        raise PictureError("nothing came in on standard input")
    return read_picture(data, recipe.max_pixels)


def read_numbers(source: Source, recipe: Recipe) -> Array:
    """The array of a matrix file or an inline matrix."""
    if source.text is not None:
        array = parse_matrix(source.text)
    elif source.path is not None:
        array = read_array(source.path, 4 * recipe.max_pixels)
    else:
        raise PictureError("is not a file")
    if not 2 <= array.ndim <= 4 or array.size == 0:
        raise PictureError(f"an array must be (H, W), (C, H, W) or (N, C, H, W) and not empty, not {array.shape}")
    if array.shape[-1] * array.shape[-2] > recipe.max_pixels:
        raise PictureError(
            f"it has {array.shape[-2]}x{array.shape[-1]} values, more than --max-pixels {recipe.max_pixels:,}"
        )
    return array
