"""``convcli gallery INPUT``: every named filter on one labelled sheet."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcli.cli.options import GrayOpt, MaxPixelsOpt, OverwriteOpt, RangeOpt, file_option, parse_local
from convcli.cli.targets import check_target, picture_format, write_target
from convcli.errors import PictureError, one_line
from convcli.kernels.named import NAMED
from convcli.words import MAX_PIXELS, ExitStatus, Range

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convcli.images.picture import Picture

TILE = 320  # pixels of the longer side, to which the picture is shrunk before the filters


def gallery_command(
    picture: Annotated[Any, typer.Argument(metavar="INPUT", help="A picture.", parser=parse_local, show_default=False)],
    output: Annotated[
        Path | None,
        file_option("Else beside it."),
    ] = None,
    value_range: RangeOpt = None,
    gray: GrayOpt = False,
    force: OverwriteOpt = False,
    max_pixels: MaxPixelsOpt = MAX_PIXELS,
) -> int:
    """Show what every named filter makes of a picture, shrunk to a tile, on one sheet.

    Example: `convcli gallery photo.jpg`
    """
    import numpy as np

    from convcli.images.reading import read_picture
    from convcli.images.sheet import PAPER, contact_sheet
    from convcli.images.writing import encode, laid_over

    target = output or picture.parent / f"{picture.stem or 'picture'}.gallery.png"
    file_format = picture_format("-o", target)
    check_target("-o", target, [picture], force)
    try:
        read = read_picture(picture, max_pixels)
        for notice in read.notices:
            print(f"convcli: {one_line(str(picture))}: {notice}", file=sys.stderr)
        source = _shrunk(laid_over(read, (PAPER[0] / 255, PAPER[1] / 255, PAPER[2] / 255)))
        tiles = [source.fractions(), *(_filtered(source, name, value_range, gray) for name in NAMED)]
        colors = np.stack([np.broadcast_to(one, (*one.shape[:2], 3)) for one in tiles])
        sheet = contact_sheet(colors, title=picture.name, labels=["the picture", *NAMED], stretch=False)
        data, _ = encode(sheet, file_format)
    except PictureError as error:
        print(f"convcli: {one_line(str(picture))}: {one_line(str(error))}", file=sys.stderr)
        return ExitStatus.FAILED
    write_target("-o", target, data, force)
    print(target)
    return ExitStatus.DONE


def _shrunk(picture: "Picture") -> "Picture":
    """Means of blocks, so that the longer side is a tile's."""
    from dataclasses import replace

    import numpy as np

    from convcli.engine.pool import avg_pool2d

    factor = -(-max(picture.size) // TILE)
    if factor == 1:
        return picture
    height, width = (side // factor * factor or side for side in picture.size)
    planes = np.moveaxis(picture.pixels[:height, :width], 2, 0)
    means = avg_pool2d(planes, (min(factor, height), min(factor, width)))
    return replace(picture, pixels=np.moveaxis(means, 0, 2).astype(np.float32))


def _filtered(picture: "Picture", name: str, value_range: "Range | None", gray: bool) -> "NDArray[Any]":
    """What the command of a name gives, as fractions of white."""
    import numpy as np

    from convcli.filtering import filter_picture
    from convcli.kernels.reading import read_kernel
    from convcli.layers import Filter
    from convcli.recipe import Recipe

    recipe = Recipe((Filter(kernel=read_kernel(name)),), range=value_range or Range.CLIP, gray=gray)
    result, _ = filter_picture(picture, recipe, dtype=np.float32)
    return result.fractions()
