"""``convcli shape SIZE PIPELINE``: the arithmetic alone, no image."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcli.cli.options import OverwriteOpt, PipelineArg, ReportFileOpt, file_option, option_parser
from convcli.cli.targets import check_target, write_target
from convcli.errors import ConvcliError
from convcli.layers import Row, Shape
from convcli.values import parse_sizes

if TYPE_CHECKING:
    from convcli.pipeline import Pipeline

LARGEST = 10**9


def _parse_size(text: str) -> Shape:
    """``224x224`` or ``3x224x224``."""
    try:
        sizes = parse_sizes(text, (2, 3), "x", "HxW or CxHxW, as in 3x224x224")
    except ConvcliError as error:
        raise ConvcliError(f"SIZE: {error}") from None
    if not all(1 <= one <= LARGEST for one in sizes):
        raise ConvcliError(f"SIZE: must be from 1 to {LARGEST:,} each way, not {text!r}")
    channels, height, width = sizes if len(sizes) == 3 else [1, *sizes]
    return channels, height, width


@option_parser
def parse_place(text: str) -> tuple[int, int]:
    """``Y,X``, from 0."""
    y, x = parse_sizes(text, (2,), ",", "Y,X, as in 0,0")
    return y, x


def shape_command(
    size: Annotated[str, typer.Argument(metavar="SIZE", help="HxW or CxHxW.", show_default=False)],
    pipeline: PipelineArg,
    at: Annotated[
        Any, typer.Option("--at", metavar="Y,X", help="What one output sees of the input.", parser=parse_place)
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option("--overlay", metavar="IMG", help="Draw that on a picture, into -o.")
    ] = None,
    output: Annotated[Path | None, file_option("Where the overlay goes.")] = None,
    matrix: Annotated[bool, typer.Option("--matrix", help="Print one layer as a dense matrix.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    report: ReportFileOpt = None,
    force: OverwriteOpt = False,
) -> int:
    """Sizes, weights, work and receptive fields of a pipeline, without a picture.

    Example: `convcli shape 3x224x224 "conv 7x7 out=64 stride=2 padding=3 | relu | maxpool 2"`
    """
    from convcli.frameworks import same_sizes
    from convcli.pipeline import Pipeline
    from convcli.report import render_shapes, shape_notes, shapes_record

    shape, asked = _parse_size(size), Pipeline.parse(pipeline)
    rows = asked.shapes(shape)
    if overlay and at is None:
        raise ConvcliError("--overlay: draws what one output sees; say which with --at Y,X")
    if output and not overlay:
        raise ConvcliError("-o: is where --overlay draws; tables go to stdout or --report")
    if matrix:
        if report or at or overlay:
            raise ConvcliError("--matrix: goes with --json alone")
        print(_matrix(asked, shape, json_lines))
        return 0
    box = at and _box(rows[-1], at)
    notes = [*shape_notes(rows), same_sizes(asked.layers, shape), *([_sight(box, at, shape)] if box else [])]
    kept = asked.files
    files: dict[Path, tuple[str, bytes]] = {}
    if report:
        files[report] = "--report", render_shapes(rows, notes, report.suffix.lower()).encode()
    if overlay and box:
        output, drawn = _draw(overlay, output, box, shape)
        if output in files:
            raise ConvcliError(f"-o: {output} is the report's file, too")
        files[output] = "-o", drawn
        kept.append(overlay)
    for path, (option, _) in files.items():
        check_target(option, path, kept, force)
    for path, (option, data) in files.items():
        write_target(option, path, data, force)
    if json_lines:
        found = shapes_record(rows)
        found |= {"at": list(at), "box": list(box)} if box else {}
        print(json.dumps(found | ({"overlay": str(output)} if overlay else {})))
    else:
        print(render_shapes(rows, notes, ".txt") + (f"{output}\n" if overlay else ""), end="")
    return 0


def _box(row: Row, at: tuple[int, int]) -> tuple[int, int, int, int]:
    """First and last row and column of the input that an output sees; those of pads lie outside the picture."""
    ends = []
    for axis, name in enumerate(("row", "column")):
        if at[axis] >= row.output[axis + 1]:
            raise ConvcliError(f"--at: {name} {at[axis]} is none of the {row.output[axis + 1]} that come out, from 0")
        first = at[axis] * row.jump[axis] - row.effective_padding[axis]
        ends += [first, first + row.receptive_field[axis] - 1]
    return ends[0], ends[1], ends[2], ends[3]


def _sight(box: tuple[int, int, int, int], at: tuple[int, int], size: Shape) -> str:
    top, bottom, left, right = box
    text = f"output {at[0]},{at[1]} sees rows {top} to {bottom} and columns {left} to {right}"
    inside = max(top, 0), min(bottom, size[1] - 1), max(left, 0), min(right, size[2] - 1)
    if inside == box:
        return text
    if inside[0] > inside[1] or inside[2] > inside[3]:
        return f"{text}, all of them pads"
    return f"{text}; on the picture rows {inside[0]} to {inside[1]} and columns {inside[2]} to {inside[3]}"


def _matrix(pipeline: "Pipeline", size: Shape, as_json: bool) -> str:
    from convcli.unrolled import unrolled

    if len(pipeline.layers) != 1:
        raise ConvcliError(f"--matrix: takes a pipeline of one layer, not {len(pipeline.layers)}")
    try:
        rows = unrolled(pipeline.layers[0], size)
    except ConvcliError as error:
        raise ConvcliError(f"--matrix: {error}") from None
    if as_json:
        return json.dumps({"matrix": rows})
    cells = [[one if isinstance(one, str) else f"{one:.9g}" for one in row] for row in rows]
    width = max(len(one) for row in cells for one in row)
    return "\n".join(" ".join(one.rjust(width) for one in row) for row in cells)


def _draw(picture: Path, output: Path | None, box: tuple[int, int, int, int], size: Shape) -> tuple[Path, bytes]:
    """Where the overlay goes, and its bytes."""
    from convcli.images.formats import format_of
    from convcli.images.overlay import draw_box
    from convcli.images.reading import read_picture
    from convcli.images.writing import encode

    try:
        source = read_picture(picture)
    except ConvcliError as error:
        raise ConvcliError(f"--overlay: {picture}: {error}") from None
    if source.size != size[1:]:
        raise ConvcliError(f"--overlay: {picture} is {source.size[0]}x{source.size[1]}, not {size[1]}x{size[2]}")
    path = output or picture.with_name(f"{picture.stem}.shape.png")
    try:
        file_format = format_of(path)
        if file_format.is_array:
            raise ConvcliError(f"{path}: an overlay is a picture, as in {path.stem}.png")
        return path, b"".join(encode(draw_box(source, box), file_format)[0])
    except ConvcliError as error:
        raise ConvcliError(f"-o: {error}") from None
