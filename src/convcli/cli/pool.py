"""``convcli pool INPUT... --max 2 | --avg 3x3 | --min 2``."""

from typing import Annotated, Any

import typer

from convcli.cli.apply import apply
from convcli.cli.checks import Asked
from convcli.cli.options import (
    CommonOptions,
    DilationOpt,
    InputsArg,
    PoolPaddingOpt,
    StrideOpt,
    command,
    parse_pair,
)
from convcli.errors import ConvcliError
from convcli.layers import Pool
from convcli.words import Reduce


def _size(flag: str, help_text: str) -> Any:
    return typer.Option(flag, help=help_text, metavar="N|HxW", parser=parse_pair, show_default=False)


@command
def pool_command(
    inputs: InputsArg,
    common: CommonOptions,
    greatest: Annotated[Any, _size("--max", "The greatest value of each window.")] = None,
    mean: Annotated[Any, _size("--avg", "Its mean.")] = None,
    least: Annotated[Any, _size("--min", "Its least value.")] = None,
    ceil: Annotated[bool, typer.Option("--ceil", help="Count a last, partial window too.")] = False,
    exclude_pad: Annotated[bool, typer.Option("--exclude-pad", help="Leave pads out of the mean.")] = False,
    padding: PoolPaddingOpt = "0",
    stride: StrideOpt = None,
    dilation: DilationOpt = "1",
) -> int:
    """Pool: one value for each window, which steps by its own size.

    Example: `convcli pool photo.png --max 2`
    """
    asked = {Reduce.MAX: greatest, Reduce.AVG: mean, Reduce.MIN: least}
    chosen = [reduce for reduce, size in asked.items() if size is not None]
    if len(chosen) != 1:
        raise ConvcliError("pool: give one of --max, --avg and --min, as in --max 2")
    if chosen[0] is not Reduce.AVG and exclude_pad:
        raise ConvcliError("--exclude-pad: goes with --avg")
    if chosen[0] is Reduce.AVG and dilation != (1, 1):
        raise ConvcliError("--dilation: goes with --max and --min")
    layer = Pool(
        reduce=chosen[0],
        size=asked[chosen[0]],
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil=ceil,
        count_pads=not exclude_pad,
    )
    return apply("pool", inputs, common, lambda: Asked((layer,)))
