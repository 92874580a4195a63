"""``convcli learn BEFORE AFTER -k HxW|auto``: the kernel that turns one picture into another."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcli.cli.options import (
    GrayOpt,
    JsonOpt,
    LearnPaddingOpt,
    MaxPixelsOpt,
    OverwriteOpt,
    QuietOpt,
    StrideOpt,
    ThreadsOpt,
    file_option,
    option,
    option_parser,
)
from convcli.cli.targets import check_target, write_target
from convcli.errors import ConvcliError, PictureError, ShapeError, one_line
from convcli.kernels.reading import read_kernel
from convcli.kernels.writing import PLAIN_SUFFIXES, RICH_SUFFIXES, kernel_bytes
from convcli.matrices import format_array, parse_matrix, read_array
from convcli.places import local_path
from convcli.sources import exists, find_sources
from convcli.values import parse_sizes
from convcli.words import AUTO, MAX_PIXELS, STEPS, ExitStatus, Learning

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convcli.engine.shapes import Pair
    from convcli.learning.learn import Fit, Task
    from convcli.learning.moments import Example

LONGEST_NAME = 40
PAUSE = 0.5  # seconds between words about progress


@option_parser
def parse_size(text: str) -> "Pair | str":
    """``3x3``, ``3`` or ``auto``."""
    if text == AUTO:
        return text
    sizes = parse_sizes(text, (1, 2), "x", "HxW, N or auto")
    if not all(1 <= one <= 99 for one in sizes):
        raise ConvcliError(f"must be from 1x1 to 99x99, not {text!r}")
    return sizes[0], sizes[-1]


_FIT, _KNOWN = "How to fit", "What is known"


def learn_command(
    before: Annotated[
        str, typer.Argument(metavar="BEFORE", help="A picture, a matrix, or a folder.", show_default=False)
    ],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="What became of it.", show_default=False)],
    size: Annotated[
        Any,
        typer.Option(
            "-k",
            "--kernel",
            metavar="HxW|auto",
            help="The kernel's size, or auto.",
            parser=parse_size,
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        file_option("Kernel file: .json .toml .npy .npz .csv .txt"),
    ] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("--pair", metavar="A B", help="One more pair; may be given again.")
    ] = None,
    gray: GrayOpt = False,
    padding: LearnPaddingOpt = None,
    stride: StrideOpt = "1",
    method: Annotated[
        Learning, option(_FIT, "--method HOW", "lstsq, or gd: gradient descent.", show_default=True)
    ] = Learning.LEAST_SQUARES,
    steps: Annotated[int, option(_FIT, "--steps N", "Of gd.", min=1, show_default=True)] = STEPS,
    rate: Annotated[float | None, option(_FIT, "--lr R", "Step of gd on the summed error; else a safe one.")] = None,
    init: Annotated[str | None, option(_FIT, "--init KERNEL", "Where gd starts; else random.")] = None,
    seed: Annotated[int, option(_FIT, "--seed N", "Of the random start.", min=0, show_default=True)] = 0,
    plot: Annotated[Path | None, option(_FIT, "--plot FILE", "The loss of gd as a picture.")] = None,
    keep_clipped: Annotated[bool, option(_FIT, "--keep-clipped", "Heed pixels at 0 and white, too.")] = False,
    bias: Annotated[bool, option(_KNOWN, "--bias", "Something is added, too.")] = False,
    per_channel: Annotated[bool, option(_KNOWN, "--per-channel", "Each channel has a kernel of its own.")] = False,
    layer: Annotated[bool, option(_KNOWN, "--layer", "A weight sums all channels.")] = False,
    non_negative: Annotated[bool, option(_KNOWN, "--non-negative", "No weight is below 0.")] = False,
    symmetric: Annotated[bool, option(_KNOWN, "--symmetric", "Turned by 180 degrees, it is the same.")] = False,
    sum_to_one: Annotated[bool, option(_KNOWN, "--sum-to-one", "The weights sum to 1.")] = False,
    json_lines: JsonOpt = False,
    quiet: QuietOpt = False,
    force: OverwriteOpt = False,
    max_pixels: MaxPixelsOpt = MAX_PIXELS,
    threads: ThreadsOpt = None,
) -> int:
    """Learn the kernel that turns one picture into another.

    Example: `convcli learn photo.png photo-emboss.png -k 3x3 -o emboss.json`
    """
    from convcli.learning.fitting import Wish
    from convcli.learning.learn import Task, learn
    from convcli.learning.moments import nobody
    from convcli.learning.report import record, sentences

    task = Task(
        size=None if size == AUTO else size,
        method=method,
        wish=Wish(bias=bias, non_negative=non_negative, symmetric=symmetric, sum_to_one=sum_to_one),
        padding=padding,
        stride=stride,
        per_channel=per_channel,
        layer=layer,
        steps=steps,
        rate=rate,
        start=_start(init),
        seed=seed,
        threads=threads,
        tell=_Progress() if sys.stderr.isatty() and not quiet else nobody,
    )
    task.check()
    names = [*_pairs(before, after), *(pair for one in pairs or () for pair in _pairs(*one.split("\0")))]
    _check_files(output, plot, task, [Path(name) for pair in names for name in pair], force=force)
    try:
        examples = [_example(*pair, gray, keep_clipped, max_pixels) for pair in names]
        fit = learn(examples, task)
    except (PictureError, ShapeError) as error:
        named = (
            str(error) if any(one in str(error) for pair in names for one in pair) else f"{before}, {after}: {error}"
        )
        print(f"convcli: {one_line(named)}", file=sys.stderr)
        return ExitStatus.FAILED
    made = f"learned from {_short(names[0][0])} and {_short(names[0][1])}"
    made += f" and {len(names) - 1} more" if len(names) > 1 else ""
    if output:
        how = f"{fit.method}, {len(fit.loss)} steps of {fit.rate:.6g}" if fit.rate else str(fit.method)
        said = f"{made}, {how}, R2 {fit.r2:.6f}"
        write_target("-o", output, kernel_bytes(fit.kernel, fit.bias, said, output.suffix.lower()), force)
    if plot:
        write_target("--plot", plot, _drawn(fit, made, plot), force)
    if json_lines:
        print(json.dumps(record(fit)))
    else:
        print(output or format_array(fit.kernel).rstrip())
    if not quiet:
        for line in sentences(fit, made):
            print(one_line(line), file=sys.stderr)
    return ExitStatus.INTERRUPTED if fit.interrupted else ExitStatus.DONE


class _Progress:
    """A line on a terminal that says how far a step of the work is, and is wiped when it is done."""

    def __init__(self) -> None:
        self.said = time.monotonic()

    def __call__(self, share: float) -> None:
        if share >= 1:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.said > PAUSE:
            self.said = time.monotonic()
            print(f"\rlearning {share:.0%}", end="", file=sys.stderr, flush=True)


def _short(name: str) -> str:
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 3]}..." if name.startswith("[") else f"...{name[3 - LONGEST_NAME :]}"


def _start(init: str | None) -> Any:
    if init is None:
        return None
    try:
        return read_kernel(init).matrix()
    except ConvcliError as error:
        raise ConvcliError(f"--init: {error}") from None


def _check_files(output: Path | None, plot: Path | None, task: "Task", kept: list[Path], *, force: bool) -> None:
    from convcli.images.formats import format_of

    if plot and task.method is not Learning.DESCENT:
        raise ConvcliError("--plot: draws the loss of --method gd")
    if plot and format_of(plot).is_array:
        raise ConvcliError(f"--plot: {plot} must be a picture, as in {plot.stem}.png")
    for flag, path in (("-o", output), ("--plot", plot)):
        if path:
            check_target(flag, path, kept, force)
    if not output:
        return
    kinds = (*RICH_SUFFIXES, *PLAIN_SUFFIXES)
    if output.suffix.lower() not in kinds:
        raise ConvcliError(f"-o: must end in {' '.join(kinds)}, not {str(output)!r}")
    if output.suffix.lower() in PLAIN_SUFFIXES and task.wish.bias:
        raise ConvcliError(f"-o: {output.suffix} has no place for a bias; write {' '.join(RICH_SUFFIXES)}")
    if output.suffix.lower() in (".csv", ".txt") and (task.layer or task.per_channel):
        raise ConvcliError(f"-o: {output.suffix} has no place for a weight; write .npy or {' '.join(RICH_SUFFIXES)}")


def _pairs(before: str, after: str) -> list[tuple[str, str]]:
    """A pair, or, of two folders, the pictures with the same names."""
    folders = sum(exists(path) and path.is_dir() for path in map(local_path, (before, after)))
    if folders == 0:
        return [(before, after)]
    if folders == 1:
        raise ConvcliError(f"{before} and {after}: give two pictures, or two folders with the same names in them")
    first, second = (
        {Path(one.name).name: one.name for one in find_sources([side]) if not one.problem} for side in (before, after)
    )
    names = sorted(first.keys() & second.keys())
    if not names:
        raise ConvcliError(f"{before} and {after} have no pictures of the same name")
    return [(first[name], second[name]) for name in names]


def _example(before: str, after: str, gray: bool, keep_clipped: bool, max_pixels: int) -> "Example":
    """A pair of files as codes; PictureError that names the one that can't be read."""
    from convcli.learning.moments import Example

    (one, white, _), (other, other_white, picture) = (_codes(name, gray, max_pixels) for name in (before, after))
    limits = (0.0, other_white) if picture and not keep_clipped else None
    return Example(one, other, (white, other_white), limits, f"{before}, {after}")


def _codes(name: str, gray: bool, max_pixels: int) -> "tuple[NDArray[Any], float, bool]":
    """Channels ``(C, H, W)``, the code of white, and whether this is a picture, whose codes end there."""
    import numpy as np

    from convcli.images.reading import read_picture

    (source,) = find_sources([name])
    try:
        if source.problem:
            raise PictureError(source.problem)
        if source.is_array:
            array = read_array(source.path, max_pixels) if source.path else parse_matrix(source.text or "")
            if array.ndim not in (2, 3):
                raise PictureError(f"must be (H, W) or (C, H, W), not {array.shape}")
            return array.reshape(-1, *array.shape[-2:]), 1.0, False
        if source.path is None:
            raise PictureError("standard input can't be one of two pictures; give files")
        picture = read_picture(source.path, max_pixels).without_alpha()
    except ConvcliError as error:
        raise PictureError(f"{name}: {error}") from None
    picture = picture.gray() if gray else picture
    return np.moveaxis(picture.pixels, 2, 0), picture.white, picture.pixels.dtype.kind != "f" or gray


def _drawn(fit: "Fit", made: str, path: Path) -> bytes:
    from convcli.images.formats import format_of
    from convcli.images.plot import loss_curve
    from convcli.images.writing import encode

    pieces, _ = encode(loss_curve(fit.loss, f"summed squared error, {made}"), format_of(path))
    return b"".join(pieces)
