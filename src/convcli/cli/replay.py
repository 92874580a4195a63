"""``convcli replay PNG INPUT...``: what made one picture, done to others."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from convcli.cli.options import OF_THE_RUN, CommonOptions, InputsArg, command
from convcli.errors import ConvcliError, system_words
from convcli.images.metadata import read_command
from convcli.kernels.named import NAMED

REPLAYED = ("filter", "pool", "run", *NAMED)


@command
def replay_command(
    context: typer.Context,
    made: Annotated[Path, typer.Argument(metavar="PNG", help="A PNG that convcli wrote.", show_default=False)],
    inputs: InputsArg,
    common: CommonOptions,
) -> int:
    """Do to other pictures what was done to one.

    A PNG holds the command that made it, unless that was told to `--strip`. Options given here come on top.

    Example: `convcli replay photo.edge.png other.jpg`
    """
    program: Any = context.find_root().command
    own = [word for name, words in common.typed.items() if name not in ("made", "inputs") for word in words]
    words = [*_read(made, context, program), *own, "--", *inputs]
    return int(program.main(words, prog_name="convcli", standalone_mode=False) or 0)


def _read(path: Path, context: typer.Context, program: Any) -> list[str]:
    """The words in a PNG: data from anywhere, so nothing but what is to be done to a picture is taken from it."""
    try:
        with path.open("rb") as file:
            text = read_command(file) if file.read(4) == b"\x89PNG" else None
    except OSError as error:
        raise ConvcliError(f"{path}: {system_words(error)}") from None
    if text is None:
        raise ConvcliError(f"{path}: holds no command; a PNG does that convcli wrote without --strip")
    try:
        name, *words = shlex.split(text)
        if name.partition(":")[0] not in REPLAYED:
            raise ValueError
        found = program.get_command(context, name)
        given, _, _ = found.make_parser(context).parse_args([*words, "-"])
    except (ValueError, typer.TyperException):
        raise ConvcliError(f"{path}: its command can't be replayed: {text[:200]}") from None
    refused = [one for one in given if one in OF_THE_RUN - {"inputs"} or (one == "kernel" and given[one] == "-")]
    if refused or len(given["inputs"]) != 1:
        raise ConvcliError(f"{path}: its command does more than filter a picture: {text[:200]}")
    return [name, *words]
