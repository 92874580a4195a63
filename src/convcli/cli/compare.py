"""``convcli compare A B``."""

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from convcli.cli.options import JsonOpt, MaxPixelsOpt, OverwriteOpt, file_option, parse_local
from convcli.cli.targets import check_target, picture_format, write_target
from convcli.errors import PictureError, ShapeError, one_line
from convcli.words import MAX_PIXELS, ExitStatus


def compare_command(
    one: Annotated[Any, typer.Argument(metavar="A", help="A picture.", parser=parse_local, show_default=False)],
    other: Annotated[
        Any, typer.Argument(metavar="B", help="Another of the same size.", parser=parse_local, show_default=False)
    ],
    output: Annotated[Path | None, file_option("The differences as a picture.")] = None,
    json_lines: JsonOpt = False,
    force: OverwriteOpt = False,
    max_pixels: MaxPixelsOpt = MAX_PIXELS,
) -> int:
    """Say how far two pictures are apart: greatest and mean difference, PSNR, SSIM.

    Example: `convcli compare photo.png photo.jpg -o difference.png`
    """
    from convcli.compare import compare
    from convcli.images.reading import read_picture
    from convcli.images.writing import encode

    file_format = picture_format("-o", output) if output else None
    if output:
        check_target("-o", output, [one, other], force)
    pictures = []
    for path in (one, other):
        try:
            pictures.append(read_picture(path, max_pixels))
            for notice in pictures[-1].notices:
                print(f"convcli: {one_line(str(path))}: {notice}", file=sys.stderr)
        except PictureError as error:
            print(f"convcli: {one_line(str(path))}: {one_line(str(error))}", file=sys.stderr)
            return ExitStatus.FAILED
    try:
        found, difference = compare(*pictures)
        drawn, _ = encode(difference, file_format) if file_format else ([], [])
    except (PictureError, ShapeError) as error:
        print(f"convcli: {one_line(f'{one}, {other}: {error}')}", file=sys.stderr)
        return ExitStatus.FAILED
    if output:
        write_target("-o", output, drawn, force)
    psnr = found.psnr if math.isfinite(found.psnr) else None
    if json_lines:
        print(json.dumps(found._asdict() | {"psnr": psnr}))
        return ExitStatus.DONE
    if psnr is None:
        print("equal")
        return ExitStatus.DONE
    row, column, channel = found.place
    print(f"greatest difference  {found.greatest:.6g} at row {row}, column {column}, channel {channel}")
    print(f"mean difference      {found.mean:.6g}, root mean square {found.rms:.6g}")
    print(f"pixels that differ   {100 * found.differing:.3g} %")
    print(f"PSNR                 {psnr:.2f} dB")
    print(f"SSIM                 {'needs 11x11 pixels' if found.ssim is None else f'{found.ssim:.6f}'}")
    return ExitStatus.DONE
