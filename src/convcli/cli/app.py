"""The program: its commands, made only when called for, and the one place where errors become lines and statuses."""

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from convcli.cli.options import GIVEN
from convcli.cli.streams import abandon_stdout, prepare_streams
from convcli.errors import ConvcliError, one_line, suggest, system_words, unexpected
from convcli.kernels.named import NAMED
from convcli.words import ExitStatus

GENERAL = "Any kernel, and pooling"
COMMANDS = {  # name: module and function
    "filter": ("convcli.cli.filter", "filter_command"),
    "pool": ("convcli.cli.pool", "pool_command"),
    "run": ("convcli.cli.run", "run_command"),
    "shape": ("convcli.cli.shape", "shape_command"),
    "learn": ("convcli.cli.learn", "learn_command"),
    "gallery": ("convcli.cli.gallery", "gallery_command"),
    "compare": ("convcli.cli.compare", "compare_command"),
    "replay": ("convcli.cli.replay", "replay_command"),
    "kernels": ("convcli.cli.kernels", "kernels_command"),
}


PAIR = "--pair"


class Commands(TyperGroup):
    """The commands by name. ``gaussian:2`` is the command ``gaussian``, which reads its arguments from its name."""

    def list_commands(self, _ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """All of them, in the order of the help."""
        return [*COMMANDS, *NAMED]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Build a command when it is asked for: most runs need one of thirty."""
        name = cmd_name.partition(":")[0]
        if name in NAMED:
            return _build(name, NAMED[name].panel, _named(name))
        if cmd_name in COMMANDS:
            module, function = COMMANDS[cmd_name]
            return _build(cmd_name, GENERAL, partial(getattr, import_module(module), function))
        if ctx.resilient_parsing:  # completion
            return None
        if Path(cmd_name).suffix:
            raise ConvcliError(f"{cmd_name}: a command comes first, as in convcli edge {cmd_name}")
        raise ConvcliError(f"there is no command {cmd_name!r}{suggest(name, self.list_commands(ctx))}")


class Command(TyperCommand):
    """A command whose usage line has ``INPUT...`` as people write it, without Typer's braces."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``--pair A B`` as one word, since Typer has no option of two words that may come again."""
        words = list(args)
        for place in range(len(words) - 1, -1, -1):
            if words[place] == PAIR and any(PAIR in one.opts for one in self.params):
                if place + 2 >= len(words):
                    raise ConvcliError(f"{PAIR}: takes two pictures, before and after")
                words[place + 1 : place + 3] = ["\0".join(words[place + 1 : place + 3])]
        ctx.meta[GIVEN], _, _ = self.make_parser(ctx).parse_args(list(words))
        parsed: list[str] = super().parse_args(ctx, words)
        return parsed

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words behind the command's name."""
        pieces = super().collect_usage_pieces(ctx)
        return [piece.strip("{}[]") if piece.endswith("...]") else piece.strip("{}") for piece in pieces]


def _named(name: str) -> Callable[[], Callable[..., int]]:
    from convcli.cli.filter import named_command

    return partial(named_command, NAMED[name])


def _build(name: str, panel: str, function: Callable[[], Callable[..., int]]) -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    app.command(name, cls=Command, rich_help_panel=panel, context_settings=CONTEXT)(function())
    return typer.main.get_command(app)


CONTEXT = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(cls=Commands, context_settings=CONTEXT, rich_markup_mode="markdown", pretty_exceptions_enable=False)


def _print_version(asked: bool) -> None:
    if asked:
        from convcli import __version__

        print(f"convcli {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def program(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Convolution and pooling for images, in shell pipelines, and for matrices.

    Example: `convcli edge photo.jpg`. Arguments follow a colon: `convcli gaussian:2 photo.jpg`
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(args: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    from convcli.engine.threads import reserve_cores

    reserve_cores()
    prepare_streams()
    try:
        status = app(args, prog_name="convcli", standalone_mode=False)
        sys.stdout.flush()
        return int(status or 0)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        abandon_stdout()
        return ExitStatus.FAILED
    except Exception as error:
        if os.environ.get("CONVCLI_DEBUG"):
            raise
        message, status = _line_and_status(error)
        print(f"convcli: {one_line(message)}", file=sys.stderr)
        return status


def _line_and_status(error: Exception) -> tuple[str, int]:
    if isinstance(error, typer.TyperException):
        return _usage_line(error), error.exit_code
    if isinstance(error, ConvcliError):
        return str(error), ExitStatus.USAGE
    if isinstance(error, OSError):  # those of files are met where they happen
        abandon_stdout()
        return f"{error.filename or 'standard output'}: {system_words(error)}", ExitStatus.FAILED
    return unexpected(error), ExitStatus.FAILED


def _usage_line(error: typer.TyperException) -> str:
    """Typer's message with the option in front, as our own have it."""
    if isinstance(error, typer.BadParameter) and error.param is not None:
        name = max(error.param.opts, key=len)
        name = name if name.startswith("-") else (getattr(error.param, "metavar", None) or "INPUT").strip("[].")
        return f"{name}: {error.message or 'is missing'}"
    return error.format_message().strip()
