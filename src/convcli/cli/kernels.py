"""``convcli kernels [NAME|FILE]``."""

import sys
from typing import Annotated

import typer

from convcli.cli.streams import check_stdin
from convcli.errors import ConvcliError, one_line
from convcli.kernels.named import NAMED
from convcli.kernels.reading import Kernel, read_kernel, sum_of


def kernels_command(
    kernel: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FILE]", help="Any KERNEL: a name, numbers or a file.", show_default=False),
    ] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> int:
    """List the named kernels, or print one and its sum.

    Example: `convcli kernels gaussian:2`
    """
    import json

    if kernel is None:
        print(json.dumps(_listing()) if json_lines else _list_text())
        return 0
    if kernel.strip() == "-":
        check_stdin("kernels")
    try:
        asked = read_kernel(kernel, sys.stdin.buffer)
    except ConvcliError as error:
        raise ConvcliError(f"kernels: {error}") from None
    print(json.dumps(_as_json(asked)) if json_lines else _as_text(asked))
    return 0


def _listing() -> list[dict[str, object]]:
    return [
        {
            "name": one.name,
            "panel": one.panel,
            "summary": one.summary,
            "arguments": {parameter.name: parameter.shown for parameter in one.parameters},
        }
        for one in NAMED.values()
    ]


def _list_text() -> str:
    lines = []
    width = max(len(one.usage) for one in NAMED.values())
    panel = ""
    for one in NAMED.values():
        if one.panel != panel:
            panel = one.panel
            lines += ["", panel]
        lines.append(f"  {one.usage:{width}}  {one.summary}")
    return "\n".join(lines[1:])


def _as_json(kernel: Kernel) -> dict[str, object]:
    bias = kernel.bias if isinstance(kernel.bias, float) else list(kernel.bias)
    data: dict[str, object] = {"name": kernel.name, "kernel": kernel.weights.tolist(), "bias": bias}
    data["sum"] = sum_of(kernel.weights)
    if kernel.combine:
        data["combine"] = kernel.combine
    if kernel.made:
        data["made"] = kernel.made
    return data


def _as_text(kernel: Kernel) -> str:
    """Rows that ``-k -`` reads again: what is no number stands behind a ``#``."""
    planes = kernel.weights.reshape(-1, *kernel.size)
    cells = [[["%.9g" % (one + 0.0) for one in row] for row in plane] for plane in planes]
    width = max(len(one) for plane in cells for row in plane for one in row)
    parts = []
    for plane, numbers in zip(cells, planes, strict=True):
        rows = [" ".join(one.rjust(width) for one in row) for row in plane]
        parts.append("\n".join([*rows, f"# sum {sum_of(numbers):.9g}"]))
    text = "\n\n".join(parts)
    if kernel.combine:
        how = "root of the sum of squares" if kernel.combine == "norm" else "maximum"
        text += f"\n# {kernel.name} is the {how} of these {len(planes)} responses"
    if kernel.bias is not None and not isinstance(kernel.bias, float):
        text += "\n# bias " + " ".join(f"{one:.9g}" for one in kernel.bias)
    elif kernel.bias:
        text += f"\n# bias {kernel.bias:.9g}"
    return text + (f"\n# {one_line(kernel.made)}" if kernel.made else "")
