"""What a run says: data on stdout, everything for people on stderr."""

import os
import sys
from collections import Counter
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from convcli.cli.options import CommonOptions
from convcli.cli.progress import Progress
from convcli.cli.streams import can_print, colored, write_stdout
from convcli.errors import one_line, system_words
from convcli.files import write_file
from convcli.jobs import Result
from convcli.report import hint, plan_text, range_text, render, table
from convcli.values import format_bytes

if TYPE_CHECKING:
    from convcli.images.picture import Picture

FEW = 20  # inputs that are each reported on; of more there is a count of how far they are
STATUSES = "planned", "written", "skipped", "failed"


class Talk:
    """What a run says: data on stdout, everything for people on stderr. ``count`` None is without end."""

    def __init__(self, report: CommonOptions, count: int | None, *, data_on_stdout: bool) -> None:
        self.report = report
        self.count = count
        self.data_on_stdout = data_on_stdout
        self.color = colored(sys.stderr, report.no_color)
        self.last_table = ""
        self.remarks: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []
        self.kept: list[Result] = []
        self.pixels = self.bytes = 0
        self.each = count is None or count <= FEW or report.verbose
        self.progress = None
        if count and count > FEW and not report.quiet and not (report.json_lines and data_on_stdout):
            self.progress = Progress(count)

    def say(self, result: Result) -> None:
        """One result: its data or its path, its JSON, its report."""
        self.counts[result.status] += 1
        if result.planned:
            self.pixels += prod(result.planned.rows[0].input[1:]) * result.planned.frames
            self.bytes += result.size
        if result.status == "failed":
            self.failed.append(result.job.source.name)
        if self.report.report:
            self.kept.append(result._replace(data=None, picture=None))
        self._data(result)
        if not (self.report.json_lines and self.data_on_stdout):  # stderr is then for programs
            self._words(result)
        if self.progress:
            self.progress.advance(result.size)

    def _data(self, result: Result) -> None:
        for piece in result.data or ():
            write_stdout(piece)
        if self.report.json_lines:
            import json

            stream = sys.stderr if self.data_on_stdout else sys.stdout
            print(json.dumps(result.record()), file=stream, flush=True)
        elif result.status in ("written", "planned"):
            for path in result.outputs:
                write_stdout(os.fsencode(str(path)) + b"\n")

    def _words(self, result: Result) -> None:
        name = one_line(result.job.source.name) or "''"
        if result.error is not None:
            self._line(f"convcli: {name}: {one_line(result.error)}", "red")
        elif not self.report.quiet:
            self._people(name, result)
            if result.picture is not None and self.each:
                self._show(result.picture)

    def notice(self, text: str) -> None:
        """Something that is of no single input."""
        if not (self.report.quiet or (self.report.json_lines and self.data_on_stdout)):
            self._line(f"convcli: {text}", "yellow")

    def end(self, *, interrupted: bool = False) -> None:
        """The count of what became of several inputs."""
        if self.progress:
            self.progress.close()
        if self.report.quiet or (self.report.json_lines and self.data_on_stdout):
            return
        if self.count is not None and self.count < 2 and not interrupted:
            return
        words = [f"{self.counts[status]:,} {status}" for status in STATUSES if self.counts[status]]
        if self.pixels:
            words += [f"{self.pixels / 1e6:,.3g} megapixels", f"{format_bytes(self.bytes)} to read"]
        if self.count is not None and self.count > self.counts.total():
            words.append(f"{self.count - self.counts.total():,} left")
        self._line(", ".join(words) or "nothing came", "bold")

    def write_report(self, path: Path) -> bool:
        """The report file; whether it could be written."""
        results = self.kept
        outcomes = [one.outcome for one in results]
        rows = [seen.rows if (seen := one.outcome or one.planned) else () for one in results]
        ranges = [range_text(one.spread(), one.lost(), one.range) if one else "" for one in outcomes]
        text = render([one.record() for one in results], rows, ranges, path.suffix.lower())
        return self._write("--report", path, text.encode(errors="backslashreplace"))

    def write_failed(self, path: Path) -> bool:
        """The names of the inputs that failed, a line each, as ``--files-from`` reads them."""
        end = "\0" if self.report.null else "\n"
        return self._write("--failed", path, os.fsencode("".join(f"{name}{end}" for name in self.failed)))

    def _write(self, option: str, path: Path, data: bytes) -> bool:
        try:
            write_file(path, data, overwrite=True)
        except OSError as error:
            self._line(f"convcli: {option}: can't write {one_line(str(path))}: {system_words(error)}", "red")
            return False
        return True

    def _people(self, name: str, result: Result) -> None:
        for notice in result.notices:
            self._line(f"convcli: {name}: {notice}", "yellow")
        for remark in result.remarks:
            if remark not in self.remarks:  # it would hold for a thousand more
                self._line(f"convcli: {name}: {remark}", "yellow")
                self.remarks.add(remark)
        if not self.each:
            return
        if result.status == "skipped":
            self._line(f"{name}: skipped, {one_line(str(result.outputs[0]))} exists")
        if result.planned:
            self._line(f"{name}: {plan_text(result.planned.rows, result.size, result.planned.memory)}")
        if result.outcome is None:
            return
        where = one_line(str(result.record()["output"])) if result.outputs else "standard output"
        self._line(f"{name} -> {where}  ({result.seconds:.2f} s)", "bold")
        text = table(result.outcome.rows)
        if text != self.last_table:
            self._line(text)
            self.last_table = text
        found, lost, choice = result.outcome.spread(), result.outcome.lost(), result.outcome.range
        self._line(f"range {range_text(found, lost, choice)}")
        if advice := hint(lost, choice):
            self._line(advice)
        if self.report.verbose:
            for plan in result.outcome.plans:
                self._line(plan)

    def _show(self, picture: "Picture") -> None:
        from convcli.images.preview import HALF_BLOCK, preview

        blocks = self.color and can_print(sys.stderr, HALF_BLOCK)
        self._line(preview(picture, color=blocks))

    def _line(self, text: str, style: str = "") -> None:
        if self.color and style:
            text = typer.style(text, bold=True) if style == "bold" else typer.style(text, fg=style)
        if self.progress:
            self.progress.print(text)
        else:
            print(text, file=sys.stderr, flush=True)
