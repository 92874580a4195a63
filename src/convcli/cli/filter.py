"""``convcli NAME INPUT...`` for every named filter, and ``convcli filter INPUT... -k KERNEL``."""

import sys
from collections.abc import Callable

import typer

from convcli.cli.apply import Measure, apply
from convcli.cli.options import (
    Amount,
    FileOptions,
    InputsArg,
    KernelOpt,
    ReportOptions,
    ValueOptions,
    WindowOptions,
    command,
)
from convcli.cli.streams import check_stdin
from convcli.errors import ConvcliError
from convcli.kernels.named import Named
from convcli.kernels.reading import Kernel, read_kernel
from convcli.layers import Filter, Layer
from convcli.words import Boundary, Padding


@command
def filter_command(
    inputs: InputsArg,
    kernel: KernelOpt,
    window: WindowOptions,
    values: ValueOptions,
    files: FileOptions,
    report: ReportOptions,
) -> int:
    """Apply your own kernel, or a layer's weight.

    Example: `convcli filter photo.png -k "1 0 -1; 2 0 -2; 1 0 -1" --range signed`
    """
    if kernel.strip() == "-":
        if "-" in inputs:
            raise ConvcliError("-k: the kernel and the input can't both be standard input")
        check_stdin("-k")
    try:
        asked = read_kernel(kernel, sys.stdin.buffer)
    except ConvcliError as error:
        raise ConvcliError(f"-k: {error}") from None
    return _run("filter", asked, inputs, window, values, files, report)


def named_command(named: Named) -> Callable[..., int]:
    """The command of a named filter; its arguments come with its own name, as in ``gaussian:2``."""

    @command
    def run(
        context: typer.Context,
        inputs: InputsArg,
        window: WindowOptions,
        values: ValueOptions,
        files: FileOptions,
        report: ReportOptions,
    ) -> int:
        name = str(context.info_name)
        return _run(name, read_kernel(name), inputs, window, values, files, report)

    example = EXAMPLES.get(named.name, named.name)
    written = f"\n\nArguments and defaults: `{named.usage}`" if named.parameters else ""
    run.__doc__ = f"{named.summary[0].upper()}{named.summary[1:]}.{written}\n\nExample: `convcli {example} photo.jpg`"
    return run


EXAMPLES = {
    "box": "box:5",
    "blur": "blur:9",
    "binomial": "binomial:5",
    "gaussian": "gaussian:2",
    "motion": "motion:size=15,angle=30",
    "disk": "disk:5",
    "unsharp": "unsharp:sigma=2,amount=1.5",
    "log": "log:1.4",
    "dog": "dog:1,2",
    "sobel-x": "sobel-x --range signed",
}


def _run(
    name: str,
    kernel: Kernel,
    inputs: list[str],
    window: WindowOptions,
    values: ValueOptions,
    files: FileOptions,
    report: ReportOptions,
) -> int:
    if window.normalize:
        try:
            kernel = kernel.normalized()
        except ConvcliError as error:
            raise ConvcliError(f"--normalize: {error}") from None
    usual = (Padding.VALID, Boundary.ZERO) if kernel.is_layer else (Padding.SAME, Boundary.REFLECT)
    boundary = usual[1] if window.boundary is None else window.boundary
    constant = boundary if isinstance(boundary, Amount) else None
    layer = Filter(
        kernel=kernel,
        padding=usual[0] if window.padding is None else window.padding,
        boundary=constant.value if constant else boundary,
        stride=window.stride,
        dilation=window.dilation,
        bias=0.0 if window.bias is None else window.bias.value,
        flip=window.flip,
        keep_size=window.keep_size,
    )
    if window.keep_size and layer.padding is Padding.VALID:
        raise ConvcliError("--keep-size: needs a padding to keep the size with, not valid; add -p same")
    layers: tuple[Layer, ...] = (layer, window.pool) if window.pool else (layer,)
    measures = (Measure("--bias", window.bias, -1.0), Measure("--boundary", constant, 0.0))
    return apply(name, inputs, layers, values, files, report, measures, [kernel.path] if kernel.path else [])
