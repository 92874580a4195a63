"""``convcli replay PNG INPUT...``: what made one picture, done to others."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from convcli.cli.options import OF_THE_RUN, CommonOptions, InputsArg, command, parse_local, typed
from convcli.errors import ConvcliError, system_words
from convcli.images.metadata import read_command
from convcli.kernels.named import NAMED, find
from convcli.sources import exists

REPLAYED = ("filter", "pool", "run", *NAMED)
SHOWN = 200  # characters of a command in a message


@command
def replay_command(
    context: typer.Context,
    made: Annotated[
        Any, typer.Argument(metavar="PNG", help="A PNG that convcli wrote.", parser=parse_local, show_default=False)
    ],
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
    return int(program.main(words, prog_name="convcli", standalone_mode=False, obj=[made]) or 0)


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
        raise ConvcliError(f"{path}: its command can't be replayed: {text[:SHOWN]}") from None
    known = typed(found.params, given)
    unknown = set(given) - {str(one.name) for one in found.params}  # --help
    if unknown or known.pop("inputs", None) != ["-"] or set(known) & OF_THE_RUN:
        raise ConvcliError(f"{path}: its command does more than filter a picture: {text[:SHOWN]}")
    for key in ("kernel", "pipeline"):
        if word := _file_in(str(given.get(key) or "")):
            raise ConvcliError(f"{path}: its command reads {word!r}; give that command yourself: {text[:SHOWN]}")
    return [name, *(word for words in known.values() for word in words)]


def _file_in(text: str) -> str | None:
    """A word of a kernel or pipeline that is read from somewhere: standard input, or a file."""
    if text.strip() == "-":
        return "-"
    if not text.strip() or find(text.strip()):
        return None
    words = [text.strip(), *re.split(r"[\s|=\[\](){};,:'\"]+", text)]
    return next((word for word in words if ("." in word or "/" in word or word == text) and exists(Path(word))), None)
