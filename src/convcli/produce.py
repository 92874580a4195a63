"""From what was read to the bytes of its result: run through a recipe, made into files.

One, three or four channels are a picture. Any other number are feature maps: a contact sheet, or the exact numbers in
an array file or the pages of a TIFF, or, if they are split, a file for each channel.
"""

import io
from collections.abc import Collection
from dataclasses import replace
from math import inf, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcli.chain import Watcher
from convcli.engine.store import Extent
from convcli.errors import PictureError
from convcli.filtering import filter_array, filter_picture, goes_with_alpha, planned_rows, store_picture
from convcli.images.formats import Format
from convcli.images.picture import Frames, Picture, picture_from_array, white_of
from convcli.images.reading import read_header
from convcli.images.writing import WHITE_16, Encoding, encode
from convcli.layers import Row
from convcli.matrices import format_array, read_npy_header
from convcli.places import is_remote
from convcli.recipe import Outcome, Recipe
from convcli.sources import Source
from convcli.values import format_bytes
from convcli.words import Alpha, Depth, Range

Array = NDArray[Any]

CHANNEL, FRAME = "channel", "frame"  # what may be split into files of their own
PICTURE_CHANNELS = (1, 3, 4)
DTYPES = {Depth.EIGHT: np.uint8, Depth.SIXTEEN: np.uint16, Depth.FLOAT: np.float32}


class Task(NamedTuple):
    """What is to become of an input: a recipe, a format, and what has a file of its own (``channel``, ``frame``)."""

    recipe: Recipe
    target: Format
    encoding: Encoding = Encoding()
    split: Collection[str] = ()
    in_place: bool = False
    max_memory: float = inf


class Part(NamedTuple):
    """The pieces of one file, and which channel and frame it is of."""

    pieces: list[bytes]
    channel: int = 0
    frame: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.pieces))


class Product(NamedTuple):
    """The files of a result, what happened, what there is to say of this input and of every one like it, and a
    picture of it to look at."""

    parts: list[Part]
    outcome: Outcome
    notices: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    picture: Picture | None = None


def produce_from_frames(
    frames: Frames, task: Task, *, first: int = 0, chosen: bool = False, watch: Watcher | None = None
) -> Product:
    """The result of a file's pictures, which are used up. ``first`` is the number of the first of them, and whether
    that was ``chosen``.

    Raises ConvcliError for what one input can do wrong.
    """
    recipe, remarks = task.recipe, list[str]()
    pictures = frames.pictures
    colors = pictures[0].color.shape[2], *pictures[0].size
    if task.max_memory < inf:
        check_memory(recipe.memory(colors, items=len(pictures), copies=task.target.copies), task.max_memory)
    if task.in_place and frames.count > 1 and (chosen or not _holds(task.target, frames)):
        raise PictureError(f"has {frames.count} frames, of which one would stay; write it elsewhere with -o")
    if frames.count > 1 and not chosen and FRAME not in task.split and not _holds(task.target, frames):
        del pictures[1:]
        remarks.append(f"only the first of its frames fits into {task.target.name}; --frame N takes another")
    lost = pictures[0].white == WHITE_16 and not {Depth.SIXTEEN, Depth.FLOAT} & set(task.target.depths)
    with np.errstate(all="ignore"):
        whole = _whole_extent(pictures, recipe) if len(pictures) > 1 and recipe.range is Range.MINMAX else None
        results, outcomes, notices = list[list[Picture]](), list[Outcome](), list[str]()
        while pictures:
            made, outcome, said = _develop(pictures.pop(0), task, whole, watch if not outcomes else None)
            results.append(made)
            outcomes.append(outcome)
            notices += [one for one in said if one not in notices]
    if lost and recipe.depth is None:
        remarks.append(f"16 bits brought to 8 for {task.target.name}")
    extent = Extent()
    for one in outcomes:
        extent.merge(one.extent)
    parts = []
    for index, pages in _parted(results, task.split):
        pieces, more = _encode(replace(frames, pictures=pages, poster=frames.poster and len(pages) > 1), task)
        remarks += [one for one in more if one not in remarks]
        parts.append(Part(pieces, index[0], first + index[1]))
    outcome = outcomes[0]._replace(extent=extent)
    return Product(parts, outcome, tuple(notices), tuple(remarks), results[0][0])


def _holds(target: Format, frames: Frames) -> bool:
    """Whether a format can hold the frames: pages are no animation."""
    return target.pages or (target.frames and bool(frames.delays))


def _parted(results: list[list[Picture]], split: Collection[str]) -> list[tuple[tuple[int, int], list[Picture]]]:
    """The pictures of each file with its channel and frame; ``results`` holds each frame's pictures."""
    frames = [(number, [made]) for number, made in enumerate(results)] if FRAME in split else [(0, results)]
    channels = range(len(results[0])) if CHANNEL in split else [None]
    return [
        ((channel or 0, number), [one for made in some for one in (made if channel is None else [made[channel]])])
        for number, some in frames
        for channel in channels
    ]


def _whole_extent(pictures: list[Picture], recipe: Recipe) -> Extent:
    """What all frames together span, so that an animation does not flicker."""
    whole = Extent()
    for picture in pictures:
        whole.merge(filter_picture(picture, replace(recipe, range=Range.NONE), dtype=np.float32)[1].extent)
    return whole


def _develop(
    source: Picture, task: Task, whole: Extent | None, watch: Watcher | None
) -> tuple[list[Picture], Outcome, tuple[str, ...]]:
    """The pictures that one picture becomes: one, or a sheet, or one for each channel."""
    recipe, target = task.recipe, task.target
    channels = planned_rows(source, recipe)[-1].output[0]
    veiled_gray = channels == source.pixels.shape[2] == 2 and source.alpha and recipe.alpha is Alpha.FILTER
    maps = channels not in PICTURE_CHANNELS and not veiled_gray and CHANNEL not in task.split
    floats = target.is_array or maps
    dtype = np.float32 if floats else stored_dtype(source.pixels.dtype, recipe, target)
    usual = Range.NONE if floats else Range.CLIP
    picture, outcome = filter_picture(source, recipe, dtype=dtype, usual=usual, extent=whole, watch=watch)
    if maps and not target.is_array:
        if task.in_place:
            raise PictureError("its feature maps are no picture, and can't replace it; write them elsewhere with -o")
        pictures, more = _maps(np.moveaxis(picture.pixels, 2, 0), task)
        return pictures, outcome, (*picture.notices, *more)
    if CHANNEL not in task.split:
        return [picture], outcome, picture.notices
    one_by_one = [
        replace(picture, pixels=picture.pixels[..., one : one + 1], alpha=False)
        for one in range(picture.pixels.shape[2])
    ]
    return one_by_one, outcome, picture.notices


def stored_dtype(own: np.dtype[Any], recipe: Recipe, target: Format) -> Any:
    """How the result of a picture of some dtype is stored."""
    if recipe.depth is not None:
        return DTYPES[recipe.depth]
    if Depth.FLOAT in target.depths and (recipe.range is Range.NONE or own.kind == "f"):
        return np.float32
    return np.uint16 if own == np.uint16 and Depth.SIXTEEN in target.depths else np.uint8


def _maps(maps: Array, task: Task) -> tuple[list[Picture], tuple[str, ...]]:
    """Feature maps ``(C, H, W)`` as pages of numbers or on a sheet, each in its own range unless one was asked for."""
    if task.target.pages:
        return [Picture(one[..., None].astype(np.float32, copy=False), 1.0) for one in maps], ()
    from convcli.images.sheet import contact_sheet

    title = f"{len(maps)} maps of {maps.shape[1]}x{maps.shape[2]}"
    sheet = contact_sheet(maps, title=title, stretch=task.recipe.range is None)
    return [replace(sheet, notices=())], sheet.notices


def _encode(frames: Frames, task: Task) -> tuple[list[bytes], list[str]]:
    """The pieces of a file, an array's or a picture's."""
    if not task.target.is_array:
        return encode(frames, task.target, task.encoding)
    arrays = [one.to_array() for one in frames.pictures]
    if len(arrays) == 1:
        return [_array_bytes(arrays[0], task.target)], []
    if len({one.shape for one in arrays}) > 1:
        raise PictureError("its frames have different sizes, which one array can't hold; use {frame}")
    stacked = np.stack([one.reshape((1,) * (3 - one.ndim) + one.shape) for one in arrays])
    return [_array_bytes(stacked, task.target)], []


def produce_from_array(array: Array, task: Task, *, watch: Watcher | None = None) -> Product:
    """The result of plain numbers ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``.

    Raises ConvcliError for what one input can do wrong.
    """
    check_memory(_array_shape(array.shape, task).memory, task.max_memory)
    with np.errstate(all="ignore"):
        return _from_array(array, task, watch)


def _from_array(array: Array, task: Task, watch: Watcher | None) -> Product:
    recipe, target, split = task.recipe, task.target, CHANNEL in task.split
    if target.is_array:
        array, outcome = filter_array(array, recipe, watch=watch)
        pages = array.reshape(-1, *array.shape[-2:]) if split else [array]
        return Product([Part([_array_bytes(one, target)], number) for number, one in enumerate(pages)], outcome)
    if array.dtype.kind in "iu" and array.dtype not in (np.uint8, np.uint16):
        raise PictureError(f"what white is in {array.dtype} isn't known; save the array as uint8, uint16 or fractions")
    codes = array.dtype.kind == "u"
    unit = white_of(array.dtype) if codes else 1.0
    result, outcome = filter_array(array, replace(recipe, range=Range.NONE), unit=unit, watch=watch)
    if result.ndim == 3 and len(result) not in PICTURE_CHANNELS and not split:
        pictures, notices = _maps(result / unit, task)
        pieces, remarks = encode(Frames(pictures), target, task.encoding)
        return Product([Part(pieces)], outcome, notices, tuple(remarks), pictures[0])
    choice = recipe.range or Range.CLIP
    planes = picture_from_array(result, unit, any_channels=split)
    stored = stored_dtype(array.dtype, recipe, target)
    picture, extent = store_picture(planes, choice, stored)
    pictures = [picture]
    if split:
        channels = range(picture.pixels.shape[2])
        pictures = [replace(picture, pixels=picture.pixels[..., one : one + 1], alpha=False) for one in channels]
    made = [encode(one, target, task.encoding) for one in pictures]
    outcome = outcome._replace(extent=extent, unit=unit, range=choice)
    parts = [Part(pieces, number) for number, (pieces, _) in enumerate(made)]
    return Product(parts, outcome, (), tuple(made[0][1]), pictures[0])


class Planned(NamedTuple):
    """What a header tells of an input's run: about how many bytes it takes at most, its shape report, how many channels
    come out, and how many frames there are."""

    memory: int
    rows: tuple[Row, ...]
    channels: int
    frames: int = 1


def planned_shape(source: Source, task: Task, frame: int | None) -> Planned | None:
    """What is known before an input is read; None for what comes through a pipe or as text."""
    if source.path is None or not (is_remote(source.path) or source.path.is_file()):
        return None
    if not source.is_array:
        header = read_header(source.path, task.recipe.max_pixels, frame=frame)
        veil = header.alpha and task.recipe.alpha is Alpha.FILTER
        shape = (header.shape[0] + veil, *header.shape[1:])
        rows = task.recipe.rows(shape)
        return Planned(
            task.recipe.memory(shape, items=header.frames, copies=task.target.copies),
            tuple(rows),
            rows[-1].output[0] + (header.alpha and goes_with_alpha(task.recipe, rows)),
            header.frames,
        )
    if source.path.suffix.lower() != ".npy":
        return None
    with source.path.open("rb") as file:
        claimed, _ = read_npy_header(file)
    return _array_shape(claimed, task) if len(claimed) in (2, 3, 4) and 0 not in claimed else None


def _array_shape(shape: tuple[int, ...], task: Task) -> Planned:
    items, one = prod(shape[:-3]), ((1, *shape)[-3], shape[-2], shape[-1])
    rows = task.recipe.rows(one)
    return Planned(task.recipe.memory(one, 8, items, task.target.copies), tuple(rows), items * rows[-1].output[0])


def check_memory(needed: float, most: float) -> None:
    """Raise PictureError for what would take more memory than it may."""
    if needed > most:
        raise PictureError(
            f"it would take about {format_bytes(needed)}, more than {format_bytes(most)};"
            " raise --max-memory, or begin with a stride or a pool"
        )


def _array_bytes(array: Array, target: Format) -> bytes:
    buffer = io.BytesIO()
    if target.name == "NPY":
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    elif target.name == "NPZ":
        np.savez(buffer, maps=np.ascontiguousarray(array))
    else:
        return format_array(array, "," if target.name == "CSV" else " ").encode()
    return buffer.getvalue()
