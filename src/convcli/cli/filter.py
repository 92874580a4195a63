"""``convcli NAME INPUT...`` for every named filter, and ``convcli filter INPUT... -k KERNEL``."""

import json
import sys
from collections.abc import Callable
from typing import Any

import typer

from convcli.cli.apply import apply
from convcli.cli.checks import Asked
from convcli.cli.options import (
    CommonOptions,
    InputsArg,
    KernelOpt,
    WindowOptions,
    command,
)
from convcli.cli.streams import check_stdin
from convcli.errors import ConvcliError
from convcli.kernels.named import Named
from convcli.kernels.reading import Kernel, read_kernel
from convcli.layers import Conv, Filter, Layer
from convcli.values import Amount, Measure
from convcli.words import Padding


@command
def filter_command(
    inputs: InputsArg,
    kernel: KernelOpt,
    window: WindowOptions,
    common: CommonOptions,
) -> int:
    """Apply your own kernel, or a layer's weight.

    Example: `convcli filter photo.png -k "1 0 -1; 2 0 -2; 1 0 -1" --range signed`
    """
    if kernel.strip() == "-":
        if "-" in inputs:
            raise ConvcliError("-k: the kernel and the input can't both be standard input")
        check_stdin("-k")

    def read() -> Kernel:
        import numpy as np

        try:
            asked = read_kernel(kernel, sys.stdin.buffer)
        except ConvcliError as error:
            raise ConvcliError(f"-k: {error}") from None
        if (kernel.strip() == "-" or asked.path) and asked.weights.size <= MAX_RECORDED and not asked.combine:
            numbers = {"kernel": asked.weights.tolist(), "bias": np.asarray(asked.bias).tolist()}
            common.typed["kernel"] = ["--kernel", json.dumps(numbers)]  # the file may be gone by then
        return asked

    return apply("filter", inputs, common, lambda: _ask(read(), window))


def named_command(named: Named) -> Callable[..., int]:
    """The command of a named filter; its arguments come with its own name, as in ``gaussian:2``."""

    @command
    def run(
        context: typer.Context,
        inputs: InputsArg,
        window: WindowOptions,
        common: CommonOptions,
    ) -> int:
        name = str(context.info_name)
        return apply(name, inputs, common, lambda: _ask(read_kernel(name), window))

    example = EXAMPLES.get(named.name, named.name)
    written = f"\n\nArguments and defaults: `{named.usage}`" if named.parameters else ""
    run.__doc__ = f"{named.summary[0].upper()}{named.summary[1:]}.{written}\n\nExample: `convcli {example} photo.jpg`"
    return run


MAX_RECORDED = 4096  # weights of a kernel that are written into a file by themselves
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


def _ask(kernel: Kernel, window: WindowOptions) -> Asked:
    if window.normalize:
        try:
            kernel = kernel.normalized()
        except ConvcliError as error:
            raise ConvcliError(f"--normalize: {error}") from None
    make: type[Filter | Conv] = Conv if kernel.is_layer else Filter
    given: dict[str, Any] = {
        "padding": window.padding,
        "boundary": window.boundary.value if isinstance(window.boundary, Amount) else window.boundary,
        "bias": window.bias and window.bias.value,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if kernel.is_layer and kernel.weights.shape[1] == 1:
        given["groups"] = None  # each channel by itself
    layer = make(
        kernel=kernel,
        stride=window.stride,
        dilation=window.dilation,
        flip=window.flip,
        keep_size=window.keep_size,
        **given,
    )
    if window.keep_size and layer.padding is Padding.VALID:
        raise ConvcliError("--keep-size: needs a padding to keep the size with, not valid; add -p same")
    layers: tuple[Layer, ...] = (layer, window.pool) if window.pool else (layer,)
    amounts = (("--bias", window.bias, -1.0), ("--boundary", window.boundary, 0.0))
    measures = [Measure(name, one, least) for name, one, least in amounts if isinstance(one, Amount)]
    return Asked(layers, measures, [kernel.path] if kernel.path else [])
