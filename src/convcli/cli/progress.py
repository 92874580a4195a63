"""How far a long run is: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from typing import Any

from convcli.values import format_bytes

PAUSE = 10.0  # seconds between two lines


class Progress:
    """Counts files and bytes on stderr; ``print`` puts a line above the bar."""

    def __init__(self, count: int) -> None:
        self._count, self._done, self._bytes = count, 0, 0
        self._start = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        if sys.stderr.isatty():
            self._bar, self._task = _bar(count)
            self._bar.start()

    def advance(self, size: int) -> None:
        """One more file, of so many bytes."""
        self._done, self._bytes = self._done + 1, self._bytes + size
        if self._bar:
            self._bar.update(self._task, advance=1, written=format_bytes(self._bytes), rate=f"{self._rate():.1f}/s")
        elif time.monotonic() - self._said > PAUSE:
            self._said = time.monotonic()
            left = (self._count - self._done) / max(self._rate(), 1e-9)
            words = f"{self._done:,} of {self._count:,} files, {format_bytes(self._bytes)}, {self._rate():.1f} files/s"
            print(f"{words}, {_minutes(left)} left", file=sys.stderr, flush=True)

    def print(self, text: str) -> None:
        """A line of text."""
        if self._bar:
            from rich.text import Text

            self._bar.console.print(Text.from_ansi(text), soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()

    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._start, 1e-9)


def _bar(count: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[written]}  {task.fields[rate]}")
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    return bar, bar.add_task("", total=count, written="", rate="")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
