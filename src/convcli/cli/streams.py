"""Standard input and output as they are: closed, full, short of a write, or a terminal."""

import os
import sys
from typing import IO, Any, TextIO

from convcli.errors import ConvcliError


def prepare_streams() -> None:
    """Make text streams that can say any name, and give a process started without streams some that lead nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - for the life of the process
        elif name != "stdin":
            stream.reconfigure(errors="backslashreplace")


def stdout_is_closed() -> bool:
    """Whether the process was started without a standard output."""
    return getattr(sys.stdout, "name", None) == os.devnull


def write_stdout(data: bytes) -> None:
    """All of the bytes: an unbuffered stream may take a part of them at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()


def abandon_stdout() -> None:
    """Point standard output nowhere after it failed, or Python complains once more at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_stdin(name: str) -> None:
    """Refuse to wait for what nobody pipes in."""
    if sys.stdin.isatty():
        raise ConvcliError(f"{name}: nothing is piped in; standard input is a terminal")


def colored(stream: IO[str], no_color: bool) -> bool:
    """Whether to colour a stream: NO_COLOR and TERM=dumb say no, FORCE_COLOR yes, else only a terminal is."""
    if no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def can_print(stream: TextIO, text: str) -> bool:
    """Whether a stream's encoding has the characters of a text."""
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
